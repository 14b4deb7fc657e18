//! The last events and attempts, in memory, for whoever follows them: `deskspool log -f`.

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are kept. Whoever follows asks every second.
const KEPT: usize = 4096;

/// One event or attempt. No customer text.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Seen {
    /// RFC 3339, UTC.
    pub at: String,
    /// The same in milliseconds since 1970.
    pub at_ms: u64,
    /// `accepted`, `duplicate`, `refused`; `delivered`, `deferred`, `unknown`, `rejected`, `dead`, `held`, `dropped`.
    pub what: String,
    /// The envelope; none for what was never stored.
    pub id: Option<u64>,
    /// Its source.
    pub source: String,
    /// The thread on the platform's side.
    pub conversation: String,
    /// The platform's id of the event.
    pub event: String,
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
}

#[derive(Default)]
struct State {
    /// Number of the next line.
    next: u64,
    lines: VecDeque<Seen>,
}

/// The ring.
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
        if state.lines.len() == KEPT {
            state.lines.pop_front();
        }
        state.next += 1;
        state.lines.push_back(seen);
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

#[cfg(test)]
mod tests {
    use super::*;

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
