//! The last events that were taken and passed over: filtered, or here before. In memory, for the status page, so that
//! silence can be explained.
//!
//! **Invariant:** no customer text: the platform's id of an event, its kind, and which condition decided. Bounded: so
//! many for each source, and sources are configured.

use crate::clock::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// Events that are remembered for each source.
const KEPT: usize = 100;

/// One event that was passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// When.
    pub at: Timestamp,
    /// Its source.
    pub source: String,
    /// The platform's id.
    pub event: String,
    /// The preset's name for it; empty where nobody knows any more.
    pub kind: String,
    /// Here before; else filtered.
    pub is_duplicate: bool,
    /// Which condition decided; empty for a duplicate.
    pub why: String,
}

/// The memory of all sources.
#[derive(Default)]
pub struct PassedOver(BTreeMap<String, VecDeque<Passed>>);

impl PassedOver {
    /// Remembers one; the oldest of its source may go.
    pub fn add(&mut self, passed: Passed) {
        let memory = self.0.entry(passed.source.clone()).or_default();
        if memory.len() == KEPT {
            memory.pop_front();
        }
        memory.push_back(passed);
    }

    /// Those of one source or of all, newest first.
    pub fn of(&self, source: Option<&str>) -> Vec<Passed> {
        let memories = self.0.iter().filter(|(name, _)| source.is_none_or(|source| source == *name));
        let mut all: Vec<Passed> = memories.flat_map(|(_, memory)| memory.iter().rev().cloned()).collect();
        all.sort_by_key(|passed| std::cmp::Reverse(passed.at));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_source_are_there_newest_first() {
        let mut over = PassedOver::default();
        for at in 0..2 * KEPT as u64 {
            let source = if at % 3 == 0 { "a" } else { "b" };
            over.add(Passed { at: Timestamp(at), source: source.to_owned(), ..Passed::default() });
        }
        assert_eq!(over.of(Some("b")).len(), KEPT);
        assert_eq!(over.of(Some("a")).len(), 67);
        let all = over.of(None);
        assert_eq!((all.len(), all[0].at, all[1].at), (KEPT + 67, Timestamp(199), Timestamp(198)));
        assert!(over.of(Some("c")).is_empty());
    }
}
