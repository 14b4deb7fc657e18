//! How old things are, although the wall clock is set now and then: boxes without a battery boot in 1970.
//!
//! Every look at the clock is compared with the monotonic reading. What was stamped before a jump keeps its age while
//! this process runs; what an earlier process stamped is believed unless it cannot be true. Dead letters age by the
//! time that any process had the spool open, which no clock has a say in.

use super::codec::{Decoder, Malformed};
use super::queue::Queue;
use super::tables::QueueError;
use super::{Change, Core, Entry, Envelope, Id, Shared, Spool, State};
use crate::clock::{SET_SINCE, Timestamp, spell};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

/// The ring of the queue's counters that has the ages of dead letters, by id. Others belong to status and alert.
const RING: u8 = b'd';
/// Its row that says how long the spool has been open: no envelope has this number.
const SERVED: u64 = 0;

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
    /// the log. Only time counts in which a daemon had the spool open: a clock that is a year ahead at a start must
    /// not cost them.
    pub(super) fn drop_old_dead(&self) -> Result<(), QueueError> {
        let keep = self.limits().keep_dead;
        self.with_dead(|core, id, entry, age| match age >= keep {
            true if core.stopping => Ok(()),
            true => self.drop_dead(core, (id, &entry.source), keep),
            false => Ok(()),
        })
    }

    /// Before a stop: what dead letters have aged is known to the next process.
    pub(super) fn note_ages(&self) -> Result<(), QueueError> {
        self.with_dead(|_, _, _, _| Ok(()))
    }

    /// Calls `visit` with every dead letter and its age, and writes down since when it is one.
    fn with_dead(
        &self,
        mut visit: impl FnMut(&mut Core, Id, &Entry, Duration) -> Result<(), QueueError>,
    ) -> Result<(), QueueError> {
        if !self.core().counts.keys().any(|(_, state)| *state == State::Dead) {
            return Ok(());
        }
        let mut deaths = deaths(&self.queue)?;
        let served = self.service.until(self.clock.monotonic());
        self.queue.put_period(RING, SERVED, &served.to_le_bytes());
        let mut from = 0;
        loop {
            let mut core = self.core();
            let page = self.queue.entries(from)?;
            let Some((last, _)) = page.last() else { break };
            from = last + 1;
            for (id, entry) in page.iter().filter(|(_, entry)| entry.state == State::Dead) {
                let death = self.death(entry, deaths.remove(id), served);
                if death.is_new {
                    self.queue.put_period(RING, *id, &death.encode());
                }
                let age = Duration::from_millis(served.saturating_sub(death.served));
                visit(&mut core, *id, entry, age)?;
            }
        }
        // Others were retried or dropped meanwhile.
        deaths.keys().try_for_each(|id| self.queue.trim_periods(RING, *id..id + 1))
    }

    /// When a dead letter became one: as it was noted, or else by what this process has seen.
    fn death(&self, entry: &Entry, noted: Option<Death>, served: u64) -> Death {
        let ended = entry.tries.last().map_or(entry.received_at, |one| one.at.plus(one.took));
        let died_at = ended.max(entry.received_at);
        noted.filter(|death| death.died_at == died_at).unwrap_or_else(|| {
            let seen = u64::try_from(self.witnessed_age(died_at).as_millis()).unwrap_or(u64::MAX);
            Death { died_at, served: served.saturating_sub(seen), is_new: true }
        })
    }

    fn drop_dead(&self, core: &mut Core, (id, source): (Id, &str), keep: Duration) -> Result<(), QueueError> {
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

/// How long the spool has been open, all processes together.
pub struct Service {
    before: u64,
    began: Duration,
}

impl Service {
    /// As the queue knows it. A rebuilt one knows nothing, and dead letters stay longer.
    pub fn of(queue: &Queue, now: Duration) -> Service {
        let row = queue.periods(RING, SERVED).ok().and_then(|rows| rows.into_iter().next());
        let row = row.filter(|(number, _)| *number == SERVED).and_then(|(_, row)| row.try_into().ok());
        Service { before: row.map_or(0, u64::from_le_bytes), began: now }
    }

    /// Until `now`, in milliseconds.
    fn until(&self, now: Duration) -> u64 {
        let here = u64::try_from(now.saturating_sub(self.began).as_millis()).unwrap_or(u64::MAX);
        self.before.saturating_add(here)
    }
}

/// When an envelope became a dead letter.
struct Death {
    /// What the clock said: another one is another death.
    died_at: Timestamp,
    /// How long the spool had been open.
    served: u64,
    /// It is not noted yet.
    is_new: bool,
}

impl Death {
    fn encode(&self) -> Vec<u8> {
        [self.died_at.0.to_le_bytes(), self.served.to_le_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Death, Malformed> {
        let mut decoder = Decoder::new(bytes);
        Ok(Death { died_at: Timestamp(decoder.u64()?), served: decoder.u64()?, is_new: false })
    }
}

/// All that are noted. A damaged row is as good as none.
fn deaths(queue: &Queue) -> Result<BTreeMap<Id, Death>, QueueError> {
    let (mut noted, mut from) = (BTreeMap::new(), SERVED + 1);
    loop {
        let page = queue.periods(RING, from)?;
        let Some((last, _)) = page.last() else { return Ok(noted) };
        from = last + 1;
        noted.extend(page.iter().filter_map(|(id, row)| Some((*id, Death::decode(row).ok()?))));
    }
}
