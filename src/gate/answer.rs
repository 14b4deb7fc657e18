//! The way back: tiny_http's answer is read as strictly as a client's request, and written anew with
//! an exact length and the right word about the connection.

use std::io::{self, ErrorKind};
use std::time::Instant;

use httparse::{EMPTY_HEADER, Response, Status};

use super::request::{Buffer, Chunked, Version, values};
use super::stream::{Deadlined, Timed};

/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 32;

/// Largest body of an answer; the largest of ours is the metrics page.
const BODY_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Headers that concern one connection, or that say what answers.
const DROPPED: [&str; 8] =
    ["connection", "content-length", "keep-alive", "server", "te", "trailer", "transfer-encoding", "upgrade"];

/// Where an answer comes from, and by when.
pub(super) struct Incoming<'a, S> {
    pub stream: &'a mut Deadlined<S>,
    pub buffer: &'a mut Buffer,
    pub deadline: Instant,
}

impl<S: Timed> Incoming<'_, S> {
    fn fill(&mut self) -> io::Result<()> {
        match self.buffer.fill(self.stream, self.deadline)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Where a connection collects an answer; kept between requests.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Status line and end-to-end headers, ready to be sent on.
    head: Vec<u8>,
    body: Vec<u8>,
    /// The length to announce; differs from the body's for HEAD. `None`: the status allows no body.
    length: Option<u64>,
    /// The upstream connection may be used again.
    pub upstream_stays: bool,
}

/// What the head of an answer says about the bytes after it.
struct Shape {
    head_bytes: usize,
    framing: AnswerFraming,
}

enum AnswerFraming {
    Nothing,
    Length(u64),
    Chunked,
}

impl Answer {
    /// Reads one answer, to a HEAD request if `to_head`. Anything odd is [`ErrorKind::InvalidData`].
    pub fn read<S: Timed>(&mut self, mut from: Incoming<'_, S>, to_head: bool) -> io::Result<()> {
        self.body.clear();
        let shape = loop {
            from.fill()?;
            if let Some(shape) = self.read_head(from.buffer.filled(), to_head)? {
                break shape;
            }
            if from.buffer.filled().len() > HEAD_BYTES_MAX {
                return Err(odd("the head is too long"));
            }
        };
        from.buffer.consume(shape.head_bytes);
        match shape.framing {
            AnswerFraming::Nothing => {}
            AnswerFraming::Length(length) => self.read_exactly(&mut from, length)?,
            AnswerFraming::Chunked => self.read_chunked(&mut from)?,
        }
        if !matches!(shape.framing, AnswerFraming::Nothing) {
            self.length = Some(self.body.len() as u64);
        }
        if from.buffer.filled().is_empty() { Ok(()) } else { Err(odd("bytes after the answer")) }
    }

    /// The answer as the client gets it. `keep_alive` says whether the connection stays.
    pub fn write(&self, version: Version, keep_alive: bool, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.head);
        if let Some(length) = self.length {
            out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        let connection: &[u8] = match (keep_alive, version) {
            (false, _) => b"Connection: close\r\n\r\n",
            (true, Version::Http10) => b"Connection: keep-alive\r\n\r\n",
            (true, Version::Http11) => b"\r\n",
        };
        out.extend_from_slice(connection);
        out.extend_from_slice(&self.body);
    }

    /// Gives back what a large answer needed.
    pub fn shrink(&mut self) {
        if self.body.capacity() > HEAD_BYTES_MAX {
            self.body = Vec::new();
        }
    }

    fn read_head(&mut self, bytes: &[u8], to_head: bool) -> io::Result<Option<Shape>> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = Response::new(&mut headers);
        let head_bytes = match response.parse(bytes) {
            Ok(Status::Complete(head_bytes)) => head_bytes,
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err(odd("not an answer")),
        };
        let status =
            response.code.filter(|code| (200..600).contains(code)).ok_or_else(|| odd("not a status"))?;
        let framing = framing_of(response.headers)?;
        self.length = match (status, &framing) {
            (204 | 304, _) => None,
            (_, AnswerFraming::Length(length)) => Some(*length),
            _ => None,
        };
        self.upstream_stays =
            !values(response.headers, "connection").any(|value| value.eq_ignore_ascii_case(b"close"));
        self.copy_head(status, &response);
        let is_bodyless = to_head || matches!(status, 204 | 304);
        let framing = match framing {
            _ if is_bodyless => AnswerFraming::Nothing,
            AnswerFraming::Nothing => return Err(odd("an answer without a length")),
            framing => framing,
        };
        Ok(Some(Shape { head_bytes, framing }))
    }

    fn copy_head(&mut self, status: u16, response: &Response<'_, '_>) {
        self.head.clear();
        let reason = response.reason.unwrap_or_default();
        self.head.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
        for header in response.headers.iter() {
            if !DROPPED.iter().any(|dropped| header.name.eq_ignore_ascii_case(dropped)) {
                self.head.extend_from_slice(header.name.as_bytes());
                self.head.extend_from_slice(b": ");
                self.head.extend_from_slice(header.value);
                self.head.extend_from_slice(b"\r\n");
            }
        }
    }

    fn read_exactly<S: Timed>(&mut self, from: &mut Incoming<'_, S>, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| odd("the body is too long"))?;
        loop {
            let here = from.buffer.filled().len().min(length - self.body.len());
            self.body.extend_from_slice(&from.buffer.filled()[..here]);
            from.buffer.consume(here);
            if self.body.len() == length {
                return Ok(());
            }
            from.fill()?;
        }
    }

    fn read_chunked<S: Timed>(&mut self, from: &mut Incoming<'_, S>) -> io::Result<()> {
        let mut chunked = Chunked::new(BODY_BYTES_MAX);
        loop {
            let decoded = chunked.decode(from.buffer.filled(), &mut self.body);
            from.buffer.consume(decoded.map_err(|refusal| odd(refusal.detail))?);
            if chunked.is_done() {
                return Ok(());
            }
            from.fill()?;
        }
    }
}

fn framing_of(headers: &[httparse::Header<'_>]) -> io::Result<AnswerFraming> {
    let mut codings = values(headers, "transfer-encoding");
    let mut lengths = values(headers, "content-length");
    match (codings.next(), lengths.next(), lengths.next()) {
        (None, None, _) => Ok(AnswerFraming::Nothing),
        (Some(coding), None, _) if coding.eq_ignore_ascii_case(b"chunked") => Ok(AnswerFraming::Chunked),
        (None, Some(length), None) if length.iter().all(u8::is_ascii_digit) => {
            let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
            let length = length.filter(|&length| length <= BODY_BYTES_MAX);
            length.map(AnswerFraming::Length).ok_or_else(|| odd("the body is too long"))
        }
        _ => Err(odd("unclear framing")),
    }
}

fn odd(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn relay(raw: &str, to_head: bool) -> Result<String, ErrorKind> {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        theirs.write_all(raw.as_bytes()).expect("room for the answer");
        drop(theirs);
        let mut answer = Answer::default();
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut stream = Deadlined::new(ours);
        let from = Incoming { stream: &mut stream, buffer: &mut Buffer::default(), deadline };
        let read = answer.read(from, to_head);
        let mut out = Vec::new();
        answer.write(Version::Http11, false, &mut out);
        read.map(|()| String::from_utf8(out).expect("text")).map_err(|error| error.kind())
    }

    #[test]
    fn answers_are_written_anew() {
        let check = |raw: &str, to_head, expect: &str| {
            assert_eq!(relay(raw, to_head).as_deref(), Ok(expect), "{raw:?}");
        };
        check(
            "HTTP/1.1 200 OK\r\nServer: tiny\r\nDate: today\r\nContent-Length: 2\r\n\r\nok",
            false,
            "HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        );
        check(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nlow\r\n0\r\n\r\n",
            false,
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nContent-Length: 3\r\nConnection: close\r\n\r\nlow",
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
            true,
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n",
        );
        check(
            "HTTP/1.1 204 No Content\r\n\r\n",
            false,
            "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        );
    }

    #[test]
    fn odd_answers_are_not_relayed() {
        let check = |raw: &str, expect| assert_eq!(relay(raw, false), Err(expect), "{raw:?}");
        check("", ErrorKind::UnexpectedEof);
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", ErrorKind::UnexpectedEof);
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP", ErrorKind::InvalidData);
        check("HTTP/1.1 200 OK\r\n\r\nok", ErrorKind::InvalidData);
        check("HTTP/1.1 100 Continue\r\n\r\n", ErrorKind::InvalidData);
        check("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", ErrorKind::InvalidData);
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
            ErrorKind::InvalidData,
        );
        check("hello\r\n\r\n", ErrorKind::InvalidData);
    }
}
