//! What the queue was told and the disk does not have yet: rows in memory, in front of the tables.
//!
//! Everything the queue is told goes here first and reaches sled in large sorted steps. An envelope that is
//! delivered soon never reaches it at all. And a write that fails fails here, between steps: the rows stay, and
//! go to the tables when those can be written again. A crash loses nothing, since the journal knows.
//!
//! There are two layers, so that nobody waits for a step: `fresh` takes what comes, `leaving` is on its way to
//! the tables and stays readable until it is there.

use super::tables::Table;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Key of a row in all tables. None is longer than a hash, so it needs no memory beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    table: Table,
    bytes: [u8; 16],
    length: u8,
}

impl Key {
    fn new(table: Table, key: &[u8]) -> Key {
        let mut bytes = [0; 16];
        bytes[..key.len()].copy_from_slice(key);
        Key { table, bytes, length: u8::try_from(key.len()).expect("at most sixteen") }
    }

    /// Below every key of a table.
    pub fn first(table: Table) -> Key {
        Key::new(table, &[])
    }

    pub fn table(&self) -> Table {
        self.table
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The newest word about a key.
pub struct Row {
    /// None: it is removed.
    pub value: Option<Vec<u8>>,
    /// The tables may have something under this key.
    hides: bool,
}

/// Rows by key.
pub type Rows = BTreeMap<Key, Row>;

/// Both layers.
#[derive(Default)]
pub struct Overlay {
    fresh: Rows,
    leaving: Option<Arc<Rows>>,
    bytes: usize,
}

/// What memory a row takes beside its value, roughly.
const ROW_BYTES: usize = 96;

impl Overlay {
    /// Sets a row that may stand in the tables already.
    pub fn put(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>) {
        self.set(table, key, value, true);
    }

    /// Sets a row whose key was never used before.
    pub fn put_new(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.set(table, key, Some(value), false);
    }

    fn set(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>, hides: bool) {
        let key = Key::new(table, key);
        let length = |row: &Row| row.value.as_ref().map_or(0, Vec::len);
        let before = self.fresh.get(&key);
        let hides = match before {
            Some(before) => before.hides,
            None => hides || self.leaving.as_ref().is_some_and(|leaving| leaving.contains_key(&key)),
        };
        self.bytes -= before.map_or(0, |before| ROW_BYTES + length(before));
        if value.is_none() && !hides {
            // Nobody below has ever heard of it.
            self.fresh.remove(&key);
            return;
        }
        let row = Row { value, hides };
        self.bytes += ROW_BYTES + length(&row);
        self.fresh.insert(key, row);
    }

    /// The newest word about a key, if there is one here: the inner `None` says that it is removed.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        let key = Key::new(table, key);
        let row = self.fresh.get(&key).or_else(|| self.leaving.as_ref()?.get(&key))?;
        Some(row.value.as_deref())
    }

    /// Rows of a table from `from` on: both layers, the fresh one winning.
    pub fn rows<'a>(
        &'a self,
        table: Table,
        from: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let start = from.map(|key| Key::new(table, key));
        let start = if start == Bound::Unbounded { Bound::Included(Key::first(table)) } else { start };
        let of = move |rows: &'a Rows| {
            let rows = rows.range((start, Bound::Unbounded));
            rows.take_while(move |(key, _)| key.table == table)
                .map(|(key, row)| (key.bytes(), row.value.as_deref()))
        };
        let leaving = self.leaving.as_deref().map(&of).into_iter().flatten();
        Merged { first: of(&self.fresh).peekable(), second: leaving.peekable() }
    }

    /// The row with the highest key of a table: its key and, unless it is removed, its value.
    pub fn rows_back(&self, table: Table) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        // It is asked for seldom, and the layers are bounded.
        let rows: Vec<_> = self.rows(table, Bound::Unbounded).collect();
        rows.into_iter().rev()
    }

    /// Memory the fresh layer takes, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.leaving.is_none()
    }

    /// Sends the fresh layer on its way; one that did not arrive is sent again first.
    pub fn leave(&mut self) -> Option<Arc<Rows>> {
        if self.leaving.is_none() && !self.fresh.is_empty() {
            self.bytes = 0;
            self.leaving = Some(Arc::new(std::mem::take(&mut self.fresh)));
        }
        self.leaving.clone()
    }

    /// What was leaving is in the tables.
    pub fn arrived(&mut self) {
        self.leaving = None;
    }
}

/// Two sorted sequences of rows as one; where both have a key, the first wins.
pub struct Merged<A: Iterator, B: Iterator> {
    pub first: std::iter::Peekable<A>,
    pub second: std::iter::Peekable<B>,
}

impl<K: Ord, V, A: Iterator<Item = (K, V)>, B: Iterator<Item = (K, V)>> Iterator for Merged<A, B> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        match (self.first.peek(), self.second.peek()) {
            (Some((first, _)), Some((second, _))) => match first.cmp(second) {
                std::cmp::Ordering::Less => self.first.next(),
                std::cmp::Ordering::Greater => self.second.next(),
                std::cmp::Ordering::Equal => {
                    self.second.next();
                    self.first.next()
                }
            },
            (Some(_), None) => self.first.next(),
            (None, _) => self.second.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(overlay: &Overlay) -> Vec<(u8, Option<u8>)> {
        let rows = overlay.rows(Table::History, Bound::Included(&[2]));
        rows.map(|(key, value)| (key[0], value.map(|value| value[0]))).collect()
    }

    #[test]
    fn the_fresh_layer_wins_and_what_nobody_knew_leaves_no_trace() {
        let mut overlay = Overlay::default();
        overlay.put_new(Table::Envelopes, &[9], vec![0]);
        for key in [1, 2, 4] {
            overlay.put_new(Table::History, &[key], vec![key]);
        }
        assert_eq!(overlay.leave().map(|rows| rows.len()), Some(4));
        overlay.put(Table::History, &[2], Some(vec![20]));
        overlay.put(Table::History, &[4], None);
        overlay.put_new(Table::History, &[3], vec![3]);
        overlay.put_new(Table::History, &[5], vec![5]);
        overlay.put(Table::History, &[5], None);
        assert_eq!(keys(&overlay), [(2, Some(20)), (3, Some(3)), (4, None)]);
        assert_eq!(overlay.get(Table::History, &[1]), Some(Some(&[1][..])));
        assert_eq!(overlay.get(Table::History, &[5]), None, "it came and went");
        overlay.arrived();
        assert_eq!(overlay.get(Table::History, &[1]), None);
        assert_eq!(keys(&overlay), [(2, Some(20)), (3, Some(3)), (4, None)], "the tables have the rest");
    }

    #[test]
    fn a_step_that_failed_is_taken_again_before_the_next() {
        let mut overlay = Overlay::default();
        overlay.put_new(Table::History, &[1], vec![1]);
        overlay.leave();
        overlay.put_new(Table::History, &[2], vec![2]);
        assert_eq!(overlay.leave().map(|rows| rows.len()), Some(1));
        overlay.arrived();
        assert_eq!((overlay.leave().map(|rows| rows.len()), overlay.bytes()), (Some(1), 0));
        overlay.arrived();
        assert!(overlay.is_empty());
    }
}
