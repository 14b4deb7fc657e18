//! Warnings and errors that repeat: the first few of a minute are written, the rest are counted and summed up.
//!
//! A line repeats another when both say the same of different envelopes: what names one (`id=`, `next=` …) is left
//! out of the comparison, and of the summary.

use std::collections::HashMap;
use std::time::Duration;

/// For how long lines are summed up.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines of a kind that are written in that time.
const WRITTEN_MAX: u32 = 5;
/// Kinds that are told apart; past that, everything is written.
const KINDS_MAX: usize = 256;
/// What differs from one envelope to the next.
const PARTICULARS: [&str; 10] =
    ["id=", "n=", "next=", "took=", "age=", "bytes=", "event=", "ticket=", "from=", "before_unlogged="];

struct Kind {
    since: Duration,
    written: u32,
    held_back: u64,
    priority: usize,
}

/// The kinds of lines of the last minute.
#[derive(Default)]
pub(super) struct Repeats(HashMap<String, Kind>);

impl Repeats {
    /// Whether a line is to be written; if not, it is counted.
    pub fn admits(&mut self, now: Duration, priority: usize, text: &str) -> bool {
        let kind = kind_of(text);
        if self.0.len() >= KINDS_MAX && !self.0.contains_key(&kind) {
            return true;
        }
        let kind = self.0.entry(kind).or_insert(Kind { since: now, written: 0, held_back: 0, priority });
        if kind.written < WRITTEN_MAX {
            kind.written += 1;
            return true;
        }
        kind.held_back += 1;
        false
    }

    /// The summaries whose time has come, with their priorities.
    pub fn due(&mut self, now: Duration) -> Vec<(usize, String)> {
        let mut due = Vec::new();
        self.0.retain(|text, kind| {
            let is_over = now.saturating_sub(kind.since) >= WINDOW;
            if is_over && kind.held_back > 0 {
                due.push((
                    kind.priority,
                    format!("{text} repeated={} within={}s", kind.held_back, WINDOW.as_secs()),
                ));
            }
            !is_over
        });
        due.sort();
        due
    }
}

fn kind_of(text: &str) -> String {
    let is_common = |word: &&str| !PARTICULARS.iter().any(|particular| word.starts_with(particular));
    text.split_whitespace().filter(is_common).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_of_a_minute_are_written_and_the_rest_is_summed_up() {
        let mut repeats = Repeats::default();
        let line = |id: u64| format!("attempt deferred id={id} source=shop reason=\"503\" next={id}.00s");
        let written = (0..45).filter(|id| repeats.admits(at(1), 5, &line(*id))).count();
        assert_eq!(written, 5);
        assert!(
            repeats.admits(at(2), 5, "attempt deferred id=9 source=shop reason=\"timeout\""),
            "another reason"
        );
        assert_eq!(repeats.due(at(60)), []);
        let expect = "attempt deferred source=shop reason=\"503\" repeated=40 within=60s".to_owned();
        assert_eq!(repeats.due(at(61)), [(5, expect)]);
        assert!(repeats.admits(at(61), 5, &line(1)), "a new minute");
    }

    #[test]
    fn what_did_not_repeat_is_not_summed_up() {
        let mut repeats = Repeats::default();
        assert!(repeats.admits(at(0), 4, "disk low"));
        assert_eq!(repeats.due(at(100)), []);
    }

    #[test]
    fn kinds_are_bounded() {
        let mut repeats = Repeats::default();
        for number in 0..2 * KINDS_MAX {
            assert!(repeats.admits(at(0), 4, &format!("odd thing {number}")));
        }
        assert_eq!(repeats.0.len(), KINDS_MAX);
    }
}
