//! How old things are, although the wall clock is set now and then: boxes without a battery boot in 1970.
//!
//! Every look at the clock is compared with the monotonic reading. What was stamped before a jump keeps its age while
//! this process runs; what an earlier process stamped is believed unless it cannot be true.

use super::tables::QueueError;
use super::{Change, Core, Envelope, Shared, Spool, State};
use crate::clock::{SET_SINCE, Timestamp, spell};
use std::sync::PoisonError;
use std::time::Duration;

impl Spool {
    /// How much time has passed since `moment`, which the clock said while this process or an earlier one ran.
    pub fn age(&self, moment: Timestamp) -> Duration {
        self.shared.age(moment)
    }

    /// How often the wall clock has been set since the spool was opened.
    pub fn clock_jumps(&self) -> u64 {
        // Whoever asks for jumps wants to know of one that nobody has seen yet.
        self.shared.now();
        self.shared.eras.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

impl Shared {
    /// What the clock says; a jump since the last look is told.
    pub(super) fn now(&self) -> Timestamp {
        let (wall, monotonic) = (self.clock.now(), self.clock.monotonic());
        let mut eras = self.eras.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jump) = eras.0.observe(wall, monotonic) {
            eras.1 += 1;
            let by = jump.to.since(jump.from).max(jump.from.since(jump.to));
            let direction = if jump.to > jump.from { "forward" } else { "back" };
            log::warn!(
                "clock jumped {direction} by={} from={} to={} effect=\"waits and ages go on by what has really passed\"",
                spell(by.as_secs()).replace(' ', ""),
                jump.from,
                jump.to
            );
        }
        wall
    }

    /// Says so when the clock was never set: what comes in is stamped by it.
    pub(super) fn tell_unset_clock(&self) {
        let now = self.clock.now();
        if now < SET_SINCE {
            log::warn!(
                "clock is not set now={now} effect=\"https and signed requests may fail until it is\" next=\"timedatectl\""
            );
        }
    }

    pub(super) fn age(&self, moment: Timestamp) -> Duration {
        let now = (self.clock.now(), self.clock.monotonic());
        self.eras.lock().unwrap_or_else(PoisonError::into_inner).0.age(moment, now)
    }

    fn witnessed_age(&self, moment: Timestamp) -> Duration {
        let monotonic = self.clock.monotonic();
        self.eras.lock().unwrap_or_else(PoisonError::into_inner).0.witnessed_age(moment, monotonic)
    }

    /// What the clock says, and what it would say had it not been set.
    fn readings(&self) -> Vec<Timestamp> {
        let monotonic = self.clock.monotonic();
        self.eras.lock().unwrap_or_else(PoisonError::into_inner).0.readings(monotonic).collect()
    }

    /// The earliest of them: what is over by it is over by all.
    pub(super) fn earliest_reading(&self) -> Timestamp {
        self.now();
        self.readings().into_iter().min().unwrap_or_default()
    }

    /// Whether the same event came in less than its window ago, by one of the clock's readings. An identity that is
    /// remembered for longer than the window was put down when the clock was ahead.
    pub(super) fn is_known(&self, envelope: &Envelope) -> Result<bool, QueueError> {
        for now in self.readings() {
            let no_window = now.plus(envelope.dedupe_window + crate::clock::JUMP_MIN);
            let expires_later = |at| self.queue.is_duplicate(envelope.dedupe, at);
            if expires_later(now)? && !expires_later(no_window)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Dead letters that nobody wanted for `keep_dead` leave as if they had been dropped: history knows them, and
    /// the log. Only time that this process has seen counts: a clock that was a year ahead at a start must not cost
    /// them.
    pub(super) fn drop_old_dead(&self) -> Result<(), QueueError> {
        let keep = self.limits().keep_dead;
        let mut from = 0;
        loop {
            let mut core = self.core();
            if core.stopping || !core.counts.keys().any(|(_, state)| *state == State::Dead) {
                return Ok(());
            }
            let page = self.queue.entries(from)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = last + 1;
            for (id, entry) in page {
                let died_at = entry.tries.last().map_or(entry.received_at, |one| one.at.plus(one.took));
                if entry.state == State::Dead && self.witnessed_age(died_at.max(entry.received_at)) >= keep {
                    self.drop_dead(&mut core, (id, &entry.source), keep)?;
                }
            }
        }
    }

    fn drop_dead(
        &self,
        core: &mut Core,
        (id, source): (super::Id, &str),
        keep: Duration,
    ) -> Result<(), QueueError> {
        let change = Change::Dropped { at: self.clock.now() };
        if self.touch(core, id, &change)? == super::Touched::Done {
            log::warn!(
                "dead letter dropped id={id} source={source} kept={}",
                spell(keep.as_secs()).replace(' ', "")
            );
        }
        Ok(())
    }
}
