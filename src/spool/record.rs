//! One record of the journal: a 28-byte header, then the payload.
//!
//! | bytes | what |
//! |---|---|
//! | 0–3 | magic `DSP1` |
//! | 4–7 | payload length, `u32` |
//! | 8–11 | CRC-32 (IEEE) of the spool's identity, bytes 12–27, the length and the payload |
//! | 12 | version of the record, 1 |
//! | 13 | kind: 1 put, 2–9 a change, 10 void, 11 standing |
//! | 14–15 | index of the record in its group, `u16` |
//! | 16–17 | records in its group less one, `u16` |
//! | 18–19 | check of the head alone, so that garbage does not make a reader fetch megabytes |
//! | 20–27 | sequence number, `u64`, one more for each record |
//!
//! Numbers are little-endian. The checksum starts with the spool's secret identity, so that no sender can
//! smuggle a record inside a body and have it believed after damage.

use super::codec::{Decoder, Encoder, Malformed};
use super::envelope::{Change, Entry, Envelope, Id};
use thiserror::Error;

pub const HEADER_LENGTH: usize = 28;
pub const MAGIC: [u8; 4] = *b"DSP1";
const VERSION: u8 = 1;
const KIND_PUT: u8 = 1;
const KIND_VOID: u8 = 10;
const KIND_STANDING: u8 = 11;

/// 16 random bytes made when the spool was created.
pub type Identity = [u8; 16];

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// An event came in.
    Put(Envelope),
    /// Something happened to an envelope.
    Change(Id, Change),
    /// Their sync failed: these puts were answered 503 and are not to be delivered, and no record since
    /// `from_sequence` holds. The changes among them follow once more.
    Void {
        /// First number.
        first: Id,
        /// Last number, included.
        last: Id,
        /// Sequence number of the first record that does not hold; the last is the one before this record.
        from_sequence: u64,
    },
    /// How an envelope stood when its put was copied forward; follows the copy.
    Standing(Id, Entry),
}

/// A record's place in its group and in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    pub sequence: u64,
    /// 0 for the first record of a request.
    pub index: u16,
    /// Records of the request less one.
    pub last_index: u16,
}

/// Why bytes are not a record.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unreadable {
    /// The bytes end before the record does: a torn write, or the end.
    #[error("cut short")]
    Short,
    /// The header or the checksum is wrong.
    #[error("checksum does not match")]
    Damaged,
    /// A newer deskspool wrote it.
    #[error("record version {0} was written by a newer deskspool")]
    Newer(u8),
}

impl From<Malformed> for Unreadable {
    fn from(_: Malformed) -> Self {
        Unreadable::Damaged
    }
}

impl Record {
    /// Appends the record's bytes to `out`.
    pub fn encode(&self, identity: &Identity, numbering: Numbering, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEADER_LENGTH, 0);
        let mut encoder = Encoder::onto(std::mem::take(out));
        let kind = match self {
            Record::Put(envelope) => {
                envelope.encode(&mut encoder);
                KIND_PUT
            }
            Record::Change(id, change) => {
                encoder.raw(&change.encode(*id));
                change.kind()
            }
            Record::Void { first, last, from_sequence } => {
                encoder.u64(*first).u64(*last).u64(*from_sequence);
                KIND_VOID
            }
            Record::Standing(id, entry) => {
                encoder.u64(*id).bytes(&entry.encode());
                KIND_STANDING
            }
        };
        *out = encoder.finish();
        let (header, payload) = out[start..].split_at_mut(HEADER_LENGTH);
        let mut tail = [0; 16];
        tail[0] = VERSION;
        tail[1] = kind;
        tail[2..4].copy_from_slice(&numbering.index.to_le_bytes());
        tail[4..6].copy_from_slice(&numbering.last_index.to_le_bytes());
        tail[8..16].copy_from_slice(&numbering.sequence.to_le_bytes());
        let length = u32::try_from(payload.len()).expect("bodies are bounded far below 4 GiB").to_le_bytes();
        let check = head_check(identity, &tail, length);
        tail[6..8].copy_from_slice(&check);
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&length);
        header[8..12].copy_from_slice(&checksum(identity, &tail, length, payload).to_le_bytes());
        header[12..].copy_from_slice(&tail);
    }

    /// Reads the record at the front of `bytes`; also how many bytes it takes.
    pub fn decode(identity: &Identity, bytes: &[u8]) -> Result<(Record, Numbering, usize), Unreadable> {
        let header = bytes.get(..HEADER_LENGTH).ok_or(Unreadable::Short)?;
        if header[..4] != MAGIC {
            return Err(Unreadable::Damaged);
        }
        let length = array::<4>(&header[4..8]);
        if !Record::head_is_sound(identity, header) {
            return Err(Unreadable::Damaged);
        }
        // On 32 bits a damaged length may be past all memory.
        let end = HEADER_LENGTH.saturating_add(u32::from_le_bytes(length) as usize);
        let payload = bytes.get(HEADER_LENGTH..end).ok_or(Unreadable::Short)?;
        let tail = array::<16>(&header[12..28]);
        if checksum(identity, &tail, length, payload) != u32::from_le_bytes(array(&header[8..12])) {
            return Err(Unreadable::Damaged);
        }
        if tail[0] != VERSION {
            return Err(Unreadable::Newer(tail[0]));
        }
        let numbering = Numbering {
            sequence: u64::from_le_bytes(array(&tail[8..16])),
            index: u16::from_le_bytes(array(&tail[2..4])),
            last_index: u16::from_le_bytes(array(&tail[4..6])),
        };
        Ok((Record::of_kind(tail[1], payload)?, numbering, end))
    }

    /// Whether `header` may begin a record of this spool; its payload has not been looked at.
    pub fn head_is_sound(identity: &Identity, header: &[u8]) -> bool {
        let (length, tail) = (array::<4>(&header[4..8]), array::<16>(&header[12..28]));
        header[..4] == MAGIC && tail[6..8] == head_check(identity, &tail, length)
    }

    fn of_kind(kind: u8, payload: &[u8]) -> Result<Record, Malformed> {
        match kind {
            KIND_PUT => Envelope::decode(payload).map(Record::Put),
            KIND_VOID => {
                let mut decoder = Decoder::new(payload);
                let (first, last, from_sequence) = (decoder.u64()?, decoder.u64()?, decoder.u64()?);
                decoder.end().map(|()| Record::Void { first, last, from_sequence })
            }
            KIND_STANDING => {
                let mut decoder = Decoder::new(payload);
                let (id, entry) = (decoder.u64()?, Entry::decode(decoder.bytes()?)?);
                decoder.end().map(|()| Record::Standing(id, entry))
            }
            _ => Change::decode(kind, payload).map(|(id, change)| Record::Change(id, change)),
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice was cut to this length")
}

fn head_check(identity: &Identity, tail: &[u8; 16], length: [u8; 4]) -> [u8; 2] {
    let mut hasher = crc32fast::Hasher::new();
    for part in [identity.as_slice(), &tail[..6], &tail[8..], &length] {
        hasher.update(part);
    }
    let [low, high, ..] = hasher.finalize().to_le_bytes();
    [low, high]
}

fn checksum(identity: &Identity, tail: &[u8], length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [identity.as_slice(), tail, &length, payload] {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = [3; 16];

    fn encoded(identity: &Identity) -> Vec<u8> {
        let mut out = Vec::new();
        let record = Record::Change(7, Change::Buried { doubt: None, ran: None, reason: "mapping".into() });
        record.encode(identity, Numbering { sequence: 41, index: 0, last_index: 2 }, &mut out);
        out
    }

    #[test]
    fn a_record_comes_back_with_its_numbers() {
        let bytes = encoded(&IDENTITY);
        let (record, numbering, length) = Record::decode(&IDENTITY, &bytes).expect("it was just encoded");
        assert_eq!(
            record,
            Record::Change(7, Change::Buried { doubt: None, ran: None, reason: "mapping".into() })
        );
        assert_eq!((numbering.sequence, numbering.last_index, length), (41, 2, bytes.len()));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = encoded(&IDENTITY);
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x10;
            assert!(Record::decode(&IDENTITY, &damaged).is_err(), "byte {position} went unnoticed");
        }
    }

    #[test]
    fn a_record_of_another_spool_is_not_believed() {
        assert_eq!(Record::decode(&IDENTITY, &encoded(&[4; 16])), Err(Unreadable::Damaged));
    }

    #[test]
    fn every_cut_is_short() {
        let bytes = encoded(&IDENTITY);
        for length in 0..bytes.len() {
            assert_eq!(Record::decode(&IDENTITY, &bytes[..length]), Err(Unreadable::Short));
        }
    }

    #[test]
    fn a_length_past_all_memory_is_short() {
        let mut bytes = encoded(&IDENTITY);
        let length = u32::MAX.to_le_bytes();
        bytes[4..8].copy_from_slice(&length);
        let check = head_check(&IDENTITY, &array(&bytes[12..28]), length);
        bytes[18..20].copy_from_slice(&check);
        assert_eq!(Record::decode(&IDENTITY, &bytes), Err(Unreadable::Short));
    }

    #[test]
    fn voids_come_back() {
        let mut out = Vec::new();
        let record = Record::Void { first: 3, last: 9, from_sequence: 41 };
        record.encode(&IDENTITY, Numbering { sequence: 1, index: 0, last_index: 0 }, &mut out);
        assert_eq!(Record::decode(&IDENTITY, &out).map(|found| found.0), Ok(record));
    }
}
