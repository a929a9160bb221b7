//! Who is it, and may they pass? Address, key and limits, in this order, before anything of the
//! request's body is read.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::refusal::{REQUEST_ID, Refusal};
use crate::access::Caller;
use crate::app::{App, Gateway};
use crate::limit::{Opens, Permit, RateLimits, Refused};
use crate::model::{Error, ErrorCode, RequestId};

/// A request that may pass.
pub(super) struct Entry {
    pub(super) app: Arc<App>,
    pub(super) caller: Arc<Caller>,
    pub(super) permit: Permit,
    /// Keeps the gateway from ending before the request is answered.
    pub(super) open: TaskTrackerToken,
}

/// A request that asks for nothing new, so that only its address's limit counts it.
pub(super) struct Visit {
    pub(super) app: Arc<App>,
    pub(super) limits: RateLimits,
    pub(super) begun: Instant,
}

impl Visit {
    pub(super) fn refused(&self, error: Error) -> Refusal {
        Refusal::new(error, self.limits)
    }
}

/// The id that the client gave its request, or a new one.
pub(super) fn request_id(headers: &HeaderMap) -> RequestId {
    headers
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .and_then(RequestId::from_client)
        .unwrap_or_else(RequestId::random)
}

/// Lets a request pass, or says why not.
pub(super) async fn enter(
    gateway: &Gateway,
    peer: SocketAddr,
    headers: &HeaderMap,
    opens: Opens,
) -> Result<Entry, Refusal> {
    let app = gateway.app();
    // Before the question, so that a drain that begins now waits for this request.
    let open = gateway.streams.token();
    if gateway.draining.is_cancelled() {
        return Err(Refusal::new(Error::draining(), RateLimits::default()));
    }
    let address = client_address(&app, peer, headers);
    let Some(caller) = app.keys.caller(presented(headers)).cloned() else {
        let limits = app.limiter.visit(address).await.map_err(over_limit)?;
        return Err(Refusal::new(unauthenticated(headers), limits));
    };
    let account = app.account(&caller);
    let permit = app.limiter.admit(address, account.as_ref(), opens);
    let permit = permit.await.map_err(over_limit)?;
    Ok(Entry {
        app,
        caller,
        permit,
        open,
    })
}

/// Lets a request pass that only reads what is there: whoever knows a stream's id may read it.
pub(super) async fn visit(
    gateway: &Gateway,
    peer: SocketAddr,
    headers: &HeaderMap,
) -> Result<Visit, Refusal> {
    let (app, begun) = (gateway.app(), Instant::now());
    let address = client_address(&app, peer, headers);
    let limits = app.limiter.visit(address).await.map_err(over_limit)?;
    Ok(Visit { app, limits, begun })
}

/// As [`visit`], for what needs a key, and says whose it is.
pub(super) async fn known_visit(
    gateway: &Gateway,
    peer: SocketAddr,
    headers: &HeaderMap,
) -> Result<(Visit, Arc<Caller>), Refusal> {
    let visit = visit(gateway, peer, headers).await?;
    match visit.app.keys.caller(presented(headers)).cloned() {
        Some(caller) => Ok((visit, caller)),
        None => Err(visit.refused(unauthenticated(headers))),
    }
}

fn over_limit(refused: Refused) -> Refusal {
    Refusal::new(refused.error, refused.limits)
}

/// The key in `authorization: Bearer …` or `x-api-key`.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok())
}

fn unauthenticated(headers: &HeaderMap) -> Error {
    let message = if presented(headers).is_some() {
        "the key is not known here"
    } else {
        "a key is needed: `authorization: Bearer …` or `x-api-key: …`"
    };
    Error::new(ErrorCode::Unauthenticated, message)
}

/// The address that the limits count: the peer's, or, behind proxies that the configuration
/// trusts, the last address that none of them has.
fn client_address(app: &App, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
    let trusted = |address: IpAddr| {
        let mut proxies = app.config.trusted_proxies.iter();
        proxies.any(|proxy| proxy.contains(&address.to_canonical()))
    };
    let mut client = peer.ip();
    let hops = headers.get_all("x-forwarded-for").iter().rev();
    let hops = hops.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    for hop in hops {
        if !trusted(client) {
            break;
        }
        let Some(address) = hop_address(hop.trim()) else {
            break;
        };
        client = address;
    }
    client
}

/// An address, or, as some load balancers write it, an address and a port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse().map(|addr: SocketAddr| addr.ip());
    hop.parse().or_else(|_| with_port()).ok()
}
