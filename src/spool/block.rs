//! Many rows as one value: sled keeps some hundred bytes of memory and writes for every value, however small.
//!
//! | what | bytes |
//! |---|---|
//! | CRC-32 of the rest | 4 |
//! | rows, in order of their keys | until the end |
//!
//! A row is its key and its value as one string, said by what differs from the row before: first a varint, 0 for a
//! removal (which is a key alone) or the length of the value plus 1; then, until the row is complete, a varint of
//! bytes that are as before, a varint of bytes that are not, and those. Neighbours have source, day and segment in
//! common, so that half of it need not be said.

use super::codec::{Decoder, Encoder, Malformed};
use super::row::{checked, sealed};

/// Rows in a block.
pub const ROWS_MAX: usize = 64;
/// A block that has grown to this takes no more rows. sled holds up to sixteen blocks in a page, and a page beyond
/// 128 KiB would be kept in a file that it never syncs.
const BYTES_MAX: usize = 7 * 1024;
/// Bytes that are as before, but so few that saying so takes as much.
const TOO_FEW: usize = 3;

/// Rows on their way into a block.
pub struct Packing {
    encoder: Encoder,
    before: Vec<u8>,
    rows: usize,
    bytes: usize,
}

impl Packing {
    pub fn new() -> Packing {
        Packing { encoder: Encoder::default(), before: Vec::new(), rows: 0, bytes: 0 }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether a row of this size would be one too many.
    pub fn is_full_for(&self, bytes: usize) -> bool {
        self.rows == ROWS_MAX || (self.rows > 0 && self.bytes + bytes > BYTES_MAX)
    }

    /// Adds a row behind the others; no value is a removal.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.encoder.varint(value.map_or(0, |value| value.len() as u64 + 1));
        let row = [key, value.unwrap_or_default()].concat();
        say_difference(&self.before, &row, &mut self.encoder);
        self.rows += 1;
        self.bytes += row.len();
        self.before = row;
    }

    /// The block's value.
    pub fn finish(self) -> Vec<u8> {
        sealed(&self.encoder.finish())
    }
}

fn common(before: &[u8], row: &[u8]) -> usize {
    before.iter().zip(row).take_while(|(one, other)| one == other).count()
}

fn say_difference(before: &[u8], row: &[u8], encoder: &mut Encoder) {
    let rest = |at: usize| before.get(at..).unwrap_or_default();
    let mut at = 0;
    while at < row.len() {
        let same = common(rest(at), &row[at..]);
        let start = at + same;
        at = start;
        while at < row.len() && common(rest(at), &row[at..row.len().min(at + TOO_FEW)]) < TOO_FEW {
            at += 1;
        }
        encoder.varint(same as u64).varint((at - start) as u64).raw(&row[start..at]);
    }
}

/// A block that was read.
pub struct Block {
    /// Bytes of a key.
    width: usize,
    bytes: Vec<u8>,
    /// Where each row ends, and whether it is a removal.
    ends: Vec<(usize, bool)>,
}

impl Block {
    /// Reads a value whose keys have `width` bytes.
    pub fn read(value: &[u8], width: usize) -> Result<Block, Malformed> {
        let mut decoder = Decoder::new(checked(value)?);
        let mut block = Block { width, bytes: Vec::new(), ends: Vec::new() };
        let mut before = 0..0;
        while !decoder.rest().is_empty() {
            let length = decoder.varint()?;
            let value_length = usize::try_from(length.saturating_sub(1)).map_err(|_| Malformed)?;
            let start = block.bytes.len();
            let end =
                start.checked_add(width).and_then(|at| at.checked_add(value_length)).ok_or(Malformed)?;
            while block.bytes.len() < end {
                block.take_difference(&mut decoder, &before, start)?;
            }
            if block.bytes.len() > end {
                return Err(Malformed);
            }
            before = start..end;
            block.ends.push((end, length == 0));
        }
        Ok(block)
    }

    fn take_difference(
        &mut self,
        decoder: &mut Decoder<'_>,
        before: &std::ops::Range<usize>,
        start: usize,
    ) -> Result<(), Malformed> {
        let same = usize::try_from(decoder.varint()?).map_err(|_| Malformed)?;
        let fresh = usize::try_from(decoder.varint()?).map_err(|_| Malformed)?;
        let from = before.start + (self.bytes.len() - start);
        let to = from.checked_add(same).filter(|to| same == 0 || *to <= before.end).ok_or(Malformed)?;
        if same + fresh == 0 {
            return Err(Malformed);
        }
        if same > 0 {
            self.bytes.extend_from_within(from..to);
        }
        self.bytes.extend_from_slice(decoder.raw(fresh)?);
        Ok(())
    }

    /// Keys, and values unless they are removals, in order.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        (0..self.ends.len()).map(|at| self.row(at))
    }

    fn row(&self, at: usize) -> (&[u8], Option<&[u8]>) {
        let start = if at == 0 { 0 } else { self.ends[at - 1].0 };
        let (end, is_removal) = self.ends[at];
        let (key, value) = self.bytes[start..end].split_at(self.width);
        (key, (!is_removal).then_some(value))
    }

    /// The value under a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.row(middle).0 < key { low = middle + 1 } else { high = middle }
        }
        let (found, value) = (low < self.ends.len()).then(|| self.row(low))?;
        value.filter(|_| found == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<([u8; 8], Option<Vec<u8>>)>;

    fn packed(rows: &Rows) -> Vec<u8> {
        let mut packing = Packing::new();
        for (key, value) in rows {
            packing.add(key, value.as_deref());
        }
        packing.finish()
    }

    fn unpacked(value: &[u8]) -> Result<Rows, Malformed> {
        let block = Block::read(value, 8)?;
        let rows =
            block.rows().map(|(key, value)| (key.try_into().expect("eight"), value.map(<[u8]>::to_vec)));
        Ok(rows.collect())
    }

    #[test]
    fn what_neighbours_share_is_said_once() {
        let row =
            |id: u64| (id.to_be_bytes(), Some(format!("sendpulse, event {id:06}, the rest").into_bytes()));
        let rows: Rows = (1000..1064).map(row).collect();
        let value = packed(&rows);
        assert!(value.len() < 64 * 12, "{} bytes", value.len());
        assert_eq!(unpacked(&value), Ok(rows));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let rows: Rows = vec![([1; 8], Some(b"one".to_vec())), ([2; 8], None), ([3; 8], Some(Vec::new()))];
        let value = packed(&rows);
        assert_eq!(unpacked(&value).as_ref(), Ok(&rows));
        assert_eq!(Block::read(&value, 8).expect("it is whole").get(&[3; 8]), Some(&[][..]));
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 4;
            assert_eq!(unpacked(&damaged), Err(Malformed), "byte {at}");
            assert_eq!(unpacked(&value[..at]), Err(Malformed), "cut at {at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn rows_come_back(rows in proptest::collection::vec((0u8..9, proptest::option::of(proptest::collection::vec(0u8..3, 0..40))), 0..ROWS_MAX)) {
            let rows: Rows = rows.into_iter().map(|(key, value)| ([key; 8], value)).collect();
            assert_eq!(unpacked(&packed(&rows)), Ok(rows));
        }

        #[test]
        fn bytes_that_are_no_block_are_malformed_and_never_a_panic(bytes in proptest::collection::vec(0u8.., 0..60)) {
            let _ = unpacked(&sealed(&bytes));
        }
    }
}
