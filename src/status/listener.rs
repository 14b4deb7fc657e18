//! The listener of the status page: a gate before it, and tiny_http on a private socket behind that.
//!
//! The page is no part of the road: one thread (`status-page`) answers one request after the other, and when it
//! ends, events are received and delivered as before.

use crate::gate::{Gate, GateConfig, GateError, Limits, PEER_HEADER, PING_TARGET};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tiny_http::{Header, Request, Response, Server};

/// A selection, or a mapping that is tried out.
const BODY_BYTES_MAX: u64 = 256 << 10;
/// A few browsers and a Prometheus.
const CONNECTIONS_MAX: usize = 32;
const DRAIN: Duration = Duration::from_secs(2);

/// A request, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `GET`, `HEAD`, `POST` …
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// As sent.
    pub headers: Vec<(String, String)>,
    /// As sent.
    pub body: Vec<u8>,
}

impl Asked {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The value of a parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(other, _)| other == name).map(|(_, value)| value.into_owned())
    }
}

/// What it is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `Content-Type`, `Content-Security-Policy` …
    pub headers: Vec<(&'static str, String)>,
    /// The text.
    pub body: String,
}

/// Answers requests.
pub type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The running listener.
pub struct Listener {
    gate: Gate,
    server: Arc<Server>,
    socket: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    /// Answers what comes in on `listeners` with `handler`. `socket` is in a directory that only we can enter.
    pub fn start(
        listeners: Vec<TcpListener>,
        socket: &Path,
        handler: Box<Handler>,
    ) -> Result<Listener, GateError> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(GateError::Start(error)),
            _ => {}
        }
        let server = Server::http_unix(socket).map_err(|error| GateError::Start(io::Error::other(error)))?;
        let server = Arc::new(server);
        let serving = server.clone();
        let thread = std::thread::Builder::new().name("status-page".to_owned());
        let thread = thread.spawn(move || serve(&serving, &*handler)).map_err(GateError::Start)?;
        let limits = Limits {
            connections_max: CONNECTIONS_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            body_budget_bytes: 4 * BODY_BYTES_MAX,
            ..Limits::default()
        };
        let upstream = socket.to_path_buf();
        let gate = Gate::start(GateConfig {
            listeners,
            upstream,
            limits,
            trusted_proxies: Vec::new(),
            identity: None,
        });
        match gate {
            Ok(gate) => {
                Ok(Listener { gate, server, socket: socket.to_path_buf(), thread: Some(thread).into() })
            }
            Err(error) => {
                server.unblock();
                Err(error)
            }
        }
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.gate.addresses()
    }

    /// Ends it, once.
    pub fn stop(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.gate.drain(DRAIN);
        self.server.unblock();
        // It panics nowhere but in a handler, and there it is caught.
        let _ = thread.join();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(server: &Server, handler: &Handler) {
    loop {
        match server.recv() {
            Ok(request) => {
                // A panic drops the request, which tiny_http answers with 500.
                if catch_unwind(AssertUnwindSafe(|| answer(request, handler))).is_err() {
                    log::error!("bug: the status page panicked at a request; it was answered 500");
                }
            }
            Err(error) if error.to_string() == "thread unblocked" => return,
            Err(error) => {
                return log::error!(
                    "status page gone error={:?} effect=\"events are received and delivered as before\"",
                    error.to_string()
                );
            }
        }
    }
}

fn answer(mut request: Request, handler: &Handler) {
    let answer = if request.url() == PING_TARGET {
        Answer { status: 204, ..Answer::default() }
    } else {
        match asked(&mut request) {
            Ok(asked) => handler(&asked),
            Err(_) => Answer { status: 400, ..Answer::default() },
        }
    };
    let mut response = Response::from_string(answer.body).with_status_code(answer.status);
    for (name, value) in answer.headers {
        // Our own values are one line of ASCII; what is not is left out.
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    if let Err(error) = request.respond(response) {
        log::debug!("answer not sent error={error}");
    }
}

fn asked(request: &mut Request) -> io::Result<Asked> {
    let (path, query) = match request.url().split_once('?') {
        Some((path, query)) => (path.to_owned(), query.to_owned()),
        None => (request.url().to_owned(), String::new()),
    };
    let pair = |header: &Header| (header.field.to_string(), header.value.to_string());
    let headers =
        request.headers().iter().filter(|header| !header.field.equiv(PEER_HEADER)).map(pair).collect();
    let method = request.method().to_string();
    let mut body = Vec::new();
    request.as_reader().take(BODY_BYTES_MAX).read_to_end(&mut body)?;
    Ok(Asked { method, path, query, headers, body })
}
