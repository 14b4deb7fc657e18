//! The strict chunked decoder, used for what clients send and for what tiny_http answers.
//!
//! Chunk extensions and trailers are bounded and thrown away. Nothing else is forgiven: a size is
//! hexadecimal digits only, and every line ends in CRLF.

use crate::gate::refusal::{Reason, Refusal};

/// Digits of a chunk size; more could not be held by a memory anyway.
const SIZE_DIGITS_MAX: usize = 15;

/// One size line with its extensions.
const EXTENSION_BYTES_MAX: usize = 256;

/// All trailer lines together.
const TRAILER_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: usize },
    Extension { length: usize },
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastLf,
    Done,
}

/// Decodes one body, however its bytes are cut into pieces.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// Bytes of the current chunk that have not come yet.
    left: u64,
    /// Sizes of all chunks announced so far.
    announced: u64,
    body_bytes_max: u64,
    trailer_bytes: usize,
}

impl Chunked {
    /// A decoder at the start of a body that may hold `body_bytes_max` bytes.
    pub fn new(body_bytes_max: u64) -> Chunked {
        let state = State::Size { digits: 0 };
        Chunked { state, left: 0, announced: 0, body_bytes_max, trailer_bytes: 0 }
    }

    /// The last byte of the body's framing has been seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes `input`, appends the data to `body`, and says how many bytes of `input` belonged to this
    /// body. At most `input.len()` bytes are appended.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, Refusal> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Done => break,
                State::Data => {
                    let rest = &input[at..];
                    let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                    body.extend_from_slice(&rest[..length]);
                    self.left -= length as u64;
                    at += length;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                }
                _ => {
                    self.state = self.step(byte)?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    /// One byte that is not data.
    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        match (self.state, byte) {
            (State::Size { digits }, _) => self.step_size(digits, byte),
            (State::Extension { length }, b'\t' | b' '..=b'~') if length < EXTENSION_BYTES_MAX => {
                Ok(State::Extension { length: length + 1 })
            }
            (State::Extension { .. }, b'\r') => Ok(State::SizeEnd),
            (State::SizeEnd, b'\n') if self.left == 0 => Ok(State::TrailerStart),
            (State::SizeEnd, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size { digits: 0 }),
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::Done),
            (State::Trailer, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerEnd, b'\n') => Ok(State::TrailerStart),
            (State::TrailerStart | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => self.step_trailer(),
            _ => Err(Reason::Malformed.because("broken chunk")),
        }
    }

    fn step_size(&mut self, digits: usize, byte: u8) -> Result<State, Refusal> {
        match (char::from(byte).to_digit(16), byte) {
            (Some(value), _) if digits < SIZE_DIGITS_MAX => {
                self.left = self.left * 16 + u64::from(value);
                Ok(State::Size { digits: digits + 1 })
            }
            (None, b'\r') if digits > 0 => self.announce(State::SizeEnd),
            (None, b';') if digits > 0 => self.announce(State::Extension { length: 0 }),
            _ => Err(Reason::Malformed.because("not a chunk size")),
        }
    }

    /// The size of a chunk is complete: too much is refused before it comes.
    fn announce(&mut self, next: State) -> Result<State, Refusal> {
        self.announced += self.left;
        if self.announced > self.body_bytes_max {
            return Err(Reason::BodyTooLarge.because("chunks exceed the limit"));
        }
        Ok(next)
    }

    fn step_trailer(&mut self) -> Result<State, Refusal> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Reason::HeadTooLarge.because("endless trailer"));
        }
        Ok(State::Trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in one piece and byte by byte; both must agree.
    fn decode(input: &[u8], body_bytes_max: u64) -> Result<(Vec<u8>, usize, bool), Reason> {
        let whole = decode_in_pieces(input, input.len().max(1), body_bytes_max);
        assert_eq!(whole, decode_in_pieces(input, 1, body_bytes_max), "{}", input.escape_ascii());
        whole
    }

    fn decode_in_pieces(input: &[u8], piece: usize, max: u64) -> Result<(Vec<u8>, usize, bool), Reason> {
        let (mut chunked, mut body, mut used) = (Chunked::new(max), Vec::new(), 0);
        for piece in input.chunks(piece) {
            used += chunked.decode(piece, &mut body).map_err(|refusal| refusal.reason)?;
        }
        Ok((body, used, chunked.is_done()))
    }

    #[test]
    fn well_formed_bodies() {
        let check = |input: &str, body: &str, rest: &str, done| {
            let expect = Ok((body.as_bytes().to_vec(), input.len() - rest.len(), done));
            assert_eq!(decode(input.as_bytes(), 100), expect, "{input:?}");
        };
        check("0\r\n\r\n", "", "", true);
        check("5\r\nhello\r\n0\r\n\r\nGET /", "hello", "GET /", true);
        check("5;name=\"value\"\r\nhello\r\n00\r\n\r\n", "hello", "", true);
        check("A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n", "01234567890123456789a", "", true);
        check("1\r\nx\r\n0\r\nDigest: abc\r\nX: y\r\n\r\n", "x", "", true);
        check("5\r\nhel", "hel", "", false);
        check("5\r\nhello\r\n0\r\n", "hello", "", false);
    }

    #[test]
    fn broken_bodies() {
        let check = |input: &str, expect: Reason| {
            assert_eq!(decode(input.as_bytes(), 100), Err(expect), "{input:?}");
        };
        check("\r\n", Reason::Malformed);
        check("5\nhello\r\n0\r\n\r\n", Reason::Malformed);
        check("+5\r\nhello\r\n", Reason::Malformed);
        check("-1\r\n", Reason::Malformed);
        check("0x5\r\nhello\r\n", Reason::Malformed);
        check("5 \r\nhello\r\n", Reason::Malformed);
        check("5\r\nhelloX\n0\r\n\r\n", Reason::Malformed);
        check("5\r\nhello\n0\r\n\r\n", Reason::Malformed);
        check("5;a\nb\r\nhello\r\n0\r\n\r\n", Reason::Malformed);
        check("0\r\n\n", Reason::Malformed);
        check("0\r\nX: \0\r\n\r\n", Reason::Malformed);
        check("65\r\n", Reason::BodyTooLarge);
        check("FFFFFFFFFFFFFFF\r\n", Reason::BodyTooLarge);
        check("FFFFFFFFFFFFFFFF\r\n", Reason::Malformed);
        check(&format!("5;{}\r\n", "x".repeat(300)), Reason::Malformed);
        check(&format!("0\r\nX: {}", "y".repeat(5000)), Reason::HeadTooLarge);
    }
}
