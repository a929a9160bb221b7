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
    arguments: Vec<String>,
}

/// Far longer than a start takes.
const TIMEOUT: Duration = Duration::from_secs(20);

impl Valkey {
    pub fn start() -> Self {
        Self::start_with(|_| Vec::new())
    }

    /// With more arguments, for the server at this port.
    pub fn start_with(more: impl Fn(u16) -> Vec<String>) -> Self {
        Self::launch_any(|port| {
            // No server reads another one's file, and a replica writes none.
            let words = format!(
                "--port {port} --bind 127.0.0.1 --appendonly no --dir /tmp --dbfilename sluicegate-{port}.rdb \
                 --repl-diskless-load swapdb --save"
            );
            let words = words.split(' ').map(String::from);
            words.chain([String::new()]).chain(more(port)).collect()
        })
    }

    /// A Sentinel that watches the master at this port under the name `main`, and replaces it at once.
    pub fn sentinel(watched: u16) -> Self {
        Self::launch_any(|port| {
            let config = format!(
                "port {port}\nbind 127.0.0.1\ndir /tmp\n\
                 sentinel monitor main 127.0.0.1 {watched} 1\n\
                 sentinel down-after-milliseconds main 300\n\
                 sentinel failover-timeout main 2000\n"
            );
            std::fs::write(sentinel_file(port), config).unwrap();
            vec![sentinel_file(port), "--sentinel".to_owned()]
        })
    }

    /// Three servers that share the slots evenly. A lost server takes only its own slots along.
    pub async fn cluster() -> Vec<Self> {
        let member = |port: u16| {
            let bus = free_port();
            let file = cluster_file(port);
            let _ = std::fs::remove_file(&file);
            let words = format!(
                "--cluster-enabled yes --cluster-node-timeout 1000 --cluster-port {bus} \
                 --cluster-require-full-coverage no --cluster-config-file {file}"
            );
            words.split(' ').map(String::from).collect()
        };
        let servers: Vec<Self> = (0..3).map(|_| Self::start_with(member)).collect();
        let ranges = [(0, 5460), (5461, 10922), (10923, 16383)];
        for (server, (first, last)) in servers.iter().zip(ranges) {
            let mut connection = server.connect().await;
            let add = format!("CLUSTER ADDSLOTSRANGE {first} {last}");
            command(&add).exec_async(&mut connection).await.unwrap();
            for other in &servers[1..] {
                let bus = other.bus_port().await;
                let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port);
                command(&meet).exec_async(&mut connection).await.unwrap();
            }
        }
        for server in &servers {
            let mut connection = server.connect().await;
            loop {
                let ask = command("CLUSTER INFO");
                let info: String = ask.query_async(&mut connection).await.unwrap();
                let slots: redis::Value = command("CLUSTER SLOTS")
                    .query_async(&mut connection)
                    .await
                    .unwrap();
                let known = matches!(&slots, redis::Value::Array(slots) if slots.len() == 3);
                if known && info.contains("cluster_state:ok") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        servers
    }

    async fn bus_port(&self) -> u16 {
        let mut connection = self.connect().await;
        let ask = command("CONFIG GET cluster-port");
        let answer: Vec<String> = ask.query_async(&mut connection).await.unwrap();
        answer[1].parse().unwrap()
    }

    fn launch_any(arguments: impl Fn(u16) -> Vec<String>) -> Self {
        // Another process may take the port first: then the server ends, and another port is tried.
        for _ in 0..10 {
            let port = free_port();
            let arguments = arguments(port);
            if let Some(child) = launch(port, &arguments) {
                return Self {
                    port,
                    child,
                    arguments,
                };
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
        self.child = launch(self.port, &self.arguments).expect("somebody took the port");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for file in [cluster_file(self.port), sentinel_file(self.port)] {
            // Most servers have none.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// A command from its words.
pub fn command(words: &str) -> redis::Cmd {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    words.for_each(|word| {
        command.arg(word);
    });
    command
}

/// Where a server of a cluster keeps what it knows of the others.
fn cluster_file(port: u16) -> String {
    format!("/tmp/sluicegate-cluster-{port}")
}

/// The config of a Sentinel, which writes to it.
fn sentinel_file(port: u16) -> String {
    format!("/tmp/sluicegate-sentinel-{port}")
}

fn free_port() -> u16 {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    free.local_addr().unwrap().port()
}

/// `None` if the server ends instead of serving.
fn launch(port: u16, arguments: &[String]) -> Option<Child> {
    let mut child = Command::new(program())
        .args(arguments)
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
