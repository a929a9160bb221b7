//! Which callers a listener without keys serves.
//!
//! Everybody who can connect to such a listener may use it. A web page of another site must not:
//! the browser of a user who can connect would do what the page says. There are two ways for a page
//! to try, and each header stops one:
//!
//! - The page calls the listener's address. The browser then names the page's site in `origin`, or
//!   says `sec-fetch-site: cross-site`.
//! - The page's own name is pointed at the listener's address (DNS rebinding). The browser then takes
//!   the listener for the page's site, but sends the page's name in `host`.
//!
//! Programs that are no browsers may leave all three headers out.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Request};

use crate::config::Config;
use crate::model::{Error, ErrorCode};

/// Whether everybody who can connect to the client listener may use it, so that it must be protected
/// from web pages. With `open: true` it is public on purpose, under names that are not known here.
pub(super) fn is_unprotected(config: &Config) -> bool {
    config.keys.is_none() && !config.open
}

/// Checks who calls a listener without keys.
///
/// # Errors
/// [`ErrorCode::Forbidden`].
pub(super) fn check<B>(request: &Request<B>, config: &Config) -> Result<(), Error> {
    let headers = request.headers();
    let authority = request.uri().authority();
    let host = match authority {
        // HTTP/2, and HTTP/1.1 requests in absolute form.
        Some(authority) => Some(authority.as_str()),
        None => text(headers, HOST.as_str()),
    };
    if let Some(host) = host
        && !is_known_host(host, &config.hosts)
    {
        return Err(forbidden(
            "a gateway without keys answers only to IP addresses, `localhost` and the names in \
             `hosts`: call it by one of them, or add this name to `hosts` in the config",
        ));
    }
    let cross_site = match text(headers, ORIGIN.as_str()) {
        Some(origin) => {
            !host.is_some_and(|host| is_same_origin(origin, host)) && !config.origins.allow(origin)
        }
        None => text(headers, "sec-fetch-site") == Some("cross-site"),
    };
    if cross_site {
        return Err(forbidden(
            "a gateway without keys does not answer to web pages of other sites: add the page's \
             origin to `cors.origins` in the config",
        ));
    }
    Ok(())
}

fn forbidden(message: &str) -> Error {
    Error::new(ErrorCode::Forbidden, message)
}

/// The header's value. One that is not text matches nothing, so it counts as a text of its own.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?;
    Some(value.to_str().unwrap_or("?"))
}

/// Whether `host`, with or without a port, is an IP address, `localhost` or one of `hosts`.
fn is_known_host(host: &str, hosts: &[String]) -> bool {
    let name = without_port(host);
    let bracketed = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    name.parse::<IpAddr>().is_ok()
        || bracketed.is_some_and(|name| name.parse::<Ipv6Addr>().is_ok())
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of an IPv6 address stand inside its brackets.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether `origin` is the origin that `host` belongs to. A proxy may have taken TLS off, so the
/// scheme says only which port may be left out.
fn is_same_origin(origin: &str, host: &str) -> bool {
    let Some((scheme, origin)) = origin.split_once("://") else {
        return false;
    };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let strip = |authority: &'_ str| {
        let authority = authority.to_ascii_lowercase();
        authority
            .strip_suffix(default_port)
            .map(str::to_owned)
            .unwrap_or(authority)
    };
    strip(origin) == strip(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn refused(config: &str, headers: &[(&str, &str)]) -> bool {
        let loaded = Config::parse(config, "test", &|_| None, &Overrides::default()).unwrap();
        let mut request = Request::builder().uri("/v1/streams");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let result = check(&request.body(()).unwrap(), &loaded.config);
        assert!(
            result
                .as_ref()
                .err()
                .is_none_or(|error| error.code() == ErrorCode::Forbidden)
        );
        result.is_err()
    }

    #[test]
    fn only_known_hosts_are_served() {
        let config = "hosts: [gateway.internal]";
        for host in [
            "127.0.0.1:8080",
            "10.1.2.3",
            "[::1]:8080",
            "[::1]",
            "localhost",
            "LOCALHOST:8080",
            "gateway.internal",
            "Gateway.Internal:80",
        ] {
            assert!(!refused(config, &[("host", host)]), "{host}");
        }
        for host in [
            "attacker.example",
            "attacker.example:8080",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "notlocalhost",
            "[::1",
            "gateway.internal.",
            "",
        ] {
            assert!(refused(config, &[("host", host)]), "{host}");
        }
        assert!(!refused(config, &[]), "a program without `host`");
    }

    #[test]
    fn the_authority_of_http2_counts_as_the_host() {
        let loaded = Config::parse("{}", "test", &|_| None, &Overrides::default()).unwrap();
        for (uri, served) in [
            ("http://127.0.0.1:8080/", true),
            ("http://attacker.example/", false),
        ] {
            let request = Request::builder().uri(uri).body(()).unwrap();
            assert_eq!(check(&request, &loaded.config).is_ok(), served, "{uri}");
        }
    }

    #[test]
    fn only_pages_of_the_same_or_an_allowed_origin_are_served() {
        let config = "cors: { origins: ['https://app.example.com'] }";
        for (host, origin) in [
            ("localhost:8080", "http://localhost:8080"),
            ("localhost", "http://localhost"),
            ("localhost:80", "http://localhost"),
            ("localhost", "https://localhost:443"),
            ("127.0.0.1:8080", "https://127.0.0.1:8080"),
            ("localhost:8080", "https://app.example.com"),
        ] {
            assert!(
                !refused(config, &[("host", host), ("origin", origin)]),
                "{origin}"
            );
        }
        for origin in [
            "http://localhost:3000",
            "http://localhost",
            "https://attacker.example",
            "https://app.example.com.attacker.example",
            "null",
            "file://localhost:8080",
            "",
        ] {
            let headers = [("host", "localhost:8080"), ("origin", origin)];
            assert!(refused(config, &headers), "{origin}");
        }
    }

    #[test]
    fn a_cross_site_request_without_an_origin_is_refused() {
        let host = ("host", "localhost:8080");
        assert!(refused("{}", &[host, ("sec-fetch-site", "cross-site")]));
        for site in ["none", "same-origin", "same-site"] {
            assert!(!refused("{}", &[host, ("sec-fetch-site", site)]), "{site}");
        }
    }

    #[test]
    fn loopback_pages_can_be_allowed_together() {
        let config = "cors: { origins: [loopback] }";
        for (origin, served) in [
            ("http://localhost:3000", true),
            ("http://127.0.0.1:5173", true),
            ("https://[::1]:8443", true),
            ("http://localhost.attacker.example", false),
            ("http://10.0.0.1", false),
        ] {
            let headers = [("host", "localhost:8080"), ("origin", origin)];
            assert_eq!(!refused(config, &headers), served, "{origin}");
        }
    }
}
