//! The strict request reader: a stream in, complete and unambiguous requests out, one after another.
//!
//! **Invariants:** the body is handed out only when all of it has come; no byte after the request is
//! consumed, so that pipelined requests work; memory grows with the bytes that came, never with those
//! announced; every step has an absolute deadline.

mod buffer;
mod chunked;
mod head;

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::time::{Duration, Instant};

use thiserror::Error;

pub use buffer::Buffer;
pub use chunked::Chunked;
pub use head::{Framing, Head, HeadScan, Version};
pub(crate) use head::{connection_options, values};

use super::budget::Reservation;
use super::limits::Limits;
use super::refusal::{Reason, Refusal};
use super::stream::{Deadlined, Timed};

/// How much of a body is asked for at once.
const BODY_STEP_BYTES: usize = 64 * 1024;

/// A body buffer larger than this is not kept for the next request of the connection.
const BODY_KEPT_BYTES: usize = 8 * 1024;

/// How long and how much is read from a client that was refused while it was still sending: if we just
/// closed, a reset would overtake the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why there is no (further) request.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The client is gone, or was idle too long, with nothing under way: there is nobody to answer.
    #[error("closed between requests")]
    Closed,
    /// The client went away in the middle of a request.
    #[error("closed in the middle of a request")]
    Truncated,
    /// The client gets an answer, then the connection is closed.
    #[error("refused: {}", .0.detail)]
    Refused(Refusal),
}

impl From<Refusal> for ReadError {
    fn from(refusal: Refusal) -> ReadError {
        ReadError::Refused(refusal)
    }
}

/// A whole request, for servers that need no more than that.
#[derive(Debug)]
pub struct Request {
    /// A token such as `POST`.
    pub method: String,
    /// Path and query, or `*`; bytes that are not ASCII are replaced by `?`.
    pub target: String,
    /// Header lines as sent, in order; bytes that are not ASCII are replaced by `?`.
    pub headers: Vec<(String, String)>,
    /// All of the body, without its transfer coding.
    pub body: Vec<u8>,
    /// The client may send another request on this connection.
    pub keep_alive: bool,
}

impl Request {
    /// The first header of this name, in any spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }
}

/// Reads the requests of one connection.
#[derive(Debug)]
pub struct Reader<S> {
    stream: Deadlined<S>,
    buffer: Buffer,
    body: Vec<u8>,
    /// By when the head under way must be complete; `None` between requests.
    head_by: Option<Instant>,
}

impl<S: Timed> Reader<S> {
    /// Reads from `stream`, which was just opened: the deadline of the first head begins now.
    pub fn new(stream: S, limits: &Limits) -> Reader<S> {
        let head_by = Some(Instant::now() + limits.head_deadline);
        Reader { stream: Deadlined::new(stream), buffer: Buffer::default(), body: Vec::new(), head_by }
    }

    /// The stream, for writing answers.
    pub fn stream(&mut self) -> &mut Deadlined<S> {
        &mut self.stream
    }

    /// Waits until a request begins.
    pub fn await_request(&mut self, limits: &Limits) -> Result<(), ReadError> {
        if self.buffer.filled().is_empty() {
            self.buffer.shrink();
            let deadline = self.head_by.unwrap_or_else(|| Instant::now() + limits.idle_deadline);
            match self.buffer.fill(&mut self.stream, deadline) {
                Ok(0) | Err(_) => return Err(ReadError::Closed),
                Ok(_) => {}
            }
        }
        self.head_by.get_or_insert_with(|| Instant::now() + limits.head_deadline);
        Ok(())
    }

    /// Waits until the head is complete and says where in the buffer it is. It stays there until
    /// [`Reader::consume`].
    pub fn await_head(&mut self, limits: &Limits) -> Result<Range<usize>, ReadError> {
        let deadline = self.head_by.unwrap_or_else(|| Instant::now() + limits.head_deadline);
        let mut scan = HeadScan::default();
        loop {
            if let Some(head) = scan.advance(self.buffer.filled(), limits.head_bytes_max)? {
                self.head_by = None;
                return Ok(head);
            }
            fill(&mut self.buffer, &mut self.stream, deadline)?;
        }
    }

    /// What has come and was not consumed.
    pub fn filled(&self) -> &[u8] {
        self.buffer.filled()
    }

    /// The first `count` bytes are done with.
    pub fn consume(&mut self, count: usize) {
        self.buffer.consume(count);
    }

    /// Reads all of the body into [`Reader::body`]. What is held is accounted to `reservation`.
    pub fn read_body(
        &mut self,
        framing: Framing,
        limits: &Limits,
        reservation: &mut Reservation,
    ) -> Result<(), ReadError> {
        self.body.clear();
        let deadline = Instant::now() + limits.body_deadline;
        match framing {
            Framing::Empty => Ok(()),
            Framing::Length(length) => self.read_exactly(length, deadline, reservation),
            Framing::Chunked => self.read_chunked(limits.body_bytes_max, deadline, reservation),
        }
    }

    /// Refuses a body that is announced larger than allowed; says `100 Continue` to a client that waits for it.
    pub fn invite_body(
        &mut self,
        framing: Framing,
        expects_continue: bool,
        limits: &Limits,
    ) -> Result<(), ReadError> {
        let is_here = match framing {
            Framing::Length(length) if length > limits.body_bytes_max => {
                return Err(Reason::BodyTooLarge.because("the length exceeds the limit").into());
            }
            Framing::Length(length) => self.buffer.filled().len() as u64 >= length,
            Framing::Empty => true,
            Framing::Chunked => false,
        };
        if expects_continue && !is_here {
            let deadline = Instant::now() + limits.head_deadline;
            let invitation = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.stream.write_all(invitation, deadline).map_err(|_| ReadError::Truncated)?;
        }
        Ok(())
    }

    /// The body of the last [`Reader::read_body`].
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body is done with; a large one gives its memory back.
    pub fn release_body(&mut self) {
        self.body.clear();
        if self.body.capacity() > BODY_KEPT_BYTES {
            self.body = Vec::new();
        }
    }

    /// Reads a whole request, for servers that need no more than that.
    pub fn read_request(
        &mut self,
        limits: &Limits,
        reservation: &mut Reservation,
    ) -> Result<Request, ReadError> {
        self.await_request(limits)?;
        let place = self.await_head(limits)?;
        let head = Head::parse(&self.filled()[place.clone()], limits.headers_max)?;
        let (framing, expects_continue) = (head.framing, head.expects_continue);
        let mut request = Request {
            method: head.method.to_owned(),
            target: ascii(head.target),
            headers: head.headers.iter().map(|h| (h.name.to_owned(), ascii(h.value))).collect(),
            body: Vec::new(),
            keep_alive: head.keep_alive,
        };
        self.consume(place.end);
        self.invite_body(framing, expects_continue, limits)?;
        self.read_body(framing, limits, reservation)?;
        request.body = std::mem::take(&mut self.body);
        Ok(request)
    }

    /// After a refusal: tells the client that this was all and throws away what it still sends, for a
    /// bounded time, so that it gets to read the answer.
    pub fn linger(&mut self) {
        let deadline = Instant::now() + LINGER;
        if self.stream.get_mut().shutdown_write().is_err() {
            return;
        }
        let mut left = LINGER_BYTES_MAX;
        loop {
            self.buffer.consume(usize::MAX);
            match self.buffer.fill(&mut self.stream, deadline) {
                Ok(count) if count > 0 && count < left => left -= count,
                _ => return,
            }
        }
    }

    fn read_exactly(
        &mut self,
        length: u64,
        deadline: Instant,
        reservation: &mut Reservation,
    ) -> Result<(), ReadError> {
        let length =
            usize::try_from(length).map_err(|_| Reason::BodyTooLarge.because("beyond this machine"))?;
        let here = self.buffer.filled().len().min(length);
        make_room(&mut self.body, here.max(length.min(BODY_STEP_BYTES)), reservation)?;
        self.body.extend_from_slice(&self.buffer.filled()[..here]);
        self.buffer.consume(here);
        while self.body.len() < length {
            let start = self.body.len();
            if start == self.body.capacity() {
                make_room(&mut self.body, length.min(start * 2), reservation)?;
            }
            let step = (self.body.capacity().min(length) - start).min(BODY_STEP_BYTES);
            self.body.resize(start + step, 0);
            let count = self.stream.read(&mut self.body[start..], deadline);
            self.body.truncate(start + *count.as_ref().unwrap_or(&0));
            check_read(count)?;
        }
        Ok(())
    }

    fn read_chunked(
        &mut self,
        body_bytes_max: u64,
        deadline: Instant,
        reservation: &mut Reservation,
    ) -> Result<(), ReadError> {
        let mut chunked = Chunked::new(body_bytes_max);
        loop {
            let needed = self.body.len() + self.buffer.filled().len();
            if needed > self.body.capacity() {
                let doubled = (self.body.capacity() * 2).max(BODY_KEPT_BYTES);
                make_room(&mut self.body, needed.max(doubled), reservation)?;
            }
            let used = chunked.decode(self.buffer.filled(), &mut self.body)?;
            self.buffer.consume(used);
            if chunked.is_done() {
                return Ok(());
            }
            fill(&mut self.buffer, &mut self.stream, deadline)?;
        }
    }
}

fn make_room(body: &mut Vec<u8>, bytes: usize, reservation: &mut Reservation) -> Result<(), Refusal> {
    reservation.cover(bytes.max(body.capacity()))?;
    body.reserve_exact(bytes.saturating_sub(body.len()));
    Ok(())
}

fn fill<S: Timed>(
    buffer: &mut Buffer,
    stream: &mut Deadlined<S>,
    deadline: Instant,
) -> Result<(), ReadError> {
    check_read(buffer.fill(stream, deadline))
}

/// What a read in the middle of a request means.
fn check_read(result: io::Result<usize>) -> Result<(), ReadError> {
    match result {
        Ok(0) => Err(ReadError::Truncated),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            Err(Reason::TooSlow.because("the deadline passed").into())
        }
        Err(_) => Err(ReadError::Truncated),
    }
}

fn ascii(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| if byte.is_ascii() { char::from(byte) } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::*;
    use crate::gate::Budget;

    /// Reads one request after another from a client that sends `raw` and hangs up.
    fn read_all(raw: &str) -> (Vec<Request>, ReadError) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        theirs.write_all(raw.as_bytes()).expect("room for the request");
        drop(theirs);
        let (limits, budget) = (Limits::default(), Arc::new(Budget::default()));
        let mut reader = Reader::new(ours, &limits);
        let mut requests = Vec::new();
        loop {
            match reader.read_request(&limits, &mut budget.reservation(&limits)) {
                Ok(request) => requests.push(request),
                Err(error) => return (requests, error),
            }
        }
    }

    #[test]
    fn whole_requests_come_one_after_another() {
        let (requests, end) = read_all(
            "POST /a?b HTTP/1.1\r\nHost: x\r\nX-Name: Jos\u{e9}\r\nContent-Length: 3\r\n\r\nabc\
             PUT /c HTTP/1.0\r\n\r\n",
        );
        let [post, put] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!(
            (post.method.as_str(), post.target.as_str(), &post.body[..]),
            ("POST", "/a?b", &b"abc"[..])
        );
        assert_eq!((post.header("x-name"), post.header("absent")), (Some("Jos??"), None));
        assert!(post.keep_alive && !put.keep_alive);
        assert!(matches!(end, ReadError::Closed));
    }

    #[test]
    fn the_end_says_what_was_wrong() {
        assert!(matches!(read_all("POST / HT").1, ReadError::Truncated));
        let half = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na";
        assert!(matches!(read_all(half).1, ReadError::Truncated));
        let refused = read_all("POST / HTTP/3.0\r\n\r\n").1;
        assert!(
            matches!(refused, ReadError::Refused(refusal) if refusal.reason == Reason::VersionUnsupported)
        );
    }
}
