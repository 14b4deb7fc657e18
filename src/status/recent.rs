//! The last events and attempts, in memory: for whoever follows them, `deskspool log -f`; and of each source the last
//! events that were taken and passed over, for the status page, so that silence can be explained.
//!
//! **Invariant:** bounded: so many lines, and so many that were passed over for each source, which are configured.

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are kept. Whoever follows asks every second.
const KEPT: usize = 4096;
/// Events that were passed over, for each source.
const PASSED_KEPT: usize = 100;

/// One event or attempt. No customer text.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Seen {
    /// RFC 3339, UTC.
    pub at: String,
    /// The same in milliseconds since 1970.
    pub at_ms: u64,
    /// `accepted`, `duplicate`, `filtered`, `refused`; `delivered`, `deferred`, `unknown`, `rejected`, `dead`, `held`, `dropped`.
    pub what: String,
    /// The envelope; none for what was never stored.
    pub id: Option<u64>,
    /// Its source.
    pub source: String,
    /// The thread on the platform's side.
    pub conversation: String,
    /// The platform's id of the event.
    pub event: String,
    /// The preset's name for it, where it was filtered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// 1 for the first attempt.
    pub attempt: Option<u32>,
    /// How long the attempt took.
    pub took_seconds: Option<f64>,
    /// The ticket it went to.
    pub ticket: Option<u64>,
    /// Why; empty when there is nothing to say.
    pub reason: String,
}

impl Seen {
    /// At this moment.
    pub fn at(self, at: Timestamp) -> Seen {
        Seen { at: at.to_string(), at_ms: at.0, ..self }
    }

    /// What happened.
    pub fn what(self, what: &str) -> Seen {
        Seen { what: what.to_owned(), ..self }
    }

    /// Taken with 200 and not stored.
    fn is_passed_over(&self) -> bool {
        self.what == "filtered" || self.what == "duplicate"
    }
}

#[derive(Default)]
struct State {
    /// Number of the next line.
    next: u64,
    lines: VecDeque<Seen>,
    /// By source.
    passed: BTreeMap<String, VecDeque<Seen>>,
}

/// The rings.
#[derive(Default)]
pub struct Recent {
    state: Mutex<State>,
}

impl Recent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub fn add(&self, seen: Seen) {
        let mut state = self.state();
        if seen.is_passed_over() {
            push(state.passed.entry(seen.source.clone()).or_default(), PASSED_KEPT, seen.clone());
        }
        state.next += 1;
        push(&mut state.lines, KEPT, seen);
    }

    /// The last events that were filtered or here before, of one source or of all, newest first.
    pub fn passed_over(&self, source: Option<&str>) -> Vec<Seen> {
        let state = self.state();
        let rings = state.passed.iter().filter(|(name, _)| source.is_none_or(|source| source == *name));
        let mut all: Vec<Seen> = rings.flat_map(|(_, ring)| ring.iter().rev().cloned()).collect();
        all.sort_by_key(|seen| std::cmp::Reverse(seen.at_ms));
        all
    }

    /// What these envelopes' lines say of their events, which may name a person, goes.
    pub fn forget(&self, ids: &[u64]) {
        let mut state = self.state();
        for line in state.lines.iter_mut().filter(|line| line.id.is_some_and(|id| ids.contains(&id))) {
            line.conversation.clear();
            line.event.clear();
        }
    }

    /// The lines from number `after` on that are still kept, and the number to ask for next; none at all when no number
    /// is given. A number that was never given is of another run: then all that are kept.
    pub fn since(&self, after: Option<u64>) -> (u64, Vec<Seen>) {
        let state = self.state();
        let Some(after) = after else { return (state.next, Vec::new()) };
        let first = state.next - state.lines.len() as u64;
        let after = if after > state.next { 0 } else { after };
        let passed = usize::try_from(after.saturating_sub(first)).unwrap_or(usize::MAX);
        (state.next, state.lines.iter().skip(passed).cloned().collect())
    }
}

/// Adds one; the oldest may go.
fn push(ring: &mut VecDeque<Seen>, most: usize, seen: Seen) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(seen);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_source_that_were_passed_over_are_there_newest_first() {
        let recent = Recent::default();
        for at in 0..2 * PASSED_KEPT as u64 {
            let (source, what) = if at % 3 == 0 { ("a", "filtered") } else { ("b", "duplicate") };
            let seen = Seen { source: source.to_owned(), ..Seen::default() }.at(Timestamp(at));
            recent.add(seen.clone().what("accepted"));
            recent.add(seen.what(what));
        }
        assert_eq!(recent.passed_over(Some("b")).len(), PASSED_KEPT);
        assert_eq!(recent.passed_over(Some("a")).len(), 67);
        let all = recent.passed_over(None);
        assert_eq!((all.len(), all[0].at_ms, all[1].at_ms), (PASSED_KEPT + 67, 199, 198));
        assert!(recent.passed_over(Some("c")).is_empty());
    }

    #[test]
    fn who_is_forgotten_is_in_no_line() {
        let recent = Recent::default();
        let of = |id: u64| Seen {
            id: Some(id),
            conversation: format!("+5730{id}"),
            event: "e".to_owned(),
            ..Seen::default()
        };
        (1..4).for_each(|id| recent.add(of(id)));
        recent.forget(&[1, 3]);
        let left: Vec<String> =
            recent.since(Some(0)).1.into_iter().map(|line| line.conversation + &line.event).collect();
        assert_eq!(left, ["", "+57302e", ""]);
    }

    #[test]
    fn who_follows_gets_every_line_once_and_misses_only_what_was_pushed_out() {
        let recent = Recent::default();
        let add = |id: u64| recent.add(Seen { id: Some(id), ..Seen::default() });
        assert_eq!(recent.since(None), (0, Vec::new()));
        (0..3).for_each(add);
        let ids = |(next, lines): (u64, Vec<Seen>)| -> (u64, Vec<u64>) {
            (next, lines.into_iter().filter_map(|line| line.id).collect())
        };
        assert_eq!(ids(recent.since(Some(0))), (3, vec![0, 1, 2]));
        assert_eq!(ids(recent.since(Some(2))), (3, vec![2]));
        assert_eq!(ids(recent.since(Some(3))), (3, vec![]));
        assert_eq!(ids(recent.since(Some(99))), (3, vec![0, 1, 2]), "another run's number");
        (3..KEPT as u64 + 2).for_each(add);
        let (next, lines) = ids(recent.since(Some(0)));
        assert_eq!((next, lines.first(), lines.len()), (KEPT as u64 + 2, Some(&2), KEPT));
    }
}
