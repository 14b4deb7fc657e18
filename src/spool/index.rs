//! Who is next: the order within conversations, and what is due when. In memory only.
//!
//! Both follow from the entries of what waits, so they are built when the spool is opened and are never on
//! disk, where they would cost more writing than all the rest. A waiting envelope takes some 16 bytes here,
//! one that heads its conversation twice as many again.

use super::envelope::{Hash, Id};
use crate::clock::Timestamp;
use std::collections::BTreeSet;
use std::ops::Range;

/// Bytes of a conversation's hash: two that share them would wait for each other, no more. And bytes of a number,
/// which are enough for a million envelopes a day for three thousand years.
const PART_BYTES: usize = 5;

/// An envelope's place: the front of its conversation's hash, then its number.
type Place = [u8; 2 * PART_BYTES];

fn place(conversation: Hash, id: Id) -> Place {
    let mut place = [0; 2 * PART_BYTES];
    place[..PART_BYTES].copy_from_slice(&conversation[..PART_BYTES]);
    place[PART_BYTES..].copy_from_slice(&id.to_be_bytes()[size_of::<Id>() - PART_BYTES..]);
    place
}

fn id_of(place: &Place) -> Id {
    let mut id = [0; size_of::<Id>()];
    id[size_of::<Id>() - PART_BYTES..].copy_from_slice(&place[PART_BYTES..]);
    Id::from_be_bytes(id)
}

/// The order and the due times.
#[derive(Default)]
pub struct Index {
    order: BTreeSet<Place>,
    due: BTreeSet<(Timestamp, Id)>,
}

impl Index {
    /// Gives an envelope its place in its conversation. Whether it is the first there.
    pub fn insert_order(&mut self, conversation: Hash, id: Id) -> bool {
        self.order.insert(place(conversation, id));
        self.next_in(conversation, None) == Some(id)
    }

    pub fn remove_order(&mut self, conversation: Hash, id: Id) {
        self.order.remove(&place(conversation, id));
    }

    #[cfg(test)]
    pub fn has_order(&self, conversation: Hash, id: Id) -> bool {
        self.order.contains(&place(conversation, id))
    }

    /// The first of the conversation after `after`, in order of arrival.
    pub fn next_in(&self, conversation: Hash, after: Option<Id>) -> Option<Id> {
        let from = place(conversation, after.map_or(0, |id| id + 1));
        self.order.range(from..=place(conversation, Id::MAX)).next().map(id_of)
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
