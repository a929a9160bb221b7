//! The HTTP client of the commands that call a running gateway.

use std::time::Duration;

/// A client that follows no redirects, which would send prompt and key elsewhere, and that ignores
/// the proxies of the environment.
///
/// # Errors
/// If the system's certificates cannot be read.
pub(super) fn http_client(connect: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .retry(reqwest::retry::never())
        .connect_timeout(connect)
        .user_agent(concat!("sluicegate/", env!("CARGO_PKG_VERSION")))
        .build()
}
