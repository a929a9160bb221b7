//! The open connections of a listener: how many there are, and which one ends for a new one.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

use crate::app::Gateway;

/// The files of the process that are no connection of a client's or to an upstream: the admin
/// listener's connections, the store's, the log.
const RESERVED_FILES: u64 = 64;
/// How many connections the admin listener serves. They are part of the reserved files.
const ADMIN_CONNECTIONS: usize = 32;

/// How many connections may be open, as the current configuration says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) total: usize,
    /// Connections of one address; of one /64 network over IPv6.
    pub(super) per_ip: Option<usize>,
}

/// Counts the connections of one listener.
pub struct Connections {
    limit: Box<dyn Fn(IpAddr) -> Limit + Send + Sync>,
    /// Tells how many there are.
    report: Box<dyn Fn(usize) + Send + Sync>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    count: usize,
    of_address: HashMap<IpAddr, usize>,
    /// Connections that have not sent a whole head, oldest first.
    unused: BTreeMap<u64, Arc<Notify>>,
    /// The number of the next connection.
    next: u64,
}

/// The place of one open connection.
pub(super) struct Slot {
    connections: Arc<Connections>,
    address: IpAddr,
    number: u64,
    /// Notified when the connection must end; `None` once it sent a request.
    eviction: Option<Arc<Notify>>,
}

impl Connections {
    /// Those of the client listener: `limits.connections`, but never more than the process may open
    /// together with one connection to an upstream for each.
    pub(super) fn of_clients(gateway: &Arc<Gateway>) -> Arc<Self> {
        let (limits, metrics) = (Arc::clone(gateway), Arc::clone(&gateway.metrics));
        let most = most_connections(open_file_limit());
        let wanted = gateway.app().config.limits.connections.total;
        if wanted > most {
            tracing::warn!(
                wanted,
                allowed = most,
                "limits.connections.total is lowered to what the limit on open files allows; \
                 raise that limit (ulimit -n) or lower the setting"
            );
        }
        Arc::new(Self {
            limit: Box::new(move |address| {
                let app = limits.app();
                let connections = app.config.limits.connections;
                let mut proxies = app.config.trusted_proxies.iter();
                let is_proxy = proxies.any(|proxy| proxy.contains(&address));
                Limit {
                    total: connections.total.min(most),
                    // A proxy's connections are those of many clients.
                    per_ip: connections.per_ip.filter(|_| !is_proxy),
                }
            }),
            report: Box::new(move |count| metrics.set_connections(count)),
            open: Mutex::default(),
        })
    }

    /// Those of the admin listener, which no client can use up.
    pub(super) fn of_admin() -> Arc<Self> {
        Self::fixed(Limit {
            total: ADMIN_CONNECTIONS,
            per_ip: None,
        })
    }

    fn fixed(limit: Limit) -> Arc<Self> {
        Arc::new(Self {
            limit: Box::new(move |_| limit),
            report: Box::new(|_| {}),
            open: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `address`. Where all are taken, the oldest connection that has not
    /// sent a request yet ends for it. `None` where there is none.
    pub(super) fn open(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let address = network(address.to_canonical());
        let limit = (self.limit)(address);
        let mut open = self.lock();
        let own = open.of_address.get(&address).copied().unwrap_or_default();
        if limit.per_ip.is_some_and(|most| own >= most) {
            return None;
        }
        if open.count >= limit.total {
            let (_, eviction) = open.unused.pop_first()?;
            eviction.notify_one();
        }
        let (number, eviction) = (open.next, Arc::<Notify>::default());
        open.next += 1;
        open.count += 1;
        open.unused.insert(number, Arc::clone(&eviction));
        *open.of_address.entry(address).or_default() += 1;
        (self.report)(open.count);
        Some(Slot {
            connections: Arc::clone(self),
            address,
            number,
            eviction: Some(eviction),
        })
    }
}

impl Slot {
    /// The connection has sent a request, and does not end for others any more.
    pub(super) fn mark_used(&mut self) {
        if self.eviction.take().is_some() {
            self.connections.lock().unused.remove(&self.number);
        }
    }

    /// Waits until the connection must end for another one.
    pub(super) async fn evicted(&self) {
        match &self.eviction {
            Some(eviction) => eviction.notified().await,
            None => pending().await,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.unused.remove(&self.number);
        open.count -= 1;
        if let Some(own) = open.of_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                open.of_address.remove(&self.address);
            }
        }
        (self.connections.report)(open.count);
    }
}

/// The address as it is counted: one client often has a whole /64 network over IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// How many files the process may open: its soft limit, raised to the hard one.
fn open_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// How many clients' connections `files` allow, with one to an upstream for each.
fn most_connections(files: Option<u64>) -> usize {
    let most = files.map(|files| files.saturating_sub(RESERVED_FILES) / 2);
    most.and_then(|most| usize::try_from(most).ok())
        .map_or(usize::MAX, |most| most.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn connections(total: usize, per_ip: Option<usize>) -> Arc<Connections> {
        Connections::fixed(Limit { total, per_ip })
    }

    fn is_evicted(slot: &Slot) -> bool {
        let mut evicted = std::pin::pin!(slot.evicted());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        evicted.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn a_closed_connection_gives_its_place_back() {
        let connections = connections(1, Some(1));
        for _ in 0..3 {
            let mut slot = connections.open(ONE).unwrap();
            slot.mark_used();
            assert!(connections.open(ONE).is_none());
            assert!(connections.open(TWO).is_none());
        }
        let open = connections.lock();
        assert_eq!(
            (open.count, open.of_address.len(), open.unused.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn the_oldest_connection_without_a_request_ends_for_a_new_one() {
        let connections = connections(3, None);
        let mut used = connections.open(ONE).unwrap();
        used.mark_used();
        let oldest = connections.open(ONE).unwrap();
        let second = connections.open(ONE).unwrap();
        let mut new = connections.open(TWO).unwrap();
        new.mark_used();
        assert!(is_evicted(&oldest));
        assert!(!is_evicted(&second));
        assert!(!is_evicted(&used));
        let mut last = connections.open(TWO).unwrap();
        last.mark_used();
        assert!(is_evicted(&second));
        assert!(connections.open(TWO).is_none());
    }

    #[test]
    fn connections_of_one_address_are_bounded() {
        let connections = connections(100, Some(2));
        let _slots = [
            connections.open(ONE).unwrap(),
            connections.open(ONE).unwrap(),
        ];
        assert!(connections.open(ONE).is_none());
        assert!(connections.open(TWO).is_some());
        // One client often has a whole network.
        let v6 = |last: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last));
        let _more = [
            connections.open(v6(1)).unwrap(),
            connections.open(v6(2)).unwrap(),
        ];
        assert!(connections.open(v6(3)).is_none());
        // The same address over a dual-stack socket.
        assert!(
            connections
                .open("::ffff:192.0.2.1".parse().unwrap())
                .is_none()
        );
    }

    #[test]
    fn files_are_left_for_upstreams_and_the_admin_listener() {
        assert_eq!(most_connections(Some(256)), 96);
        assert_eq!(most_connections(Some(10)), 1);
        assert_eq!(most_connections(None), usize::MAX);
        assert!(ADMIN_CONNECTIONS as u64 <= RESERVED_FILES / 2);
    }
}
