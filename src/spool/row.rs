//! How rows of the queue are written. What is not in a block, which has a checksum, starts with the CRC-32 of the
//! rest: sled can return wrong bytes, and must not be believed.

use super::codec::{Decoder, Encoder, Malformed};
use super::envelope::{Entry, Hash, Id, Place, State, Try, decode_tries, encode_tries};
use crate::clock::Timestamp;

/// An envelope that left the spool, as `show` and the status page remember it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// Name of the source.
    pub source: String,
    /// Its event's kind.
    pub kind: String,
    /// Its event's id.
    pub event_id: String,
    /// Its conversation.
    pub conversation: String,
    /// When its request came in.
    pub received_at: Timestamp,
    /// When it left.
    pub settled_at: Timestamp,
    /// The ticket it went to; none when the plan was empty or an admin dropped it.
    pub ticket: Option<u64>,
    /// An admin gave it up.
    pub dropped: bool,
    /// Its last attempts.
    pub tries: Vec<Try>,
}

impl Settled {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for text in [&self.source, &self.kind, &self.event_id, &self.conversation] {
            encoder.text(text);
        }
        encoder.u64(self.received_at.0).u64(self.settled_at.0).option_u64(self.ticket);
        encoder.u8(u8::from(self.dropped));
        encode_tries(&self.tries, &mut encoder);
        encoder.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Settled, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let settled = Settled {
            source: decoder.text()?,
            kind: decoder.text()?,
            event_id: decoder.text()?,
            conversation: decoder.text()?,
            received_at: Timestamp(decoder.u64()?),
            settled_at: Timestamp(decoder.u64()?),
            ticket: decoder.option_u64()?,
            dropped: decoder.u8()? == 1,
            tries: decode_tries(&mut decoder)?,
        };
        decoder.end()?;
        Ok(settled)
    }
}

/// The entry as it is: anything may be set.
const WHOLE: u8 = 0;
/// Nothing has happened to it yet, so most of it need not be said.
const UNTOUCHED: u8 = 1;

/// An entry's row.
pub fn entry(entry: &Entry) -> Vec<u8> {
    let mut encoder = Encoder::default();
    match (u32::try_from(entry.place.segment), u32::try_from(entry.place.offset)) {
        (Ok(segment), Ok(offset)) if *entry == untouched(entry) => {
            encoder.u8(UNTOUCHED).u32(segment).u32(offset).u32(entry.place.length);
            encoder.hash(&entry.conversation).u64(entry.received_at.0).raw(entry.source.as_bytes());
        }
        _ => {
            encoder.u8(WHOLE).raw(&entry.encode());
        }
    }
    encoder.finish()
}

/// An entry from its row.
pub fn entry_of(value: &[u8]) -> Result<Entry, Malformed> {
    let (kind, rest) = value.split_first().ok_or(Malformed)?;
    match *kind {
        WHOLE => Entry::decode(rest),
        UNTOUCHED => {
            let mut decoder = Decoder::new(rest);
            let (segment, offset) = (u64::from(decoder.u32()?), u64::from(decoder.u32()?));
            let place = Place { segment, offset, length: decoder.u32()? };
            let (conversation, received_at) = (decoder.hash()?, Timestamp(decoder.u64()?));
            let source = String::from_utf8(decoder.rest().to_vec()).map_err(|_| Malformed)?;
            Ok(Entry { place, conversation, received_at, source, ..fresh(received_at) })
        }
        _ => Err(Malformed),
    }
}

/// What an entry that nothing has happened to would look like.
fn untouched(entry: &Entry) -> Entry {
    Entry {
        place: entry.place,
        conversation: entry.conversation,
        source: entry.source.clone(),
        ..fresh(entry.received_at)
    }
}

fn fresh(received_at: Timestamp) -> Entry {
    Entry {
        place: Place { segment: 0, offset: 0, length: 0 },
        state: State::Queued,
        conversation: Hash::default(),
        source: String::new(),
        received_at,
        due: received_at,
        attempts: 0,
        step: 0,
        ticket: None,
        opened: false,
        doubt: None,
        reason: String::new(),
        tries: Vec::new(),
    }
}

/// Bytes of an identity that are kept, for every event of a week. That two events agree in eighty bits will not happen,
/// and nobody can make it happen.
pub const IDENTITY_BYTES: usize = 10;

/// When an identity is forgotten: milliseconds in six bytes, the highest first, which those of a block share.
pub fn expiry(expires: Timestamp) -> [u8; 6] {
    let millis = expires.0.min((1 << 48) - 1).to_be_bytes();
    millis[2..].try_into().expect("six of eight")
}

/// When an identity is forgotten, from its row.
pub fn expiry_of(value: &[u8]) -> Result<Timestamp, Malformed> {
    let value: &[u8; 6] = value.try_into().map_err(|_| Malformed)?;
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(value);
    Ok(Timestamp(u64::from_be_bytes(millis)))
}

/// A payload behind its checksum.
pub fn sealed(payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(4 + payload.len());
    value.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    value.extend_from_slice(payload);
    value
}

/// The payload, if its checksum is right.
pub fn checked(value: &[u8]) -> Result<&[u8], Malformed> {
    let (checksum, payload) = value.split_at_checked(4).ok_or(Malformed)?;
    if checksum == crc32fast::hash(payload).to_le_bytes() { Ok(payload) } else { Err(Malformed) }
}

/// A number that is a key.
pub fn number(key: &[u8]) -> Result<Id, Malformed> {
    Ok(u64::from_be_bytes(key.try_into().map_err(|_| Malformed)?))
}

/// The key of a period of a ring.
pub fn period_key(ring: u8, number: u64) -> [u8; 9] {
    let mut key = [ring; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_short_or_whole() {
        let mut standing = Entry {
            place: Place { segment: 7, offset: 64, length: 2300 },
            conversation: [3; 16],
            source: "ventas".to_owned(),
            ..fresh(Timestamp(1_763_712_000_123))
        };
        let short = entry(&standing);
        assert_eq!((entry_of(&short).as_ref(), short.len()), (Ok(&standing), 43));
        standing.attempts = 1;
        assert_eq!(entry_of(&entry(&standing)), Ok(standing.clone()));
        standing.place.segment = u64::from(u32::MAX) + 1;
        assert_eq!(entry_of(&entry(&standing)), Ok(standing));
    }

    #[test]
    fn what_is_no_row_is_malformed() {
        assert_eq!(expiry_of(&expiry(Timestamp(1_763_712_000_123))), Ok(Timestamp(1_763_712_000_123)));
        assert_eq!(expiry_of(&[]), Err(Malformed));
        assert_eq!(entry_of(&[]), Err(Malformed));
        let mut row = sealed(b"period");
        assert_eq!(checked(&row), Ok(&b"period"[..]));
        row[5] ^= 4;
        assert_eq!(checked(&row), Err(Malformed));
    }
}
