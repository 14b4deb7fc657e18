//! The strict head parser: bytes in, a [`Head`] or a [`Refusal`] out. Pure, so that it can be fuzzed.
//!
//! **Invariant:** a head that passes has exactly one reading. Whatever two servers could read
//! differently (a bare CR or LF, a folded line, both framings, two lengths, a signed length, a coding
//! that only ends in `chunked`) is refused, because requests are smuggled through such differences.

use std::ops::Range;

use httparse::{EMPTY_HEADER, Header, Status};

use crate::gate::limits::TARGET_BYTES_MAX;
use crate::gate::refusal::{Reason, Refusal};

/// RFC 9112 §2.2 asks servers to ignore an empty line before the request line; old clients send one
/// after a body.
const LEADING_EMPTY_LINES_MAX: usize = 2;

/// Looks for the end of a head in bytes that are still arriving, and at each byte only once.
#[derive(Debug, Default)]
pub struct HeadScan {
    at: usize,
    line_start: usize,
    head_start: usize,
    leading_empty_lines: usize,
}

impl HeadScan {
    /// Goes on over `bytes` (all that arrived so far, from the same start each time). Gives the place of
    /// the head once its last byte is there; refuses at the first byte that no head contains.
    pub fn advance(&mut self, bytes: &[u8], head_bytes_max: usize) -> Result<Option<Range<usize>>, Refusal> {
        while let Some(&byte) = bytes.get(self.at) {
            match (byte, bytes.get(self.at + 1)) {
                (b'\r', None) => break,
                (b'\r', Some(b'\n')) => {
                    if let Some(head) = self.end_line()? {
                        return self.within(head_bytes_max).map(|()| Some(head));
                    }
                }
                (b'\r', Some(_)) => return Err(Reason::Malformed.because("bare CR in head")),
                (b'\n', _) => return Err(Reason::Malformed.because("bare LF in head")),
                (b'\t' | b' '..=b'~' | 0x80.., _) => self.at += 1,
                _ => return Err(Reason::Malformed.because("control character in head")),
            }
        }
        self.within(head_bytes_max).map(|()| None)
    }

    /// Passes a CRLF; the head is complete when its line was empty.
    fn end_line(&mut self) -> Result<Option<Range<usize>>, Refusal> {
        let is_empty = self.at == self.line_start;
        let is_leading = self.line_start == self.head_start;
        self.at += 2;
        self.line_start = self.at;
        if is_empty && is_leading {
            self.leading_empty_lines += 1;
            if self.leading_empty_lines > LEADING_EMPTY_LINES_MAX {
                return Err(Reason::Malformed.because("empty lines instead of a request"));
            }
            self.head_start = self.at;
            return Ok(None);
        }
        Ok(is_empty.then_some(self.head_start..self.at))
    }

    fn within(&self, head_bytes_max: usize) -> Result<(), Refusal> {
        let length = self.at - self.head_start;
        if self.line_start == self.head_start && length > TARGET_BYTES_MAX.min(head_bytes_max) {
            return Err(Reason::TargetTooLong.because("endless request line"));
        }
        if length > head_bytes_max {
            return Err(Reason::HeadTooLarge.because("endless head"));
        }
        Ok(())
    }
}

/// The two versions that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: closes by default, knows neither chunked nor `Expect`.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A head that every server would read the same way.
#[derive(Debug)]
pub struct Head<'a> {
    /// A token; never CONNECT or TRACE.
    pub method: &'a str,
    /// Path and query (or `*`) as sent; an absolute form is already reduced, and then may lack its `/`.
    pub target: &'a [u8],
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The authority of an absolute target, else the `Host` header.
    pub host: Option<&'a str>,
    /// Every header line as sent.
    pub headers: Vec<Header<'a>>,
    /// How the body is framed.
    pub framing: Framing,
    /// The client may send another request on this connection.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

impl<'a> Head<'a> {
    /// Reads a complete head as [`HeadScan`] found it: request line, headers, empty line.
    pub fn parse(bytes: &'a [u8], headers_max: usize) -> Result<Head<'a>, Refusal> {
        let (line, rest) = split_line(bytes).ok_or(Reason::Malformed.because("no request line"))?;
        let (method, target, version) = parse_request_line(line)?;
        let (target, authority) = parse_target(method, target)?;
        let headers = parse_headers(rest, headers_max)?;
        let host = parse_host(&headers, version)?;
        let framing = parse_framing(&headers, version)?;
        let keep_alive = parse_keep_alive(&headers, version);
        let expects_continue = parse_expectation(&headers, version)?;
        let host = authority.or(host);
        Ok(Head { method, target, version, host, headers, framing, keep_alive, expects_continue })
    }
}

/// The values of a header that may come more than once, in order.
pub(crate) fn values<'h, 'a>(
    headers: &'h [Header<'a>],
    name: &'static str,
) -> impl Iterator<Item = &'a [u8]> + use<'h, 'a> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

fn parse_request_line(line: &[u8]) -> Result<(&str, &[u8], Version), Refusal> {
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Reason::Malformed.because("the request line is not three words"));
    };
    let version = parse_version(version)?;
    let method = std::str::from_utf8(method).ok().filter(|method| is_token(method));
    let method = method.ok_or(Reason::Malformed.because("the method is not a token"))?;
    if matches!(method, "CONNECT" | "TRACE") {
        return Err(Reason::MethodNotAllowed.because("CONNECT or TRACE"));
    }
    Ok((method, target, version))
}

fn parse_version(word: &[u8]) -> Result<Version, Refusal> {
    match word {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Reason::VersionUnsupported.because("neither HTTP/1.0 nor HTTP/1.1"))
        }
        _ => Err(Reason::Malformed.because("no HTTP version")),
    }
}

/// The target without scheme and authority, and the authority if there was one.
fn parse_target<'a>(method: &str, target: &'a [u8]) -> Result<(&'a [u8], Option<&'a str>), Refusal> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(Reason::TargetTooLong.because("long target"));
    }
    match target {
        _ if target.contains(&b'\t') => Err(Reason::Malformed.because("tab in the request line")),
        [b'/', ..] => Ok((target, None)),
        b"*" if method == "OPTIONS" => Ok((target, None)),
        _ => parse_absolute_target(target),
    }
}

fn parse_absolute_target(target: &[u8]) -> Result<(&[u8], Option<&str>), Refusal> {
    let scheme_end = ["http://", "https://"].into_iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(scheme.len())
    });
    let rest = scheme_end.map(|end| &target[end..]).ok_or(Reason::Malformed.because("not a target"))?;
    let authority_end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let authority = as_host(authority).filter(|authority| !authority.is_empty());
    let authority = authority.ok_or(Reason::Malformed.because("an absolute target without a host"))?;
    Ok((path, Some(authority)))
}

fn parse_headers(bytes: &[u8], headers_max: usize) -> Result<Vec<Header<'_>>, Refusal> {
    let mut headers = vec![EMPTY_HEADER; headers_max];
    let (length, count) = match httparse::parse_headers(bytes, &mut headers) {
        Ok(Status::Complete((length, found))) => (length, found.len()),
        Err(httparse::Error::TooManyHeaders) => return Err(Reason::HeadTooLarge.because("too many headers")),
        Ok(Status::Partial) | Err(_) => return Err(Reason::Malformed.because("not a header line")),
    };
    headers.truncate(count);
    if length != bytes.len() || headers.iter().any(|header| !is_token(header.name)) {
        return Err(Reason::Malformed.because("not a header name"));
    }
    Ok(headers)
}

fn parse_host<'a>(headers: &[Header<'a>], version: Version) -> Result<Option<&'a str>, Refusal> {
    let mut hosts = values(headers, "host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => as_host(host).map(Some).ok_or(Reason::Malformed.because("not a host")),
        (None, _) if version == Version::Http10 => Ok(None),
        (None, _) => Err(Reason::Malformed.because("no host")),
        (Some(_), Some(_)) => Err(Reason::Malformed.because("two hosts")),
    }
}

fn parse_framing(headers: &[Header<'_>], version: Version) -> Result<Framing, Refusal> {
    let mut codings = values(headers, "transfer-encoding");
    let mut lengths = values(headers, "content-length");
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (None, _, None, _) => Ok(Framing::Empty),
        (None, _, Some(length), None) => parse_length(length),
        (None, _, Some(_), Some(_)) => Err(Reason::Malformed.because("two lengths")),
        (Some(_), _, Some(_), _) => Err(Reason::Malformed.because("a length and a transfer coding")),
        (Some(_), Some(_), ..) => Err(Reason::Malformed.because("two transfer codings")),
        (Some(_), ..) if version == Version::Http10 => {
            Err(Reason::Malformed.because("a transfer coding in HTTP/1.0"))
        }
        (Some(coding), ..) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), ..) => Err(Reason::Malformed.because("a transfer coding other than chunked")),
    }
}

fn parse_length(value: &[u8]) -> Result<Framing, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Reason::Malformed.because("the length is not a number"));
    }
    let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    match length.ok_or(Reason::Malformed.because("the length is no 64-bit number"))? {
        0 => Ok(Framing::Empty),
        length => Ok(Framing::Length(length)),
    }
}

fn parse_keep_alive(headers: &[Header<'_>], version: Version) -> bool {
    let (mut closes, mut keeps) = (false, false);
    for option in connection_options(headers) {
        closes |= option.eq_ignore_ascii_case(b"close");
        keeps |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    !closes && (keeps || version == Version::Http11)
}

/// The comma-separated words of all `Connection` headers.
pub(crate) fn connection_options<'h, 'a>(
    headers: &'h [Header<'a>],
) -> impl Iterator<Item = &'a [u8]> + use<'h, 'a> {
    let words = values(headers, "connection").flat_map(|value| value.split(|&byte| byte == b','));
    words.map(|word| word.trim_ascii())
}

fn parse_expectation(headers: &[Header<'_>], version: Version) -> Result<bool, Refusal> {
    let mut expectations = values(headers, "expect");
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(false),
        _ if version == Version::Http10 => Ok(false),
        (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Reason::ExpectationUnknown.because("an expectation other than 100-continue")),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A host with an optional port: no user, no path, no spaces, no list.
fn as_host(bytes: &[u8]) -> Option<&str> {
    let is_host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    let text = std::str::from_utf8(bytes).ok()?;
    bytes.iter().all(is_host_byte).then_some(text)
}
