//! Taking stock when a spool is opened: what waits is counted, and everybody gets their place in the order. One
//! walk over the entries, no text is read.

use super::Share;
use super::envelope::{Id, State};
use super::queue::Queue;
use super::tables::QueueError;
use std::collections::BTreeMap;

/// What waits.
#[derive(Default)]
pub struct Stock {
    /// By segment.
    pub shares: BTreeMap<u64, Share>,
    /// By source and state.
    pub counts: BTreeMap<(String, State), u64>,
}

impl Stock {
    /// Counts every entry and places it.
    pub fn take(queue: &Queue, pass_dead: bool) -> Result<Stock, QueueError> {
        let mut stock = Stock::default();
        let mut from: Id = 0;
        loop {
            let page = queue.entries(from)?;
            let Some((last, _)) = page.last() else { return Ok(stock) };
            from = last + 1;
            for (id, entry) in page {
                let is_kept = entry.state != State::Dead || !pass_dead;
                // They come in order of arrival, so the first of a conversation stays the first.
                let is_head = is_kept && queue.insert_order(entry.conversation, id);
                if is_head && matches!(entry.state, State::Queued | State::Deferred) {
                    queue.insert_due(entry.due, id);
                }
                let share = stock.shares.entry(entry.place.segment).or_default();
                share.live += 1;
                share.live_bytes += u64::from(entry.place.length);
                stock.count(entry.source, entry.state);
            }
        }
    }

    fn count(&mut self, source: String, state: State) {
        *self.counts.entry((source, state)).or_default() += 1;
    }
}
