//! HTTP/1.1 on a socket: heads, bodies, answers, and the rude ends of a connection.
//!
//! **Invariants:** a head has at most 16 KiB and 64 headers, a body at most what the sandbox allows, and both
//! must arrive before a deadline. Ambiguous framing ends the connection.

use super::answer::{Answer, reason};
use super::knobs::ResponseMode;
use crate::clock::{Clock, SystemClock};
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const HEAD_MAX_BYTES: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
const WRITE_DEADLINE: Duration = Duration::from_secs(20);

/// The head of a request.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    is_old: bool,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// How an answer is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) mode: ResponseMode,
    pub(crate) keep_alive: bool,
    /// As HEAD wants it.
    pub(crate) without_body: bool,
}

impl Manner {
    /// Plainly, and nothing after it.
    pub(crate) const LAST: Manner =
        Manner { mode: ResponseMode::Length, keep_alive: false, without_body: false };
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The client left, or nothing came in time: nothing to say.
    Gone,
    /// To be answered with this status; then the connection closes.
    Refused(u16),
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        let connection = self.header("connection").unwrap_or_default().to_ascii_lowercase();
        if self.is_old { connection.contains("keep-alive") } else { !connection.contains("close") }
    }
}

/// A connection with what was read of it and not used yet.
pub(crate) struct Wire {
    stream: Arc<TcpStream>,
    unread: Vec<u8>,
    clock: Arc<SystemClock>,
}

impl Wire {
    pub(crate) fn new(stream: Arc<TcpStream>, clock: Arc<SystemClock>) -> Wire {
        // Small answers must not wait for the client's delayed acknowledgements.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(WRITE_DEADLINE));
        Wire { stream, unread: Vec::new(), clock }
    }

    /// The next head, which must be there within `patience`.
    pub(crate) fn read_head(&mut self, patience: Duration) -> Result<Head, Trouble> {
        let deadline = self.clock.monotonic() + patience;
        loop {
            match parse_head(&self.unread)? {
                Some((_, length)) if length > HEAD_MAX_BYTES => return Err(Trouble::Refused(431)),
                Some((head, length)) => {
                    self.unread.drain(..length);
                    return Ok(head);
                }
                None if self.unread.len() > HEAD_MAX_BYTES => return Err(Trouble::Refused(431)),
                None => self.fill(deadline)?,
            }
        }
    }

    /// The body that `head` announces, of at most `max_bytes`, within `patience`.
    pub(crate) fn read_body(
        &mut self,
        head: &Head,
        max_bytes: usize,
        patience: Duration,
    ) -> Result<Vec<u8>, Trouble> {
        let deadline = self.clock.monotonic() + patience;
        let framing = framing(head)?;
        if matches!(framing, Framing::Length(length) if length > max_bytes) {
            return Err(Trouble::Refused(413));
        }
        let expects = head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        if expects && !matches!(framing, Framing::Length(0)) {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| Trouble::Gone)?;
        }
        match framing {
            Framing::Length(length) => self.take(length, deadline),
            Framing::Chunked => self.read_chunks(max_bytes, deadline),
        }
    }

    fn read_chunks(&mut self, max_bytes: usize, deadline: Duration) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line(deadline)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| Trouble::Refused(400))?;
            if size > max_bytes - body.len() {
                return Err(Trouble::Refused(413));
            }
            if size == 0 {
                while !self.read_line(deadline)?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size, deadline)?);
            if !self.read_line(deadline)?.is_empty() {
                return Err(Trouble::Refused(400));
            }
        }
    }

    fn read_line(&mut self, deadline: Duration) -> Result<String, Trouble> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(|_| Trouble::Refused(400));
            }
            if self.unread.len() > 1024 {
                // Only what belongs to this line counts, and a line of chunked framing is short.
                return Err(Trouble::Refused(400));
            }
            self.fill(deadline)?;
        }
    }

    fn take(&mut self, length: usize, deadline: Duration) -> Result<Vec<u8>, Trouble> {
        while self.unread.len() < length {
            self.fill(deadline)?;
        }
        let rest = self.unread.split_off(length);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    fn fill(&mut self, deadline: Duration) -> Result<(), Trouble> {
        let left = deadline.saturating_sub(self.clock.monotonic());
        if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
            return Err(Trouble::Gone);
        }
        let mut chunk = [0; 16 * 1024];
        match (&*self.stream).read(&mut chunk) {
            Ok(0) => Err(Trouble::Gone),
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(Trouble::Gone),
        }
    }

    /// Sends a whole answer.
    pub(crate) fn answer(&self, answer: &Answer, manner: Manner) -> io::Result<()> {
        let is_chunked =
            manner.mode == ResponseMode::Chunked && !answer.body.is_empty() && !manner.without_body;
        let mut out = head_bytes(answer, is_chunked, manner.keep_alive);
        if is_chunked {
            out.extend(format!("{:x}\r\n", answer.body.len()).into_bytes());
            out.extend(&answer.body);
            out.extend(b"\r\n0\r\n\r\n");
        } else if !manner.without_body {
            out.extend(&answer.body);
        }
        self.write(&out)
    }

    /// Sends the whole head and half of the body, and ends.
    pub(crate) fn truncated(&self, answer: &Answer) -> io::Result<()> {
        let mut out = head_bytes(answer, false, true);
        out.extend(&answer.body[..answer.body.len() / 2]);
        self.write(&out)?;
        self.stream.shutdown(Shutdown::Both)
    }

    /// Makes closing the connection a reset: unsent bytes are dropped and the peer gets RST.
    pub(crate) fn reset(self) {
        let _ = SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Says nothing for `hold`, or until the client leaves or the connection is cut; whether it still stands.
    pub(crate) fn stays_open(&self, hold: Duration) -> bool {
        // A socket timeout of zero would mean none at all.
        let hold = hold.max(Duration::from_millis(1));
        if self.stream.set_read_timeout(Some(hold)).is_err() {
            return false;
        }
        match self.stream.peek(&mut [0; 1]) {
            Ok(count) => count > 0,
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// Ends the answers but reads on for a moment, so that the last answer is not lost to a reset.
    pub(crate) fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let deadline = self.clock.monotonic() + Duration::from_millis(500);
        let mut drained = 0;
        while drained < 1024 * 1024 && self.fill(deadline).is_ok() {
            drained += self.unread.len();
            self.unread.clear();
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

fn framing(head: &Head) -> Result<Framing, Trouble> {
    let values = |name: &str| {
        head.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    };
    let lengths: Vec<&str> = values("content-length");
    let encodings: Vec<&str> = values("transfer-encoding");
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([], [one]) if one.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Framing::Length(length.parse().map_err(|_| Trouble::Refused(413))?))
        }
        _ => Err(Trouble::Refused(400)),
    }
}

/// The head that `bytes` begin with and its length, when it is complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Trouble> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Trouble::Refused(431)),
        Err(_) => return Err(Trouble::Refused(400)),
    };
    let target = parsed.path.unwrap_or("/");
    let local = target.strip_prefix("http://").map(|rest| rest.find('/').map_or("/", |at| &rest[at..]));
    let (path, query) = local.unwrap_or(target).split_once('?').unwrap_or((local.unwrap_or(target), ""));
    let header = |header: &httparse::Header<'_>| {
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        (header.name.to_ascii_lowercase(), value)
    };
    let head = Head {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: parsed.headers.iter().map(header).collect(),
        is_old: parsed.version == Some(0),
    };
    Ok(Some((head, length)))
}

fn head_bytes(answer: &Answer, is_chunked: bool, keep_alive: bool) -> Vec<u8> {
    let status = answer.status;
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    let mut line = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
    if let Some(content_type) = answer.content_type {
        line("Content-Type", content_type);
    }
    for (name, value) in &answer.headers {
        line(name, value);
    }
    match (is_chunked, status) {
        (true, _) => line("Transfer-Encoding", "chunked"),
        (false, 204 | 304) => {}
        (false, _) => line("Content-Length", &answer.body.len().to_string()),
    }
    if !keep_alive {
        line("Connection", "close");
    }
    head.push_str("\r\n");
    head.into_bytes()
}
