//! A Redis or Valkey cluster: which server has a key.
//!
//! A task reads the map of slots every few seconds, at once when a server redirects a command, and once a
//! second while a server is down. A redirected command is not sent again: its caller treats it as one
//! that was not answered.

use std::sync::Arc;
use std::time::Duration;

use redis::{Client, RedisError, Value, from_redis_value};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::connection::Health;
use super::reconnect;
use super::server::Server;
use super::{DEADLINE, PREFIX, StoreError};
use crate::config::{ServerTemplate, Servers};

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;
/// How often the map of slots is read, and how often while a server is down.
const REFRESH: Duration = Duration::from_secs(5);
const REFRESH_DOWN: Duration = Duration::from_secs(1);
/// The least time between two reads.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Cluster {
    topology: Arc<watch::Sender<Arc<Topology>>>,
    refresh: Arc<Notify>,
    /// Reads the map of slots for as long as the cluster is used.
    _task: AbortOnDropHandle<()>,
}

/// Which server has which slots.
#[derive(Default)]
struct Topology {
    servers: Vec<Node>,
    /// Sorted by slot, without overlaps.
    ranges: Vec<SlotRange>,
}

#[derive(Clone)]
struct Node {
    host: String,
    port: u16,
    server: Arc<Server>,
}

/// Slots of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotRange {
    first: u16,
    last: u16,
    /// Empty for the server that was asked.
    host: String,
    port: u16,
}

struct TopologyTask {
    seed: Arc<ServerTemplate>,
    topology: Arc<watch::Sender<Arc<Topology>>>,
    refresh: Arc<Notify>,
    health: Arc<Health>,
}

impl Cluster {
    /// Starts to read the map of slots. Needs a Tokio runtime.
    pub(super) fn new(seed: Arc<ServerTemplate>, health: Arc<Health>) -> Self {
        let topology = Arc::new(watch::Sender::new(Arc::<Topology>::default()));
        let refresh = Arc::new(Notify::new());
        let task = TopologyTask {
            seed,
            topology: Arc::clone(&topology),
            refresh: Arc::clone(&refresh),
            health,
        };
        Self {
            topology,
            refresh,
            _task: AbortOnDropHandle::new(tokio::spawn(task.run())),
        }
    }

    /// Whether every server is up.
    pub(super) fn is_up(&self) -> bool {
        let topology = self.topology.borrow();
        !topology.servers.is_empty() && topology.servers.iter().all(|node| node.server.is_up())
    }

    /// Whether the server of a key is up.
    pub(super) fn is_up_for(&self, key: &[u8]) -> bool {
        let topology = self.topology.borrow();
        topology
            .server_for(key)
            .is_some_and(|server| server.is_up())
    }

    /// Waits until every server is up.
    pub(super) async fn wait_until_up(&self) {
        let mut topology = self.topology.subscribe();
        while !self.is_up() {
            let servers = topology.borrow_and_update().servers.clone();
            let all_up = async {
                for node in &servers {
                    node.server.wait_until_up().await;
                }
                if servers.is_empty() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = all_up => {}
                // `self` holds the sender, so this cannot fail.
                _ = topology.changed() => {}
            }
        }
    }

    /// The server that has this key. Waits while the first map is read.
    pub(super) async fn server_for(&self, key: &[u8]) -> Result<Arc<Server>, StoreError> {
        let mut topology = self.topology.subscribe();
        let read = topology.wait_for(|topology| !topology.servers.is_empty());
        match timeout(DEADLINE, read).await {
            Ok(Ok(topology)) => topology.server_for(key).ok_or(StoreError::Unavailable),
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable),
        }
    }

    /// The map is outdated.
    pub(super) fn refresh(&self) {
        self.refresh.notify_one();
    }
}

impl Topology {
    fn server_for(&self, key: &[u8]) -> Option<Arc<Server>> {
        let slot = slot(key);
        let after = self.ranges.partition_point(|range| range.first <= slot);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        let node = (slot <= range.last).then(|| self.node(&range.host, range.port))??;
        Some(Arc::clone(&node.server))
    }

    fn node(&self, host: &str, port: u16) -> Option<&Node> {
        let mut nodes = self.servers.iter();
        nodes.find(|node| node.host == host && node.port == port)
    }
}

impl TopologyTask {
    async fn run(self) {
        let mut failed = false;
        loop {
            match self.read().await {
                Ok(ranges) if !ranges.is_empty() => {
                    failed = false;
                    self.apply(ranges);
                }
                Ok(_) => {}
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(%error, "the map of the cluster's slots cannot be read; trying again once a second");
                    }
                }
            }
            let all_up = {
                let topology = self.topology.borrow();
                !topology.servers.is_empty()
                    && topology.servers.iter().all(|node| node.server.is_up())
            };
            sleep(REFRESH_PAUSE).await;
            tokio::select! {
                () = sleep(if all_up { REFRESH } else { REFRESH_DOWN }) => {}
                () = self.refresh.notified() => {}
                () = self.health.found_down.notified() => {}
            }
        }
    }

    /// Asks the servers that are up, and then the server of the config.
    async fn read(&self) -> Result<Vec<SlotRange>, RedisError> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let nodes = self.topology.borrow().servers.clone();
        for node in nodes.iter().filter(|node| node.server.is_up()) {
            let asked = node
                .server
                .run(async |mut connection| command.query_async::<Value>(&mut connection).await);
            if let Ok(slots) = asked.await {
                return Ok(parse_slots(slots, &node.host));
            }
        }
        let mut connection = reconnect::connect(self.seed.client()).await?;
        let asked = command.query_async::<Value>(&mut connection);
        let slots = timeout(DEADLINE, asked)
            .await
            .map_err(|_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))??;
        Ok(parse_slots(slots, &host_of(self.seed.client())))
    }

    /// Connects to new servers, and closes the connections to those that have no slots any more.
    fn apply(&self, mut ranges: Vec<SlotRange>) {
        ranges.sort_by_key(|range| range.first);
        let before = Arc::clone(&self.topology.borrow());
        let mut topology = Topology {
            servers: Vec::new(),
            ranges,
        };
        for range in &topology.ranges {
            if topology
                .servers
                .iter()
                .any(|node: &Node| node.host == range.host && node.port == range.port)
            {
                continue;
            }
            let node = match before.node(&range.host, range.port) {
                Some(node) => node.clone(),
                None => {
                    let Ok(client) = self.seed.at(range.host.clone(), range.port) else {
                        continue;
                    };
                    let server = Server::new(
                        Servers::from(client),
                        probe_key(range.first, range.last),
                        Arc::clone(&self.health),
                    );
                    Node {
                        host: range.host.clone(),
                        port: range.port,
                        server: Arc::new(server),
                    }
                }
            };
            topology.servers.push(node);
        }
        let same = before.ranges == topology.ranges;
        for node in &before.servers {
            if topology.node(&node.host, node.port).is_none() {
                node.server.retire();
            }
        }
        if !same {
            let servers = topology.servers.len();
            tracing::info!(servers, "the cluster's slots are known");
            self.topology.send_replace(Arc::new(topology));
        }
    }
}

fn host_of(client: &Client) -> String {
    match client.get_connection_info().addr() {
        redis::ConnectionAddr::Tcp(host, _) | redis::ConnectionAddr::TcpTls { host, .. } => {
            host.clone()
        }
        _ => String::new(),
    }
}

/// Parses the reply to `CLUSTER SLOTS` of the server at `asked`.
fn parse_slots(reply: Value, asked: &str) -> Vec<SlotRange> {
    let entries: Vec<Vec<Value>> = from_redis_value(reply).unwrap_or_default();
    let range = |entry: Vec<Value>| {
        let mut entry = entry.into_iter();
        let first = from_redis_value(entry.next()?).ok()?;
        let last = from_redis_value(entry.next()?).ok()?;
        // The master comes before its replicas.
        let master: Vec<Value> = from_redis_value(entry.next()?).ok()?;
        let mut master = master.into_iter();
        let host: Option<String> = from_redis_value(master.next()?).ok()?;
        let port = from_redis_value(master.next()?).ok()?;
        // A server that does not know its own name leaves it out.
        let host = host.filter(|host| !host.is_empty() && host != "?");
        let host = host.unwrap_or_else(|| asked.to_owned());
        Some(SlotRange {
            first,
            last,
            host,
            port,
        })
    };
    entries.into_iter().filter_map(range).collect()
}

/// A key in these slots.
fn probe_key(first: u16, last: u16) -> String {
    let keys = (0u32..).map(|number| format!("{PREFIX}{{{number}}}:probe"));
    // Every slot has such a key among the first few hundred thousand.
    let mut keys = keys.take(1_000_000);
    let found = keys.find(|key| (first..=last).contains(&slot(key.as_bytes())));
    found.unwrap_or_else(|| format!("{PREFIX}probe"))
}

/// The slot of a key: of what stands in its first braces, or of all of it.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|&byte| byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification demands.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc: u16, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        // Empty braces are no tag, and only the first braces count.
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
    }

    #[test]
    fn a_probe_key_is_in_its_slots() {
        for (first, last) in [(0, 5460), (5461, 10922), (16_383, 16_383), (77, 77)] {
            let key = probe_key(first, last);
            assert!(
                (first..=last).contains(&slot(key.as_bytes())),
                "{first}: {key}"
            );
        }
    }

    #[test]
    fn a_server_that_does_not_know_its_name_is_the_one_that_was_asked() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |host: Value| Value::Array(vec![host, Value::Int(7000), text("id")]);
        let range =
            |first, last, host| Value::Array(vec![Value::Int(first), Value::Int(last), node(host)]);
        let reply = Value::Array(vec![
            range(0, 1, text("")),
            range(2, 3, Value::Nil),
            range(4, 5, text("b")),
        ]);
        let found = parse_slots(reply, "a");
        let hosts: Vec<_> = found.iter().map(|range| range.host.as_str()).collect();
        assert_eq!(hosts, ["a", "a", "b"]);
        assert_eq!((found[2].first, found[2].last, found[2].port), (4, 5, 7000));
    }
}
