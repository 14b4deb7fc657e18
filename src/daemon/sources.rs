//! What becomes of waiting envelopes when sources come and go: held while theirs is not configured.

use super::{Daemon, sources_of};
use crate::source::Sources;
use crate::spool::{Change, Entry, Id, State};

/// What is to be done about one envelope.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Do {
    Hold,
    Release,
}

impl Daemon {
    /// Holds what waits for a source that is gone, and lets go what was held for one that is back.
    pub(super) fn follow_sources(&self) {
        let sources = sources_of(&self.sources);
        let is_concerned = |(source, state, _): &(String, State, u64)| match state {
            State::Held => sources.contains_key(source),
            State::Queued | State::Deferred => !sources.contains_key(source),
            State::Dead => false,
        };
        if !self.rooms.spool.counts().iter().any(is_concerned) {
            return;
        }
        let mut from = 0;
        while let Ok(page) = self.rooms.spool.entries(from) {
            let Some((last, ..)) = page.last() else { break };
            from = last + 1;
            for wanted in [Do::Hold, Do::Release] {
                let concerned = page.iter().filter(|(_, entry, is_in_flight)| {
                    !is_in_flight && wanted_for(&sources, entry) == Some(wanted)
                });
                let all: Vec<(Id, String)> =
                    concerned.map(|(id, entry, _)| (*id, reason(&entry.source))).collect();
                self.change(wanted, &all);
            }
        }
        self.rooms.spool.nudge();
    }

    /// One sync for all that are changed in the same way.
    fn change(&self, wanted: Do, all: &[(Id, String)]) {
        for same in all.chunk_by(|one, next| wanted == Do::Release || one.1 == next.1) {
            let ids: Vec<Id> = same.iter().map(|(id, _)| *id).collect();
            let reason = same.first().map(|(_, reason)| reason.clone()).unwrap_or_default();
            let change = if wanted == Do::Hold { Change::Held { reason } } else { Change::Retried };
            if let Err(error) = self.rooms.spool.touch_all(&ids, &change) {
                log::error!("envelopes not held or released ids={ids:?} error={:?}", error.to_string());
            }
        }
    }
}

fn reason(source: &str) -> String {
    format!("source.{source} is not configured")
}

fn wanted_for(sources: &Sources, entry: &Entry) -> Option<Do> {
    let is_configured = sources.contains_key(&entry.source);
    match entry.state {
        State::Held if is_configured && entry.reason == reason(&entry.source) => Some(Do::Release),
        State::Queued | State::Deferred if !is_configured => Some(Do::Hold),
        _ => None,
    }
}
