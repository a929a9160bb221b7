# syntax=docker/dockerfile:1

# A release pins the base by digest: --build-arg RUST_IMAGE=rust:1.95-slim-bookworm@sha256:… . The image that runs has no
# base. `make image` builds the same image without an engine.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
FROM ${RUST_IMAGE} AS build
# Not pinned: Debian removes a package's old versions, and then this would fail. None of it ends up in the image but the
# certificates, which should be new.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils ca-certificates musl-tools python3 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# The dependencies, in a layer that changes only with them: the program is empty here.
COPY Cargo.toml Cargo.lock build.rs ./
COPY packaging/build.sh packaging/
RUN mkdir -p src benches tests/integration \
    && touch src/lib.rs benches/pieces.rs benches/instructions.rs tests/integration/main.rs \
    && echo 'fn main() {}' >src/main.rs \
    && packaging/build.sh /empty
COPY . .
ARG SLUICEGATE_REVISION=unknown
RUN touch src/lib.rs src/main.rs && packaging/stage.sh /out

FROM scratch
ARG SLUICEGATE_REVISION=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Sluicegate" \
    org.opencontainers.image.description="The streaming front door for AI apps" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${SLUICEGATE_REVISION}"
COPY --from=build /out/rootfs/ /
# Nothing is written, so a read-only root file system will do.
USER 65532:65532
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/sluicegate", "healthcheck"]
# The configuration is mounted: docker run -v ./sluicegate.yaml:/etc/sluicegate/sluicegate.yaml:ro …
ENV SLUICEGATE_CONFIG=/etc/sluicegate/sluicegate.yaml
ENTRYPOINT ["/usr/local/bin/sluicegate"]
CMD ["serve"]
