//! A real Valkey or Redis server for one test, on a free port.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A server that stores nothing on disk. It ends when this is dropped.
pub struct Valkey {
    port: u16,
    child: Child,
}

/// Far longer than a start takes.
const TIMEOUT: Duration = Duration::from_secs(20);

impl Valkey {
    pub fn start() -> Self {
        // Another process may take the port first: then the server ends, and another port is tried.
        for _ in 0..10 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            if let Some(child) = launch(port) {
                return Self { port, child };
            }
        }
        panic!("no server starts");
    }

    pub fn url(&self) -> String {
        format!("redis://{}/0", self.addr())
    }

    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    /// A connection for the test itself.
    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        let client = self.client();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Stops the process: connections stay open, and commands get no answer.
    pub fn stall(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills the process. All its data is lost.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port after it was killed.
    pub fn restart(&mut self) {
        self.child = launch(self.port).expect("somebody took the port");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None` if the server ends instead of serving.
fn launch(port: u16) -> Option<Child> {
    let mut child = Command::new(program())
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir", "/tmp"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < TIMEOUT {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        let connection = client.get_connection_with_timeout(Duration::from_secs(1));
        let served = connection.and_then(|mut connection| {
            // Another program that has the port may never answer.
            connection.set_read_timeout(Some(Duration::from_secs(1)))?;
            let process: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
            Ok(process.contains(&format!("process_id:{}\r", child.id())))
        });
        match served {
            Ok(true) => return Some(child),
            // Another test's server has the port.
            Ok(false) => break,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// The server that `make test` builds, or an installed one.
fn program() -> PathBuf {
    let prepared = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/valkey-server");
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&paths)
        .flat_map(|folder| ["valkey-server", "redis-server"].map(|name| folder.join(name)));
    std::iter::once(prepared)
        .chain(installed)
        .find(|path| path.exists())
        .expect("there is no Valkey or Redis server to test with: `make test` prepares one")
}
