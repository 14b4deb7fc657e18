//! Tables of hashes from end to end, for an export: as they stand, block by block, since hashes have no order.

use super::super::row;
use super::super::tables::{Answer, Table};
use super::{Decoder, Hash, Pair, Queue, Timestamp, lock};
use std::ops::Bound;

/// Some rows, and where to go on; nowhere behind the last.
pub type Walked<T> = (Vec<T>, Option<u64>);

impl Queue {
    /// Some rows of a table of hashes, and where to go on; nowhere behind the last. One may come twice when it is told
    /// anew meanwhile, the later one last.
    fn walk(&self, table: Table, from: u64) -> Answer<Walked<Pair>> {
        let overlay = lock(&self.overlay);
        let Some((number, mut rows)) = self.tables()?.block_from(table, from)? else {
            let above = overlay.rows(table, Bound::Unbounded);
            return Ok((above.filter_map(|(key, row)| Some((key.to_vec(), row?.to_vec()))).collect(), None));
        };
        rows.retain(|(key, _)| overlay.get(table, key).is_none());
        Ok((rows, Some(number + 1)))
    }

    /// Some conversations with ticket and last use, and where to go on; damaged ones are passed over.
    pub fn tickets(&self, from: u64) -> Answer<Walked<(Hash, u64, Timestamp)>> {
        let (rows, next) = self.walk(Table::Conversations, from)?;
        let known = rows.iter().filter_map(|(key, value)| {
            let mut decoder = Decoder::new(value);
            Some((Hash::try_from(key.as_slice()).ok()?, decoder.u64().ok()?, Timestamp(decoder.u64().ok()?)))
        });
        Ok((known.collect(), next))
    }

    /// Some identities as [`row::known_as`] has them, with when each is forgotten, and where to go on.
    pub fn identities(&self, from: u64) -> Answer<Walked<(Hash, Timestamp)>> {
        let (rows, next) = self.walk(Table::Dedupe, from)?;
        let known =
            rows.iter().filter_map(|(key, value)| Some((row::known_as(key), row::expiry_of(value).ok()?)));
        Ok((known.collect(), next))
    }
}
