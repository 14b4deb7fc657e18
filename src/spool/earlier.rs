//! The first layout of the queue, in which every row was one of sled's: what it has moves into blocks, once.

use super::overlay::{Overlay, Rows};
use super::packed::Packed;
use super::row::{IDENTITY_BYTES, checked};
use super::tables::{Answer, Table};
use std::sync::Arc;

/// Bytes of an expiry in its row, before two of its checksum; the lowest came first.
const EXPIRY_BYTES: usize = 6;

/// Moves the rows of the first layout, if there are any. A crash in the middle begins again: what has moved stands in
/// both, and says the same.
pub fn move_in(packed: &Packed) -> Answer<()> {
    for table in Table::ALL.into_iter().filter(|table| table.is_packed()) {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = packed.tables().earlier_rows(table, after.as_deref())?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.to_vec());
            packed.write(&rows_of(table, page.iter().map(|(key, value)| (&key[..], &value[..]))))?;
        }
        if after.is_some() {
            packed.tables().sync()?;
            packed.tables().remove_earlier(table)?;
            log::info!("queue brought to the present layout table={table:?}");
        }
    }
    Ok(())
}

/// The rows as they are now. What is damaged is left behind, as it was before.
fn rows_of<'a>(table: Table, page: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Arc<Rows> {
    let mut overlay = Overlay::default();
    for (key, value) in page {
        let row = match table {
            Table::Dedupe => key.get(..IDENTITY_BYTES).zip(expiry(value)),
            _ => checked(value).ok().map(|value| (key, value.to_vec())),
        };
        if let Some((key, value)) = row.filter(|(key, _)| key.len() == table.key_bytes()) {
            overlay.put(table, key, Some(value));
        }
    }
    overlay.leave().unwrap_or_default()
}

fn expiry(value: &[u8]) -> Option<Vec<u8>> {
    let millis = value.get(..EXPIRY_BYTES)?;
    let is_sound = crc32fast::hash(millis).to_le_bytes()[..2] == value[EXPIRY_BYTES..];
    is_sound.then(|| millis.iter().rev().copied().collect())
}
