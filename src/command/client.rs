//! The HTTP client of the commands that ask a running gateway.

use std::time::Duration;

/// A client without redirects, which would carry prompt and key elsewhere, and without the
/// environment's proxies.
///
/// # Errors
/// Where the system's certificates cannot be read.
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
