//! One file of the journal, `journal/<number>.seg`: a 64-byte header, then records.
//!
//! A segment is written by one run of the daemon only and never after an error. Reading it back walks
//! from record to record; where bytes do not make sense it looks for the next record that does, and
//! reports the stretch between as damaged. What follows the last readable record is a torn tail when it
//! can be the rest of an unsynced write, and damage otherwise; either way it was reported by position.

use super::record::{HEADER_LENGTH, Identity, MAGIC, Numbering, Record, Unreadable};
use crate::clock::Timestamp;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

pub const SEGMENT_HEADER_LENGTH: u64 = 64;
const SEGMENT_MAGIC: [u8; 8] = *b"DSKSPOOL";
/// Version of the on-disk format as a whole.
pub const FORMAT: u32 = 1;
/// How much is read at a time; a record that is larger is read whole.
const WINDOW_LENGTH: usize = 256 * 1024;

/// What stands at the head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub number: u64,
    pub identity: Identity,
    /// The next envelope's number when the segment was begun: numbers are never reused, even when all
    /// earlier segments and the queue are gone.
    pub next_id: u64,
    /// The sequence number of its first record.
    pub first_sequence: u64,
    pub created_at: Timestamp,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LENGTH as usize] {
        let mut bytes = [0; SEGMENT_HEADER_LENGTH as usize];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.identity);
        for (at, number) in
            [(32, self.number), (40, self.next_id), (48, self.first_sequence), (56, self.created_at.0)]
        {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let checksum = header_checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` when the header is short or damaged; `Err` carries a newer format's number.
    pub fn decode(bytes: &[u8]) -> Result<Option<SegmentHeader>, u32> {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER_LENGTH as usize) else { return Ok(None) };
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let short = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        if bytes[..8] != SEGMENT_MAGIC || header_checksum(bytes) != short(12) {
            return Ok(None);
        }
        if short(8) > FORMAT {
            return Err(short(8));
        }
        Ok(Some(SegmentHeader {
            number: number(32),
            identity: bytes[16..32].try_into().expect("sixteen bytes"),
            next_id: number(40),
            first_sequence: number(48),
            created_at: Timestamp(number(56)),
        }))
    }
}

fn header_checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..SEGMENT_HEADER_LENGTH as usize]);
    hasher.finalize()
}

/// What a walk over a segment meets, in order.
#[derive(Debug, PartialEq)]
pub enum Met {
    /// A readable record and where its bytes lie.
    Record { record: Box<Record>, numbering: Numbering, range: Range<u64> },
    /// Bytes that make no sense, up to the next readable record or the end.
    Damaged {
        range: Range<u64>,
        /// They are the segment's last bytes.
        at_end: bool,
    },
    /// A record of a newer version; nothing after it can be relied on.
    Newer(u8),
}

/// Calls `meet` for everything in the segment after its header.
pub fn walk(file: &File, identity: &Identity, mut meet: impl FnMut(Met)) -> io::Result<()> {
    let mut window = Window { file, length: file.metadata()?.len(), start: 0, bytes: Vec::new() };
    let mut offset = SEGMENT_HEADER_LENGTH;
    while offset < window.length {
        match window.record(identity, offset)? {
            Ok((record, numbering, length)) => {
                let range = offset..offset + length as u64;
                offset = range.end;
                meet(Met::Record { record: Box::new(record), numbering, range });
            }
            Err(Unreadable::Newer(version)) => {
                meet(Met::Newer(version));
                return Ok(());
            }
            Err(Unreadable::Short | Unreadable::Damaged) => {
                let next = window.next_record(identity, offset + 1)?;
                let end = next.unwrap_or(window.length);
                meet(Met::Damaged { range: offset..end, at_end: next.is_none() });
                offset = end;
            }
        }
    }
    Ok(())
}

/// Which records a segment's first ones say do not hold, as sequence numbers.
pub fn voided_by(file: &File, identity: &Identity) -> io::Result<Vec<Range<u64>>> {
    let mut window = Window { file, length: file.metadata()?.len(), start: 0, bytes: Vec::new() };
    let (mut offset, mut voided) = (SEGMENT_HEADER_LENGTH, Vec::new());
    while offset < window.length {
        let Ok((Record::Void { from_sequence, .. }, numbering, length)) = window.record(identity, offset)?
        else {
            break;
        };
        voided.push(from_sequence..numbering.sequence);
        offset += length as u64;
    }
    Ok(voided)
}

/// A stretch of the file in memory, moved along as the walk goes on.
struct Window<'a> {
    file: &'a File,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

type Decoded = Result<(Record, Numbering, usize), Unreadable>;

impl Window<'_> {
    fn record(&mut self, identity: &Identity, offset: u64) -> io::Result<Decoded> {
        let header = self.at_least(offset, HEADER_LENGTH)?;
        if header.len() < HEADER_LENGTH || !Record::head_is_sound(identity, &header[..HEADER_LENGTH]) {
            return Ok(Err(if header.len() < HEADER_LENGTH {
                Unreadable::Short
            } else {
                Unreadable::Damaged
            }));
        }
        let payload = u32::from_le_bytes(header[4..8].try_into().expect("four bytes"));
        if offset + HEADER_LENGTH as u64 + u64::from(payload) > self.length {
            return Ok(Err(Unreadable::Short));
        }
        Ok(Record::decode(identity, self.at_least(offset, HEADER_LENGTH + payload as usize)?))
    }

    /// The first readable record at or after `offset`.
    fn next_record(&mut self, identity: &Identity, mut offset: u64) -> io::Result<Option<u64>> {
        while offset < self.length {
            let bytes = self.at_least(offset, MAGIC.len())?;
            let Some(skip) = bytes.windows(MAGIC.len()).position(|four| four == MAGIC) else {
                offset += (bytes.len().max(MAGIC.len()) - (MAGIC.len() - 1)) as u64;
                continue;
            };
            offset += skip as u64;
            if !matches!(self.record(identity, offset)?, Err(Unreadable::Short | Unreadable::Damaged)) {
                return Ok(Some(offset));
            }
            offset += 1;
        }
        Ok(None)
    }

    /// The bytes from `offset` on: at least `wanted`, unless the file ends before.
    fn at_least(&mut self, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        let held = self.start..self.start + self.bytes.len() as u64;
        let end = (offset + wanted as u64).min(self.length);
        if offset < held.start || end > held.end {
            let length = (wanted.max(WINDOW_LENGTH) as u64).min(self.length - offset.min(self.length));
            let length = usize::try_from(length).expect("a window fits in memory");
            if self.bytes.len() < length {
                // All of it is read over: what was there need not be kept.
                self.bytes = vec![0; length];
            }
            self.bytes.truncate(length);
            self.file.read_exact_at(&mut self.bytes, offset)?;
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).expect("inside the window");
        Ok(&self.bytes[from..])
    }
}

#[cfg(test)]
mod tests {
    use super::super::envelope::Change;
    use super::*;
    use std::io::Write;

    const IDENTITY: Identity = [9; 16];

    fn segment(records: u64) -> (File, Vec<u64>) {
        let mut file = tempfile::tempfile().expect("a temporary file");
        let header = SegmentHeader {
            number: 1,
            identity: IDENTITY,
            next_id: 1,
            first_sequence: 1,
            created_at: Timestamp(0),
        };
        let mut bytes = header.encode().to_vec();
        let mut starts = Vec::new();
        for sequence in 1..=records {
            starts.push(bytes.len() as u64);
            let reason = "x".repeat(usize::try_from(sequence).expect("small") * 100);
            let numbering = Numbering { sequence, index: 0, last_index: 0 };
            Record::Change(sequence, Change::Buried { doubt: None, ran: None, reason })
                .encode(&IDENTITY, numbering, &mut bytes);
        }
        file.write_all(&bytes).expect("the temporary file takes it");
        (file, starts)
    }

    fn walked(file: &File) -> (Vec<u64>, Vec<(Range<u64>, bool)>) {
        let (mut sequences, mut damaged) = (Vec::new(), Vec::new());
        walk(file, &IDENTITY, |met| match met {
            Met::Record { numbering, .. } => sequences.push(numbering.sequence),
            Met::Damaged { range, at_end } => damaged.push((range, at_end)),
            Met::Newer(version) => panic!("version {version}"),
        })
        .expect("the file can be read");
        (sequences, damaged)
    }

    #[test]
    fn headers_come_back_and_damage_is_noticed() {
        let header = SegmentHeader {
            number: 3,
            identity: IDENTITY,
            next_id: 10,
            first_sequence: 99,
            created_at: Timestamp(77),
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(Some(header)));
        for position in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[position] ^= 1;
            assert_eq!(SegmentHeader::decode(&damaged), Ok(None), "byte {position}");
        }
    }

    #[test]
    fn a_damaged_record_costs_itself_only() {
        let (file, starts) = segment(5);
        file.write_all_at(b"????", starts[2] + 40).expect("writable");
        assert_eq!(walked(&file), (vec![1, 2, 4, 5], vec![(starts[2]..starts[3], false)]));
    }

    #[test]
    fn a_damaged_length_does_not_hide_what_follows() {
        let (file, starts) = segment(5);
        file.write_all_at(&u32::MAX.to_le_bytes(), starts[1] + 4).expect("writable");
        assert_eq!(walked(&file), (vec![1, 3, 4, 5], vec![(starts[1]..starts[2], false)]));
    }

    #[test]
    fn a_torn_tail_is_damage_at_the_end() {
        let (file, starts) = segment(3);
        let length = file.metadata().expect("metadata").len();
        file.set_len(length - 7).expect("can be cut");
        assert_eq!(walked(&file), (vec![1, 2], vec![(starts[2]..length - 7, true)]));
    }

    #[test]
    fn a_long_stretch_of_garbage_is_crossed() {
        let (file, starts) = segment(2);
        let mut garbage = vec![0x44; WINDOW_LENGTH * 2];
        let mut second =
            vec![0; usize::try_from(file.metadata().expect("metadata").len() - starts[1]).expect("small")];
        file.read_exact_at(&mut second, starts[1]).expect("readable");
        garbage.extend_from_slice(&second);
        file.write_all_at(&garbage, starts[1]).expect("writable");
        let (sequences, damaged) = walked(&file);
        assert_eq!((sequences, damaged.len()), (vec![1, 2], 1));
    }
}
