//! The two servers that are measured, each in a process of its own: the daemon, and the same gate and
//! tiny_http without anything behind them.

use super::load::{Pass, drive};
use super::{Measured, STAND_IN, machine};
use deskspool::gate::{self, Gate, GateConfig, Limits};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tiny_http::{Header, Response, Server};

/// The release binary.
pub const DESKSPOOL: &str = env!("CARGO_BIN_EXE_deskspool");
/// What senders show.
pub const SECRET: &str = "bench-secret";
/// As many as the daemon has.
const WORKERS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);

/// A server under load.
fn measure(process: &Child, address: SocketAddr, connections: usize, seconds: f64) -> Measured {
    let before = (machine::written_bytes(process), machine::cpu_seconds(process));
    let started = std::time::Instant::now();
    let pass: Pass = drive(address, connections, seconds);
    // The costs are those of the whole drive, the warm-up included, so they are per second of it.
    let share = pass.took.as_secs_f64() / started.elapsed().as_secs_f64();
    let events = pass.latencies.len() as f64 / share;
    Measured {
        written_per_event: (machine::written_bytes(process) - before.0) as f64 / events,
        cpu_micros_per_event: (machine::cpu_seconds(process) - before.1) * 1e6 / events,
        pass,
    }
}

/// A daemon on a fresh spool, with a Freshdesk that refuses connections.
pub struct Daemon {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Daemon {
    /// Starts it and waits until it says that it is ready.
    pub fn start(binary: &Path, scratch: &Path) -> Daemon {
        let directory = TempDir::new_in(scratch).expect("a directory for the spool");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("deskspool.toml"), configuration(directory.path())).expect("a configuration");
        // Sockets have short paths; the disk that is measured may have long ones.
        let sockets = TempDir::new().expect("a directory for a socket");
        let ready = UnixDatagram::bind(sockets.path().join("ready")).expect("a socket");
        ready.set_read_timeout(Some(PATIENCE)).expect("a socket of ours");
        let log = std::fs::File::create(path("log")).expect("a log file");
        let process = Command::new(binary)
            .arg("--config")
            .arg(path("deskspool.toml"))
            .arg("serve")
            .env("NOTIFY_SOCKET", sockets.path().join("ready"))
            .stderr(log)
            .spawn()
            .expect("the release binary starts");
        let mut word = [0; 64];
        let told = ready.recv(&mut word);
        let log = std::fs::read_to_string(path("log")).expect("the log is text");
        assert!(told.is_ok_and(|length| word[..length].starts_with(b"READY=1")), "not ready:\n{log}");
        let address = log.split_once("listen=").and_then(|(_, rest)| rest.split([' ', '\n']).next());
        let address = address.expect("it says where it listens").parse().expect("an address");
        Daemon { process, address, _directory: directory }
    }

    /// Its process.
    pub fn process(&self) -> &Child {
        &self.process
    }

    /// Puts it under load.
    pub fn measure(self, connections: usize, seconds: f64) -> Measured {
        measure(&self.process, self.address, connections, seconds)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

fn end(process: &mut Child) {
    kill_process(Pid::from_child(process), Signal::TERM).expect("a child of ours");
    process.wait().expect("a child of ours");
}

fn configuration(directory: &Path) -> String {
    // Nobody listens on the port of a listener that is gone.
    let refused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    format!(
        "[freshdesk]\nurl = \"http://{}\"\napi_key = \"bench\"\n\n\
         [server]\nlisten = \"127.0.0.1:0\"\n\n\
         [status_page]\nlisten = \"off\"\n\n[spool]\ndir = {:?}\nenvelopes_max = 100000000\nbytes_max = \"64GiB\"\ndisk_free_min = \"64MiB\"\n\n\
         [source.bench]\npreset = \"generic@1\"\nsecret = \"{SECRET}\"\n",
        refused.expect("a port"),
        directory.join("spool").display().to_string(),
    )
}

/// Gate and tiny_http in a process of their own.
pub struct StandIn {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl StandIn {
    /// Starts this executable again as the server.
    pub fn start() -> StandIn {
        let directory = TempDir::new().expect("a directory for a socket");
        let executable = std::env::current_exe().expect("this executable");
        let mut process = Command::new(executable)
            .arg(STAND_IN)
            .arg(directory.path().join("gate.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this executable starts again");
        let mut line = String::new();
        let stdout = process.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        StandIn { process, address: line.trim().parse().expect("an address"), _directory: directory }
    }

    /// Puts it under load.
    pub fn measure(self, connections: usize, seconds: f64) -> Measured {
        measure(&self.process, self.address, connections, seconds)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// The life of the stand-in: reads bodies, stores nothing, answers as the daemon does. Until its parent
/// closes its input.
pub fn stand_in(socket: &Path) {
    let server = Arc::new(Server::http_unix(socket).expect("a socket in a directory of ours"));
    for _ in 0..WORKERS {
        let server = server.clone();
        std::thread::spawn(move || answer(&server));
    }
    let listener = gate::bind("bench", "127.0.0.1:0").expect("a port");
    let gate = Gate::start(GateConfig {
        listeners: vec![listener],
        upstream: socket.to_owned(),
        limits: Limits::default(),
        trusted_proxies: Vec::new(),
        identity: None,
    });
    let gate = gate.expect("the gate starts");
    println!("{}", gate.addresses()[0]);
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn answer(server: &Server) {
    while let Ok(mut request) = server.recv() {
        let mut body = Vec::with_capacity(request.body_length().unwrap_or(0) + 1);
        request.as_reader().read_to_end(&mut body).expect("the gate passes complete requests");
        let mut response = Response::from_string(if body.is_empty() { "" } else { "{\"ok\":true}" });
        response.add_header(Header::from_bytes("Content-Type", "application/json").expect("well formed"));
        // Whoever asked is gone then.
        let _ = request.respond(response);
    }
}
