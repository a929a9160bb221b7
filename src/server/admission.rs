//! Admission of requests: address, key and limits are checked in this order, before any of the
//! request's body is read.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::refusal::{REQUEST_ID, Refusal};
use super::service::Peer;
use crate::access::Caller;
use crate::app::{App, Gateway};
use crate::limit::{Admission, LimitRefusal, Permit, RateLimits};
use crate::model::{Error, ErrorCode, RequestId};
use crate::telemetry::Observation;

/// A request that was admitted.
pub(super) struct Admitted {
    pub(super) app: Arc<App>,
    pub(super) caller: Arc<Caller>,
    pub(super) permit: Permit,
    /// A drain waits until this token is dropped.
    pub(super) open: TaskTrackerToken,
}

/// A request that reads an existing stream: only the limit of its address counts it.
pub(super) struct ReadAccess {
    pub(super) app: Arc<App>,
    pub(super) address: IpAddr,
    pub(super) limits: RateLimits,
    pub(super) started: Instant,
}

impl ReadAccess {
    pub(super) fn refusal(&self, error: Error) -> Refusal {
        Refusal::new(error, self.limits)
    }
}

/// The client's `x-request-id` if it is valid, else a new id.
pub(super) fn request_id(headers: &HeaderMap) -> RequestId {
    headers
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .and_then(RequestId::from_client)
        .unwrap_or_else(RequestId::random)
}

/// Begins the observation of a request to a model.
pub(super) fn observe(
    gateway: &Gateway,
    dialect: &'static str,
    headers: &HeaderMap,
) -> Observation {
    let tracing = gateway.tracing.get();
    Observation::new(request_id(headers), dialect, headers, tracing)
}

/// How many of the keys that a request presents are checked: each costs a hash.
const MAX_KEYS: usize = 4;

/// Admits a request, or says why it is refused.
pub(super) async fn admit(
    gateway: &Gateway,
    peer: &Peer,
    headers: &HeaderMap,
    admission: Admission,
) -> Result<Admitted, Refusal> {
    let app = gateway.app();
    // Taken before the check, so that a drain that begins in between waits for this request.
    let open = gateway.in_flight.token();
    if gateway.draining.is_cancelled() {
        return Err(Refusal::new(Error::draining(), RateLimits::default()));
    }
    let address = client_address(&app, peer, headers);
    let Some(caller) = authenticate(&app, headers) else {
        let limits = app
            .limiter
            .admit_address(address)
            .await
            .map_err(limit_refusal)?;
        return Err(Refusal::new(unauthenticated_error(headers), limits));
    };
    let account = app.account(&caller);
    let permit = app.limiter.admit(address, account.as_ref(), admission);
    let permit = permit.await.map_err(|refused| Refusal {
        caller: Some(Arc::clone(&caller)),
        ..limit_refusal(refused)
    })?;
    peer.mark_admitted();
    Ok(Admitted {
        app,
        caller,
        permit,
        open,
    })
}

/// Admits a request that only reads an existing stream. It needs no key: the stream's id is the
/// capability to read it.
pub(super) async fn admit_reader(
    gateway: &Gateway,
    peer: &Peer,
    headers: &HeaderMap,
) -> Result<ReadAccess, Refusal> {
    let (app, started) = (gateway.app(), Instant::now());
    let address = client_address(&app, peer, headers);
    let limits = app
        .limiter
        .admit_address(address)
        .await
        .map_err(limit_refusal)?;
    Ok(ReadAccess {
        app,
        address,
        limits,
        started,
    })
}

/// As [`admit_reader`] for requests that need a key; also returns the key's holder.
pub(super) async fn admit_key_holder(
    gateway: &Gateway,
    peer: &Peer,
    headers: &HeaderMap,
) -> Result<(ReadAccess, Arc<Caller>), Refusal> {
    let access = admit_reader(gateway, peer, headers).await?;
    match authenticate(&access.app, headers) {
        Some(caller) => Ok((access, caller)),
        None => Err(access.refusal(unauthenticated_error(headers))),
    }
}

fn limit_refusal(refused: LimitRefusal) -> Refusal {
    Refusal::new(refused.error, refused.limits)
}

/// Whose request it is. Of several keys one that is known is enough: SDKs send a placeholder in the
/// header that they expect, beside the header that their user sets.
fn authenticate(app: &App, headers: &HeaderMap) -> Option<Arc<Caller>> {
    let known = presented_keys(headers).find_map(|key| app.keys.authenticate(Some(key)));
    known.or_else(|| app.keys.authenticate(None)).cloned()
}

/// The keys in `authorization: Bearer …`, `x-api-key` and `api-key`.
fn presented_keys(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let named = ["x-api-key", "api-key"].into_iter();
    let named = named.flat_map(|name| headers.get_all(name));
    bearer
        .chain(named.filter_map(|value| value.to_str().ok()))
        .take(MAX_KEYS)
}

fn unauthenticated_error(headers: &HeaderMap) -> Error {
    let message = if presented_keys(headers).next().is_some() {
        "this API key is unknown: check it, or ask the gateway's operator for one"
    } else {
        "an API key is required: send `authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`"
    };
    Error::new(ErrorCode::Unauthenticated, message)
}

/// The address that the limits count: the peer's, or, behind trusted proxies, the last address of
/// `x-forwarded-for` that is not a trusted proxy's.
fn client_address(app: &App, peer: &Peer, headers: &HeaderMap) -> IpAddr {
    let trusted = |address: IpAddr| {
        let mut proxies = app.config.trusted_proxies.iter();
        proxies.any(|proxy| proxy.contains(&address.to_canonical()))
    };
    let mut client = peer.address.ip();
    let hops = headers.get_all("x-forwarded-for").iter().rev();
    let hops = hops.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    for hop in hops {
        if !trusted(client) {
            break;
        }
        let Some(address) = parse_hop(hop.trim()) else {
            break;
        };
        client = address;
    }
    client
}

/// An address, or an address with a port, as some load balancers write it.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse().map(|addr: SocketAddr| addr.ip());
    hop.parse().or_else(|_| with_port()).ok()
}
