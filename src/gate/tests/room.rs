//! A gate, a tiny_http that says what it got, and a client that reads answers strictly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tiny_http::{Header, Request, Response, Server};

use crate::gate::{Gate, GateConfig, Identity, Limits, PING_TARGET, bind};

/// Longer than anything here may take; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Lets go of requests for `/hold`.
#[derive(Default)]
pub struct Valve {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Valve {
    pub fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let closed = self.is_open.lock().unwrap();
        drop(self.opened.wait_timeout_while(closed, PATIENCE, |is_open| !*is_open).unwrap());
    }
}

/// tiny_http with four workers on a Unix socket.
pub struct Handlers {
    server: Arc<Server>,
    workers: Vec<thread::JoinHandle<()>>,
    pub valve: Arc<Valve>,
    /// Requests that reached a handler, pings not counted.
    pub received: Arc<AtomicUsize>,
}

impl Handlers {
    pub fn start(path: &Path) -> Handlers {
        let server = Arc::new(Server::http_unix(path).unwrap());
        let (valve, received) = (Arc::new(Valve::default()), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let (server, valve, received) = (Arc::clone(&server), Arc::clone(&valve), Arc::clone(&received));
            thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    handle(request, &valve, &received);
                }
            })
        };
        let workers = (0..4).map(|_| work()).collect();
        Handlers { server, workers, valve, received }
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        self.valve.open();
        self.workers.iter().for_each(|_| self.server.unblock());
        self.workers.drain(..).for_each(|worker| worker.join().unwrap());
    }
}

fn handle(mut request: Request, valve: &Arc<Valve>, received: &AtomicUsize) {
    if request.url() == PING_TARGET {
        return request.respond(Response::empty(204)).unwrap();
    }
    received.fetch_add(1, Ordering::SeqCst);
    let mut body = Vec::new();
    request.as_reader().read_to_end(&mut body).unwrap();
    match request.url() {
        // Its own thread, as handlers of deskspool answer after a group's sync and not in the worker.
        "/hold" => {
            let valve = Arc::clone(valve);
            thread::spawn(move || {
                valve.pass();
                let _ = request.respond(Response::from_string("held"));
            });
        }
        "/large" => drop(request.respond(Response::from_string("x".repeat(100_000)))),
        "/empty" => drop(request.respond(Response::empty(204))),
        _ => {
            let text = describe(&request, &body);
            let kept = Header::from_bytes("X-Kept", "yes").unwrap();
            let _ = request.respond(Response::from_string(text).with_header(kept));
        }
    }
}

fn describe(request: &Request, body: &[u8]) -> String {
    let headers = request.headers().iter().map(|header| format!("{header}\n"));
    let body = String::from_utf8_lossy(body);
    format!("{} {}\n{}\n{body}", request.method(), request.url(), headers.collect::<String>())
}

/// A gate with everything around it.
pub struct Room {
    pub gate: Gate,
    pub handlers: Option<Handlers>,
    directory: TempDir,
}

impl Room {
    pub fn new(limits: Limits) -> Room {
        Room::with(limits, None)
    }

    pub fn with(limits: Limits, identity: Option<Arc<Identity>>) -> Room {
        let directory = tempfile::tempdir().unwrap();
        let handlers = Handlers::start(&socket_in(&directory));
        let gate = Gate::start(GateConfig {
            listeners: vec![bind("server.listen", "127.0.0.1:0").unwrap()],
            upstream: socket_in(&directory),
            limits,
            trusted_proxies: Vec::new(),
            identity,
        });
        Room { gate: gate.unwrap(), handlers: Some(handlers), directory }
    }

    pub fn upstream(&self) -> PathBuf {
        socket_in(&self.directory)
    }

    pub fn address(&self) -> SocketAddr {
        self.gate.addresses()[0]
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// A client that has sent `raw` and waits.
    pub fn client_with(&self, raw: &str) -> Client {
        let mut client = self.client();
        client.send(raw);
        client
    }

    pub fn received(&self) -> usize {
        self.handlers.as_ref().unwrap().received.load(Ordering::SeqCst)
    }

    /// An honest client is served.
    pub fn assert_serves(&self) {
        assert_eq!(self.client_with("GET /well HTTP/1.1\r\nHost: x\r\n\r\n").answer().status, 200);
    }
}

fn socket_in(directory: &TempDir) -> PathBuf {
    directory.path().join("http.sock")
}

/// Limits under which slow clients are refused at once.
pub fn hasty() -> Limits {
    let deadline = Duration::from_millis(150);
    Limits { head_deadline: deadline, body_deadline: deadline, ..Limits::default() }
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends all of `raw`, or as much as the gate takes before it closes.
    pub fn send(&mut self, raw: impl AsRef<[u8]>) {
        let _ = self.stream.get_mut().write_all(raw.as_ref());
    }

    pub fn answer(&mut self) -> Answer {
        self.try_answer(false).expect("an answer")
    }

    pub fn answer_to_head(&mut self) -> Answer {
        self.try_answer(true).expect("an answer")
    }

    /// The next answer; `None` when the connection ends instead.
    pub fn try_answer(&mut self, to_head: bool) -> Option<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; if to_head { 0 } else { length }];
        self.stream.read_exact(&mut body).ok()?;
        answer.body = String::from_utf8(body).unwrap();
        Some(answer)
    }

    /// The gate closes the connection without another byte, and without a reset.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }

    /// The gate has closed or reset the connection.
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.stream.read(&mut [0]), Ok(1..))
    }
}

/// Waits until something that other threads do has happened.
pub fn until(what: &str, happened: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::yield_now();
    }
}
