//! Who is next: the order within conversations, and what is due when. In memory only.
//!
//! Both follow from the entries of what waits, so they are built when the spool is opened and are never on
//! disk, where they would cost more writing than all the rest. A waiting envelope takes some 25 bytes here,
//! one that heads its conversation as many again.

use super::envelope::{Hash, Id};
use crate::clock::Timestamp;
use std::collections::BTreeSet;
use std::ops::Range;

/// The first half of a conversation's hash. Two conversations that share it would wait for each other, no more.
type Prefix = u64;

fn prefix(conversation: Hash) -> Prefix {
    u64::from_be_bytes(conversation[..8].try_into().expect("half of sixteen bytes"))
}

/// The order and the due times.
#[derive(Default)]
pub struct Index {
    order: BTreeSet<(Prefix, Id)>,
    due: BTreeSet<(Timestamp, Id)>,
}

impl Index {
    /// Gives an envelope its place in its conversation. Whether it is the first there.
    pub fn insert_order(&mut self, conversation: Hash, id: Id) -> bool {
        let prefix = prefix(conversation);
        self.order.insert((prefix, id));
        self.order.range((prefix, 0)..).next() == Some(&(prefix, id))
    }

    pub fn remove_order(&mut self, conversation: Hash, id: Id) {
        self.order.remove(&(prefix(conversation), id));
    }

    #[cfg(test)]
    pub fn has_order(&self, conversation: Hash, id: Id) -> bool {
        self.order.contains(&(prefix(conversation), id))
    }

    /// The first of the conversation after `after`, in order of arrival.
    pub fn next_in(&self, conversation: Hash, after: Option<Id>) -> Option<Id> {
        let prefix = prefix(conversation);
        let from = (prefix, after.map_or(0, |id| id + 1));
        self.order.range(from..=(prefix, Id::MAX)).next().map(|(_, id)| *id)
    }

    pub fn insert_due(&mut self, due: Timestamp, id: Id) {
        self.due.insert((due, id));
    }

    pub fn remove_due(&mut self, due: Timestamp, id: Id) {
        self.due.remove(&(due, id));
    }

    /// Up to `most` of what is due in `range` after `after`, earliest first.
    pub fn due_in(
        &self,
        range: &Range<Timestamp>,
        after: Option<(Timestamp, Id)>,
        most: usize,
    ) -> Vec<(Timestamp, Id)> {
        let start = after.map_or((range.start, 0), |(due, id)| (due, id + 1));
        if start >= (range.end, 0) {
            return Vec::new();
        }
        self.due.range(start..(range.end, 0)).take(most).copied().collect()
    }
}
