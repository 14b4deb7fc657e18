//! Which block has a row: eight bytes of memory for each, in one sorted list.
//!
//! An entry of the list, a *slot*, is the front of the row's key and the number of its block. Of a key that is a
//! number the front is all of it; of a hash it is enough that a foreign one is met once in millions of questions,
//! and the block itself has the last word.

use super::tables::Table;

/// Bits of a block's number: four thousand million rows, written in blocks that are full.
const BLOCK_BITS: u32 = 26;
const BLOCK_MASK: u64 = (1 << BLOCK_BITS) - 1;

/// The front of a key.
pub type Front = u64;

/// The front of a key of a table.
pub fn front(table: Table, key: &[u8]) -> Front {
    let mut bytes = [0; 8];
    let length = key.len().min(8);
    bytes[..length].copy_from_slice(&key[..length]);
    let number = u64::from_be_bytes(bytes);
    if table.has_numbers() { number.min(u64::MAX >> BLOCK_BITS) } else { number >> BLOCK_BITS }
}

/// A row's front and block as one number.
pub fn slot(front: Front, block: u64) -> u64 {
    front << BLOCK_BITS | block & BLOCK_MASK
}

/// The two parts of a slot.
pub fn parts(slot: u64) -> (Front, u64) {
    (slot >> BLOCK_BITS, slot & BLOCK_MASK)
}

/// The rows of a table that hold.
#[derive(Clone, Default)]
pub struct Catalog {
    slots: Vec<u64>,
    /// The number of the next block.
    pub next_block: u64,
    /// Rows and bytes of the blocks that were met and written, for an average.
    pub met: (u64, u64),
}

impl Catalog {
    /// The slots with this front, the newest last.
    pub fn with_front(&self, front: Front) -> &[u64] {
        let start = self.slots.partition_point(|slot| parts(*slot).0 < front);
        let length = self.slots[start..].partition_point(|slot| parts(*slot).0 == front);
        &self.slots[start..start + length]
    }

    pub fn has(&self, slot: u64) -> bool {
        self.slots.binary_search(&slot).is_ok()
    }

    /// Up to `most` slots whose fronts are not below `from`, in order.
    pub fn not_below(&self, from: Front, most: usize) -> &[u64] {
        let start = self.slots.partition_point(|slot| parts(*slot).0 < from);
        &self.slots[start..self.slots.len().min(start + most)]
    }

    /// Up to `most` slots whose fronts are below `before`, in order.
    pub fn below(&self, before: Front, most: usize) -> &[u64] {
        let end = self.slots.partition_point(|slot| parts(*slot).0 < before);
        &self.slots[end.saturating_sub(most)..end]
    }

    /// Bytes that the rows which hold take in blocks, roughly.
    pub fn live_bytes(&self) -> u64 {
        let (rows, bytes) = self.met;
        (self.slots.len() as u64).saturating_mul(bytes) / rows.max(1)
    }

    /// Takes some slots out and others in.
    pub fn change(&mut self, mut stale: Vec<u64>, mut fresh: Vec<u64>) {
        stale.sort_unstable();
        fresh.sort_unstable();
        if !stale.is_empty() {
            self.slots.retain(|slot| stale.binary_search(slot).is_err());
        }
        if self.slots.is_empty() {
            self.slots = fresh;
        } else {
            self.merge(&fresh);
        }
    }

    /// From the back, so that nothing is moved twice and nothing is allocated beside the list.
    fn merge(&mut self, fresh: &[u64]) {
        let mut old = self.slots.len();
        let missing = fresh.len().saturating_sub(self.slots.capacity() - old);
        if missing > 0 {
            // Twice as much, as a list usually grows, would be megabytes for nothing.
            self.slots.reserve_exact(fresh.len() + old / 16);
        }
        self.slots.resize(old + fresh.len(), 0);
        for (left, slot) in fresh.iter().enumerate().rev() {
            let end = self.slots[..old].partition_point(|other| other < slot);
            self.slots.copy_within(end..old, end + left + 1);
            self.slots[end + left] = *slot;
            old = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_are_whole_and_hashes_are_cut() {
        assert_eq!(front(Table::Envelopes, &10_432_u64.to_be_bytes()), 10_432);
        assert_eq!(front(Table::Dedupe, &[0xff; 10]), u64::MAX >> BLOCK_BITS);
        assert_eq!(parts(slot(10_432, 7)), (10_432, 7));
    }

    proptest::proptest! {
        #[test]
        fn behaves_like_a_set(steps in proptest::collection::vec((proptest::collection::btree_set(0u64..50, 0..9), proptest::collection::btree_set(50u64..99, 0..9)), 0..9)) {
            let (mut catalog, mut model) = (Catalog::default(), BTreeSet::new());
            for (block, (one, other)) in steps.into_iter().enumerate() {
                let block = block as u64;
                let stale: Vec<u64> = model.iter().copied().filter(|slot| one.contains(&parts(*slot).0)).collect();
                let fresh: Vec<u64> = one.iter().chain(&other).map(|front| slot(*front, block)).collect();
                model.retain(|slot| !stale.contains(slot));
                model.extend(&fresh);
                catalog.change(stale, fresh);
                assert!(catalog.slots.iter().eq(&model));
                for front in [0, 20, 60] {
                    let of_front: Vec<u64> = model.iter().copied().filter(|slot| parts(*slot).0 == front).collect();
                    assert_eq!(catalog.with_front(front), of_front);
                    let above: Vec<u64> = model.range(slot(front, 0)..).take(3).copied().collect();
                    assert_eq!(catalog.not_below(front, 3), above);
                    let mut below: Vec<u64> = model.range(..slot(front, 0)).rev().take(3).copied().collect();
                    below.reverse();
                    assert_eq!(catalog.below(front, 3), below);
                }
            }
        }
    }
}
