//! A link that fails as links do: it is cut, stalls, is slow, and delivers in pieces.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::fixture_server::ANY_PORT;
use crate::seed::{Random, Seed};

/// Forwards TCP connections, until it is dropped.
pub struct Proxy {
    pub addr: SocketAddr,
    inner: Arc<Inner>,
    _accepting: AbortOnDropHandle<()>,
}

/// The random faults of connections.
#[derive(Clone, Default)]
pub struct Faults {
    /// How many of a hundred connections are cut.
    pub cut: u64,
    /// The number of bytes towards the client before the cut.
    pub after: Range<u64>,
    /// How many of a hundred connections stall once.
    pub stall: u64,
    /// How many of a hundred deliver late and in small pieces.
    pub slow: u64,
}

struct Inner {
    target: Mutex<SocketAddr>,
    faults: Faults,
    seed: Seed,
    accepted: AtomicU64,
    cuts: AtomicU64,
    /// How often all connections were cut.
    cut_all: watch::Sender<u64>,
    /// Whether nothing is forwarded.
    held: watch::Sender<bool>,
}

/// The faults of one connection.
struct Fate {
    cut: Option<u64>,
    /// Whether the cut is a reset.
    reset: bool,
    stall: Option<(u64, Duration)>,
    piece: usize,
    delay: Duration,
}

impl Proxy {
    pub async fn start(target: SocketAddr, faults: Faults, seed: Seed) -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let inner = Arc::new(Inner {
            target: Mutex::new(target),
            faults,
            seed,
            accepted: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            cut_all: watch::Sender::new(0),
            held: watch::Sender::new(false),
        });
        let addr = listener.local_addr().unwrap();
        let accepting = tokio::spawn(Arc::clone(&inner).accept(listener));
        Self {
            addr,
            inner,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// Connects to another address from now on.
    pub fn aim(&self, target: SocketAddr) {
        *self.inner.target.lock().unwrap() = target;
    }

    /// Cuts every connection.
    pub fn cut_all(&self) {
        self.inner.cut_all.send_modify(|times| *times += 1);
    }

    /// Stops or resumes forwarding; bytes that come meanwhile are late and not lost.
    pub fn hold(&self, held: bool) {
        self.inner.held.send_replace(held);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.inner.cuts.load(Ordering::Relaxed)
    }
}

impl Inner {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut links = tokio::task::JoinSet::new();
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let number = self.accepted.fetch_add(1, Ordering::Relaxed);
            let fate = Fate::draw(&self.faults, &mut self.seed.random(number));
            links.spawn(Arc::clone(&self).link(client, fate));
            while links.try_join_next().is_some() {}
        }
    }

    async fn link(self: Arc<Self>, mut client: TcpStream, fate: Fate) {
        let mut cut_all = self.cut_all.subscribe();
        let target = *self.target.lock().unwrap();
        let Ok(mut server) = TcpStream::connect(target).await else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let cut = {
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            tokio::select! {
                _ = self.pass(&mut from_client, &mut to_server, &Fate::NONE) => false,
                cut = self.pass(&mut from_server, &mut to_client, &fate) => cut,
                _ = cut_all.changed() => true,
            }
        };
        if cut {
            self.cuts.fetch_add(1, Ordering::Relaxed);
            if fate.reset {
                let _ = (client.set_zero_linger(), server.set_zero_linger());
            }
        }
    }

    /// Forwards bytes until an end; returns whether this was a cut.
    async fn pass(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        fate: &Fate,
    ) -> bool {
        let mut buffer = [0; 8192];
        let (mut passed, mut stall) = (0, fate.stall);
        let mut held = self.held.subscribe();
        loop {
            let mut rest = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return false,
                Ok(read) => &buffer[..read],
            };
            while !rest.is_empty() {
                let left = fate.cut.map_or(u64::MAX, |cut| cut - passed);
                let piece = rest.len().min(fate.piece).min(left as usize);
                let _ = held.wait_for(|held| !held).await;
                if !fate.delay.is_zero() {
                    sleep(fate.delay).await;
                }
                if let Some((_, pause)) = stall.take_if(|(at, _)| *at <= passed) {
                    sleep(pause).await;
                }
                if to.write_all(&rest[..piece]).await.is_err() {
                    return false;
                }
                passed += piece as u64;
                rest = &rest[piece..];
                if fate.cut == Some(passed) {
                    return true;
                }
            }
        }
    }
}

impl Fate {
    const NONE: Self = Self {
        cut: None,
        reset: false,
        stall: None,
        piece: usize::MAX,
        delay: Duration::ZERO,
    };

    fn draw(faults: &Faults, random: &mut Random) -> Self {
        let mut fate = Self::NONE;
        if random.percent(faults.cut) {
            fate.cut = Some(random.within(faults.after.clone()));
            fate.reset = random.percent(50);
        }
        if random.percent(faults.stall) {
            let pause = Duration::from_millis(random.within(20..400));
            fate.stall = Some((random.within(0..4000), pause));
        }
        if random.percent(faults.slow) {
            fate.piece = random.within(1..200) as usize;
            fate.delay = Duration::from_micros(random.within(0..2000));
        }
        fate
    }
}
