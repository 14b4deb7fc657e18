//! What was read from a stream and not used yet.

use std::io;
use std::time::Instant;

use crate::gate::stream::{Deadlined, Timed};

/// Room for the first read, enough for an ordinary webhook; all that an idle connection keeps.
const FIRST_BYTES: usize = 4 * 1024;

/// Bytes between the stream and the parser. Grows only when it is full.
#[derive(Debug, Default)]
pub struct Buffer {
    /// Its whole length is initialised; the bytes in use are `start..end`.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What has come and was not consumed.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The first `count` bytes of [`Buffer::filled`] are done with.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once; zero means that the peer is done.
    pub fn fill<S: Timed>(&mut self, stream: &mut Deadlined<S>, deadline: Instant) -> io::Result<usize> {
        self.make_room();
        let count = stream.read(&mut self.bytes[self.end..], deadline)?;
        self.end += count;
        Ok(count)
    }

    /// Gives back what a large request needed.
    pub fn shrink(&mut self) {
        if self.end == 0 && self.bytes.len() > FIRST_BYTES {
            self.bytes = Vec::new();
        }
    }

    fn make_room(&mut self) {
        if self.end < self.bytes.len() {
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else {
            let length = (self.bytes.len() * 2).max(FIRST_BYTES);
            self.bytes.reserve_exact(length - self.bytes.len());
            self.bytes.resize(length, 0);
        }
    }
}
