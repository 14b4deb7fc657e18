//! The attempts of an envelope, as they are remembered one by one.

use crate::clock::Timestamp;
use crate::spool::codec::{Decoder, Encoder, Malformed};
use std::time::Duration;

/// What is said of an attempt whose end was never recorded.
pub(super) const CUT_OFF: &str = "cut off by a restart";

/// How many attempts of an envelope are remembered one by one.
pub const TRIES_KEPT: usize = 12;

/// One attempt, for `deskspool show`.
#[derive(Clone, Debug, PartialEq)]
pub struct Try {
    /// 1 for the first.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What it came to.
    pub ended: Ended,
    /// One line for admins; empty when delivered.
    pub reason: String,
}

impl Try {
    /// It began, and the process ended before it did.
    pub fn is_cut_off(&self) -> bool {
        self.reason == CUT_OFF
    }
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Freshdesk has it.
    Delivered,
    /// Surely not done.
    Deferred,
    /// Freshdesk, or the mapping, said no.
    Rejected,
    /// Nobody knows.
    Unknown,
}

impl Ended {
    fn from_byte(byte: u8) -> Result<Ended, Malformed> {
        let all = [Ended::Delivered, Ended::Deferred, Ended::Rejected, Ended::Unknown];
        all.get(usize::from(byte)).copied().ok_or(Malformed)
    }

    /// The word admins read.
    pub fn word(self) -> &'static str {
        match self {
            Ended::Delivered => "delivered",
            Ended::Deferred => "deferred",
            Ended::Rejected => "rejected",
            Ended::Unknown => "unknown",
        }
    }
}

impl Try {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.u32(self.number).u64(self.at.0).duration(self.took).u8(self.ended as u8).text(&self.reason);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Try, Malformed> {
        Ok(Try {
            number: decoder.u32()?,
            at: Timestamp(decoder.u64()?),
            took: decoder.duration()?,
            ended: Ended::from_byte(decoder.u8()?)?,
            reason: decoder.text()?,
        })
    }
}

pub(in crate::spool) fn encode_tries(tries: &[Try], encoder: &mut Encoder) {
    encoder.u32(u32::try_from(tries.len()).expect("at most TRIES_KEPT"));
    for one in tries {
        one.encode(encoder);
    }
}

pub(in crate::spool) fn decode_tries(decoder: &mut Decoder<'_>) -> Result<Vec<Try>, Malformed> {
    let count = decoder.u32()? as usize;
    if count > TRIES_KEPT {
        return Err(Malformed);
    }
    (0..count).map(|_| Try::decode(decoder)).collect()
}
