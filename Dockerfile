# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
# The upstreams' TLS certificates are checked against the system's CA certificates.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/LICENSE /usr/share/doc/sluicegate/LICENSE
COPY --from=build /build/target/release/sluicegate /usr/local/bin/sluicegate
# Nothing is written, so a read-only root file system will do.
USER 65532:65532
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["sluicegate", "healthcheck"]
# The configuration is mounted: docker run -v ./sluicegate.yaml:/etc/sluicegate/sluicegate.yaml:ro …
ENV SLUICEGATE_CONFIG=/etc/sluicegate/sluicegate.yaml
ENTRYPOINT ["sluicegate"]
CMD ["serve"]
