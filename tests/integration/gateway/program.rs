//! The real binary, as an operator starts it.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::mpsc;

use super::client::{Answer, ClientRequest};
use super::harness::{metric, page};
use super::within_timeout;
use crate::raw_client::RawClient;

/// A running program; killed when it is dropped.
pub struct Program {
    child: Child,
    lines: [mpsc::UnboundedReceiver<String>; 2],
    /// Every line so far of stderr and of stdout.
    pub log_lines: Vec<String>,
    pub output: Vec<String>,
}

/// A program that exited.
#[derive(Debug)]
pub struct ExitedProgram {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A gateway in a process of its own.
pub struct GatewayProcess {
    pub program: Program,
    pub clients: SocketAddr,
    pub admin: SocketAddr,
}

/// A file that is removed when it is dropped.
pub struct TemporaryFile(PathBuf);

/// Runs the program until it exits by itself.
pub async fn run(arguments: &[&str]) -> ExitedProgram {
    run_with(arguments, &[]).await
}

pub async fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> ExitedProgram {
    Program::start(arguments, environment).ended().await
}

/// Runs a program that ends by itself, with something on its stdin.
pub async fn run_with_input(arguments: &[&str], input: &str) -> ExitedProgram {
    let mut program = Program::spawn(arguments, &[], Stdio::piped());
    let mut stdin = program.child.stdin.take().unwrap();
    // Shorter than what a pipe holds. The program may end without reading it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    program.ended().await
}

impl Program {
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::spawn(arguments, environment, Stdio::null())
    }

    /// Starts the program in a process that may open `files` files.
    pub fn start_with_files(arguments: &[&str], files: u32) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {files}; exec \"$@\"");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_sluicegate")]);
        command.args(arguments);
        Self::run(command, &[], Stdio::null())
    }

    /// Starts the program with another file in place of `/etc/hosts`, in a mount namespace of its own.
    fn start_with_hosts(arguments: &[&str], hosts: &TemporaryFile) -> Self {
        let mut command = with_hosts();
        command.args([hosts.path(), env!("CARGO_BIN_EXE_sluicegate")]);
        command.args(arguments);
        Self::run(command, &[], Stdio::null())
    }

    fn spawn(arguments: &[&str], environment: &[(&str, &str)], stdin: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.args(arguments);
        Self::run(command, environment, stdin)
    }

    fn run(mut command: Command, environment: &[(&str, &str)], stdin: Stdio) -> Self {
        let mut child = command
            .env_remove("SLUICEGATE_CONFIG")
            .env_remove("RUST_LOG")
            .envs(environment.iter().copied())
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let logged = lines(child.stderr.take().unwrap());
        let said = lines(child.stdout.take().unwrap());
        Self {
            child,
            lines: [logged, said],
            log_lines: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Waits for a log line with this message, from the next line on.
    pub async fn wait_for_log(&mut self, message: &str) -> Value {
        loop {
            let Some(line) = within_timeout(self.lines[0].recv()).await else {
                panic!(
                    "it exited without logging `{message}`: {:#?}",
                    self.log_lines
                );
            };
            self.log_lines.push(line);
            let line = self.log_lines.last().unwrap();
            if let Ok(entry) = serde_json::from_str::<Value>(line)
                && entry["message"] == message
            {
                return entry;
            }
        }
    }

    /// Waits for a log line with this text in its message, among those so far and the next ones.
    pub async fn wait_for_log_containing(&mut self, text: &str) {
        while !self.log_lines.iter().any(|line| line.contains(text)) {
            let Some(line) = within_timeout(self.lines[0].recv()).await else {
                panic!("it exited without logging `{text}`: {:#?}", self.log_lines);
            };
            self.log_lines.push(line);
        }
    }

    /// Waits for a line of output that `wanted` accepts.
    pub async fn wait_for_output<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> T {
        loop {
            let line = within_timeout(self.lines[1].recv()).await;
            self.output
                .push(line.unwrap_or_else(|| panic!("its whole output: {:#?}", self.output)));
            if let Some(found) = wanted(self.output.last().unwrap()) {
                return found;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How much memory it has in use, in KiB.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it had in use so far, in KiB.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// How many files it has open, sockets included.
    pub fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        files.unwrap().count()
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap();
        let used = status.lines().find_map(|line| line.strip_prefix(field));
        let used = used.unwrap().trim().trim_end_matches(" kB");
        used.parse().unwrap()
    }

    /// Waits until it exits.
    pub async fn ended(mut self) -> ExitedProgram {
        for (receiver, kept) in self
            .lines
            .iter_mut()
            .zip([&mut self.log_lines, &mut self.output])
        {
            while let Some(line) = within_timeout(receiver.recv()).await {
                kept.push(line);
            }
        }
        ExitedProgram {
            // Its outputs are closed, so it has exited or is about to.
            status: self.child.wait().unwrap().code(),
            out: self.output.join("\n"),
            err: self.log_lines.join("\n"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl GatewayProcess {
    /// Serves with a config's text, which names no addresses.
    pub async fn start(config: &TemporaryFile, environment: &[(&str, &str)]) -> Self {
        Self::serving(Program::start(&Self::arguments(config), environment)).await
    }

    /// As [`GatewayProcess::start`], in a process that may open `files` files.
    pub async fn start_with_files(config: &TemporaryFile, files: u32) -> Self {
        Self::serving(Program::start_with_files(&Self::arguments(config), files)).await
    }

    /// As [`GatewayProcess::start`], with another file in place of `/etc/hosts`.
    pub async fn start_with_hosts(config: &TemporaryFile, hosts: &TemporaryFile) -> Self {
        Self::serving(Program::start_with_hosts(&Self::arguments(config), hosts)).await
    }

    fn arguments(config: &TemporaryFile) -> [&str; 6] {
        let any = "127.0.0.1:0";
        let path = config.path();
        ["--config", path, "--listen", any, "--admin-listen", any]
    }

    async fn serving(mut program: Program) -> Self {
        let entry = program.wait_for_log("serving").await;
        let addr = |name: &str| entry[name].as_str().unwrap().parse().unwrap();
        Self {
            clients: addr("clients"),
            admin: addr("admin"),
            program,
        }
    }

    pub async fn ask(&self, asked: &ClientRequest) -> Answer {
        within_timeout(async {
            let mut client = RawClient::connect(self.clients).await.unwrap();
            asked.send(&mut client).await;
            let head = client.head().await.unwrap();
            Answer::new(head, client)
        })
        .await
    }

    pub async fn ready(&self) -> u16 {
        page(self.admin, "/readyz").await.0
    }

    pub async fn metric(&self, name: &str) -> f64 {
        metric(self.admin, name).await
    }
}

impl TemporaryFile {
    pub fn new(text: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "gateway-{}-{}.yaml",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let file = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        file.write(text);
        file
    }

    /// Replaces the file atomically, as editors and Kubernetes do.
    pub fn write(&self, text: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.0).unwrap();
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a program in a mount namespace, with the file that is its first argument as `/etc/hosts`.
fn with_hosts() -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command
}

/// Whether the system allows that.
pub fn can_replace_hosts() -> bool {
    let tried = with_hosts().args(["/etc/hosts", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// The lines of a pipe, as they arrive.
fn lines(pipe: impl Read + Send + 'static) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
