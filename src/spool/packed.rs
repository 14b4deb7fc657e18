//! The tables as the queue sees them: rows by key, though on disk many rows are one value ([`Block`]).
//!
//! Blocks are written once, in the order in which the queue is told, and never changed: a row that is set again or
//! removed is said again in a later block, and the [`Catalog`] in memory knows which block holds. So a row costs what
//! it says, and not a page of sled's. The oldest block goes when none of its rows holds; what is in between goes when
//! the queue is renewed. Only the oldest, because a removal must outlive what it removes.
//!
//! The few rows of the status history are rows of sled's as they are.

use super::block::{Block, Packing};
use super::catalog::{Catalog, front, parts, slot};
use super::earlier;
use super::overlay::{Key, Row, Rows};
use super::row::number as number_of;
use super::tables::{Answer, Table, Tables};
use std::collections::VecDeque;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// Blocks that are kept as they were read: neighbours are asked for together.
const BLOCKS_KEPT: usize = 64;
/// Blocks that are read while sled's iterator lives.
const BLOCKS_READ: usize = 64;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);
/// Changes of sled's own rows; none for a value that is removed.
pub type Raw = Vec<(Table, Vec<u8>, Option<Vec<u8>>)>;

/// A generation of the queue and what is in it.
pub struct Packed {
    tables: Tables,
    /// By table; that of the table which is not packed stays empty.
    catalogs: [RwLock<Catalog>; Table::ALL.len()],
    kept: Mutex<VecDeque<(Table, u64, Arc<Block>)>>,
}

/// What a step changes in a catalog.
#[derive(Default)]
struct Change {
    stale: Vec<u64>,
    fresh: Vec<u64>,
    next_block: u64,
    met: (u64, u64),
}

impl Packed {
    /// Reads all blocks once. One that is damaged has no rows, which is found out where it is compared with the journal.
    pub fn open(tables: Tables) -> Answer<Packed> {
        let packed = Packed::with(tables, std::array::from_fn(|_| RwLock::default()));
        for table in Table::ALL.into_iter().filter(|table| table.is_packed()) {
            let catalog = packed.read_all(table)?;
            *packed.catalogs[table as usize].write().unwrap_or_else(PoisonError::into_inner) = catalog;
        }
        earlier::move_in(&packed)?;
        Ok(packed)
    }

    /// A generation into which all that holds in `old` was copied, and nothing else.
    pub fn renewed(tables: Tables, old: &Packed) -> Packed {
        Packed::with(tables, Table::ALL.map(|table| RwLock::new(old.catalog(table).clone())))
    }

    fn with(tables: Tables, catalogs: [RwLock<Catalog>; Table::ALL.len()]) -> Packed {
        Packed { tables, catalogs, kept: Mutex::default() }
    }

    /// What it stands on.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        self.tables.directory()
    }

    /// Bytes of the rows that hold, roughly.
    pub fn live_bytes(&self) -> u64 {
        Table::ALL.iter().map(|table| self.catalog(*table).live_bytes()).sum()
    }

    fn catalog(&self, table: Table) -> RwLockReadGuard<'_, Catalog> {
        self.catalogs[table as usize].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_all(&self, table: Table) -> Answer<Catalog> {
        let (mut catalog, mut slots, mut removals) = (Catalog::default(), Vec::new(), Vec::new());
        let mut after = None;
        loop {
            let from = after.map(u64::to_be_bytes);
            let from = from.as_ref().map_or(Bound::Unbounded, |from| Bound::Excluded(&from[..]));
            let page: Vec<_> = self.tables.rows(table, from).take(BLOCKS_READ).collect::<Answer<_>>()?;
            let Some((last, _)) = page.last() else { break };
            after = Some(number_of(last)?);
            for (key, value) in &page {
                let number = number_of(key)?;
                catalog.next_block = number + 1;
                let Ok(block) = Block::read(value, table.key_bytes()) else {
                    log::warn!("block of the queue damaged table={table:?} number={number}");
                    continue;
                };
                let before = slots.len();
                for (key, row) in block.rows() {
                    let place = slot(front(table, key), number);
                    if row.is_some() { slots.push(place) } else { removals.push(place) }
                }
                catalog.met.0 += (slots.len() - before) as u64;
                catalog.met.1 += value.len() as u64;
            }
        }
        if table.has_numbers() {
            slots = newest(slots, removals);
        }
        slots.shrink_to_fit();
        catalog.change(Vec::new(), slots);
        Ok(catalog)
    }

    /// A block, if it is there and sound.
    fn block(&self, table: Table, number: u64) -> Answer<Option<Arc<Block>>> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(of, other, _): &&(Table, u64, Arc<Block>)| (*of, *other) == (table, number);
        if let Some((.., block)) = kept().iter().find(is_it) {
            return Ok(Some(block.clone()));
        }
        let Some(value) = self.tables.get(table, &number.to_be_bytes())? else { return Ok(None) };
        let Ok(block) = Block::read(&value, table.key_bytes()) else { return Ok(None) };
        let block = Arc::new(block);
        let mut kept = kept();
        kept.truncate(BLOCKS_KEPT - 1);
        kept.push_front((table, number, block.clone()));
        Ok(Some(block))
    }

    /// One value. That of a number whose block is damaged is empty, which nothing is.
    pub fn get(&self, table: Table, key: &[u8]) -> Answer<Option<Vec<u8>>> {
        if !table.is_packed() {
            return Ok(self.tables.get(table, key)?.map(|value| value.to_vec()));
        }
        // Held until the block is read, so that it is there.
        let catalog = self.catalog(table);
        for place in catalog.with_front(front(table, key)).iter().rev() {
            let block = self.block(table, parts(*place).1)?;
            if let Some(value) = block.as_ref().and_then(|block| block.get(key)) {
                return Ok(Some(value.to_vec()));
            }
            if table.has_numbers() {
                return Ok(Some(Vec::new()));
            }
        }
        Ok(None)
    }

    /// Up to `most` rows from `from` on, in the order of their keys. Not of hashes, which have no order here.
    pub fn page(&self, table: Table, from: Bound<&[u8]>, most: usize) -> Answer<Vec<Pair>> {
        if !table.is_packed() {
            let rows = self.tables.rows(table, from).take(most);
            return rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect();
        }
        let start = match from {
            Bound::Unbounded => 0,
            Bound::Included(key) => front(table, key),
            Bound::Excluded(key) => front(table, key) + 1,
        };
        let catalog = self.catalog(table);
        self.pairs(table, catalog.not_below(start, most))
    }

    /// Up to `most` rows of a packed table before `before`, the last one first.
    pub fn page_before(&self, table: Table, before: Option<&[u8]>, most: usize) -> Answer<Vec<Pair>> {
        let catalog = self.catalog(table);
        let mut pairs =
            self.pairs(table, catalog.below(before.map_or(u64::MAX, |key| front(table, key)), most))?;
        pairs.reverse();
        Ok(pairs)
    }

    fn pairs(&self, table: Table, slots: &[u64]) -> Answer<Vec<Pair>> {
        let mut pairs = Vec::with_capacity(slots.len());
        let mut at_hand: Option<(u64, Option<Arc<Block>>)> = None;
        for place in slots {
            let (number, wanted) = parts(*place);
            let block = match at_hand.take().filter(|(other, _)| *other == wanted) {
                Some((_, block)) => block,
                None => self.block(table, wanted)?,
            };
            let key = number.to_be_bytes().to_vec();
            let value = block.as_ref().and_then(|block| block.get(&key)).unwrap_or_default().to_vec();
            pairs.push((key, value));
            at_hand = Some((wanted, block));
        }
        Ok(pairs)
    }

    /// Takes rows in and hands them to the operating system; what that changed in sled's own rows.
    pub fn write(&self, rows: &Rows) -> Answer<Raw> {
        let (mut raw, mut changes) = (Raw::new(), Vec::new());
        for table in Table::ALL {
            let start = Key::first(table);
            let of_table = rows.range(start..).take_while(|(key, _)| key.table() == table);
            if table.is_packed() {
                changes.push((table, self.pack(table, of_table, &mut raw)?));
            } else {
                raw.extend(of_table.map(|(key, row)| (table, key.bytes().to_vec(), row.value.clone())));
            }
        }
        self.tables.write(&raw)?;
        for (table, change) in changes {
            let has_stale = !change.stale.is_empty();
            self.change(table, change);
            if has_stale {
                raw.extend(self.drop_front(table, |_| false)?);
            }
        }
        Ok(raw)
    }

    fn change(&self, table: Table, change: Change) {
        let mut catalog = self.catalogs[table as usize].write().unwrap_or_else(PoisonError::into_inner);
        catalog.next_block = change.next_block.max(catalog.next_block);
        catalog.met.0 += change.met.0;
        catalog.met.1 += change.met.1;
        catalog.change(change.stale, change.fresh);
    }

    /// Packs the rows of a step into blocks.
    fn pack<'a>(
        &self,
        table: Table,
        rows: impl Iterator<Item = (&'a Key, &'a Row)>,
        raw: &mut Raw,
    ) -> Answer<Change> {
        let catalog = self.catalog(table);
        let mut change = Change { next_block: catalog.next_block, ..Change::default() };
        let mut packing = Packing::new();
        for (key, row) in rows {
            let (key, value) = (key.bytes(), row.value.as_deref());
            let known = self.slots_of(table, &catalog, key)?;
            if value.is_none() && known.is_empty() {
                continue;
            }
            change.stale.extend(known);
            if packing.is_full_for(key.len() + value.map_or(0, <[u8]>::len)) {
                change.close(table, std::mem::replace(&mut packing, Packing::new()), raw);
            }
            packing.add(key, value);
            if value.is_some() {
                change.fresh.push(slot(front(table, key), change.next_block));
            }
        }
        if packing.rows() > 0 {
            change.close(table, packing, raw);
        }
        Ok(change)
    }

    /// Where a key stands now.
    fn slots_of(&self, table: Table, catalog: &Catalog, key: &[u8]) -> Answer<Vec<u64>> {
        let slots = catalog.with_front(front(table, key));
        if table.has_numbers() {
            return Ok(slots.to_vec());
        }
        let mut found = Vec::new();
        for place in slots {
            if self.block(table, parts(*place).1)?.is_some_and(|block| block.get(key).is_some()) {
                found.push(*place);
            }
        }
        Ok(found)
    }

    /// Removes the oldest blocks while none of their rows holds, or all that do are over.
    pub fn drop_front(&self, table: Table, is_over: impl Fn(&[u8]) -> bool) -> Answer<Raw> {
        let mut dropped = Raw::new();
        loop {
            let Some(first) = self.tables.rows(table, Bound::Unbounded).next() else { break };
            let (key, value) = first?;
            let number = number_of(&key)?;
            let mut stale = Vec::new();
            {
                let catalog = self.catalog(table);
                let block = Block::read(&value, table.key_bytes()).ok();
                let rows = block.iter().flat_map(Block::rows).filter_map(|(key, value)| Some((key, value?)));
                let held = rows.map(|(key, value)| (slot(front(table, key), number), value));
                let held: Vec<_> = held.filter(|(place, _)| catalog.has(*place)).collect();
                // The newest stays, because its number says what the next one's is.
                if number + 1 >= catalog.next_block || !held.iter().all(|(_, value)| is_over(value)) {
                    break;
                }
                stale.extend(held.iter().map(|(place, _)| *place));
            }
            self.change(table, Change { stale, ..Change::default() });
            let removed = (table, key.to_vec(), None);
            self.tables.put(table, &removed.1, None)?;
            dropped.push(removed);
        }
        Ok(dropped)
    }

    /// The numbers that the next block of each table will have.
    pub fn next_blocks(&self) -> [u64; Table::ALL.len()] {
        Table::ALL.map(|table| self.catalog(table).next_block)
    }

    /// Up to [`BLOCKS_READ`] of sled's rows after `after`, without what does not hold any more; none where nothing is
    /// left.
    pub fn copies(&self, table: Table, after: Option<&[u8]>) -> Answer<Vec<(Vec<u8>, Option<Vec<u8>>)>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut copies = Vec::new();
        for row in self.tables.rows(table, from).take(BLOCKS_READ) {
            let (key, value) = row?;
            let value = if table.is_packed() {
                self.what_holds(table, number_of(&key)?, &value)
            } else {
                Some(value.to_vec())
            };
            copies.push((key.to_vec(), value));
        }
        Ok(copies)
    }

    fn what_holds(&self, table: Table, number: u64, value: &[u8]) -> Option<Vec<u8>> {
        let block = Block::read(value, table.key_bytes()).ok()?;
        let catalog = self.catalog(table);
        let holds = |key: &[u8]| catalog.has(slot(front(table, key), number));
        if block.rows().all(|(key, row)| row.is_some() && holds(key)) {
            return Some(value.to_vec());
        }
        let mut packing = Packing::new();
        for (key, row) in block.rows().filter(|(key, row)| row.is_some() && holds(key)) {
            packing.add(key, row);
        }
        (packing.rows() > 0).then(|| packing.finish())
    }
}

impl Change {
    /// A block is complete.
    fn close(&mut self, table: Table, packing: Packing, raw: &mut Raw) {
        self.met.0 += packing.rows() as u64;
        let value = packing.finish();
        self.met.1 += value.len() as u64;
        raw.push((table, self.next_block.to_be_bytes().to_vec(), Some(value)));
        self.next_block += 1;
    }
}

/// The newest slot of each number, unless it was removed later.
fn newest(mut slots: Vec<u64>, mut removals: Vec<u64>) -> Vec<u64> {
    slots.sort_unstable();
    removals.sort_unstable();
    let is_newest =
        |at: usize, slots: &[u64]| slots.get(at + 1).is_none_or(|next| parts(*next).0 != parts(slots[at]).0);
    let is_removed = |place: u64| {
        let later = removals.partition_point(|removal| *removal < place);
        removals.get(later).is_some_and(|removal| parts(*removal).0 == parts(place).0)
    };
    let mut at = 0;
    let newest: Vec<bool> = (0..slots.len()).map(|at| is_newest(at, &slots)).collect();
    slots.retain(|place| {
        at += 1;
        newest[at - 1] && !is_removed(*place)
    });
    slots
}
