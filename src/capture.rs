//! Real requests for admins who wait for one: `deskspool capture`.
//!
//! Intake offers what comes to a source that somebody waits for, refused requests too; the control socket asks. Where
//! the status page may show what customers wrote, the last requests that were let in are remembered too, so that a
//! mapping can be tried on them.
//! **Invariants:** else nothing is kept when nobody waits, and what is kept is in memory, bounded in number, bytes and
//! (for who waits) time. Secrets in headers and parameters are hidden before a request comes here. Its bodies are
//! customer text.

use crate::clock::Clock;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Who does not ask again for so long waits no more.
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests and bytes that wait for somebody who is about to ask again.
const KEPT: usize = 100;
const KEPT_BYTES: usize = 32 << 20;
/// People who wait at the same time.
const WAITING_MAX: usize = 16;
/// Requests of a source that are remembered, and their bytes together.
const LATEST: usize = 6;
const LATEST_BYTES: usize = 192 << 10;

/// One request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Captured {
    /// The source it was sent to.
    pub source: String,
    /// When, RFC 3339, UTC.
    pub received_at: String,
    /// Address it came from.
    pub from: String,
    /// Path and query; a secret in it is hidden.
    pub target: String,
    /// As received; secrets are hidden.
    pub headers: Vec<(String, String)>,
    /// `ok`, or why it was turned away.
    pub verified: String,
    /// Its body in base64. Customer text.
    pub body: String,
}

/// Told about one request.
pub type Waiter = Box<dyn FnOnce(&Captured) + Send>;

struct Slot {
    source: String,
    asked_at: Duration,
    waiter: Option<Waiter>,
    kept: VecDeque<Captured>,
    kept_bytes: usize,
}

/// A request that is remembered, and its number.
pub type Remembered = (u64, Arc<Captured>);

/// Everybody who waits, and what is remembered.
pub struct Captures {
    clock: Arc<dyn Clock>,
    slots: Mutex<BTreeMap<String, Slot>>,
    waiting: AtomicUsize,
    remembers: AtomicBool,
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    count: u64,
    by_source: BTreeMap<String, VecDeque<Remembered>>,
}

impl Captures {
    /// Nobody waits.
    pub fn new(clock: Arc<dyn Clock>) -> Captures {
        let (waiting, remembers) = (AtomicUsize::new(0), AtomicBool::new(false));
        Captures { clock, slots: Mutex::default(), waiting, remembers, latest: Mutex::default() }
    }

    /// From now on the last requests of each source are remembered, or none is, and what was is forgotten.
    pub fn remember(&self, remembers: bool) {
        self.remembers.store(remembers, Ordering::Relaxed);
        if !remembers {
            *self.latest() = Latest::default();
        }
    }

    /// What is remembered goes, whoever sent it; numbers go on, so that none stands for another request.
    pub fn forget_latest(&self) {
        self.latest().by_source.clear();
    }

    /// The last requests to a source that were let in, newest first.
    pub fn remembered(&self, source: &str) -> Vec<Remembered> {
        self.latest().by_source.get(source).into_iter().flatten().rev().cloned().collect()
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request to this source is to be offered; costs next to nothing when nobody waits.
    pub fn wants(&self, source: &str) -> bool {
        if self.remembers.load(Ordering::Relaxed) {
            return true;
        }
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut slots = self.slots();
        self.forget_gone(&mut slots);
        slots.values().any(|slot| slot.source == source)
    }

    /// Gives a request to all who wait for its source.
    pub fn offer(&self, captured: &Captured) {
        if self.remembers.load(Ordering::Relaxed) && captured.verified == "ok" {
            self.latest().keep(captured);
        }
        let mut slots = self.slots();
        for slot in slots.values_mut().filter(|slot| slot.source == captured.source) {
            match slot.waiter.take() {
                Some(waiter) => waiter(captured),
                None => slot.keep(captured),
            }
        }
    }

    /// Tells `waiter` the next request to `source`. Who asks again under the same `name` misses none that came
    /// between, and takes the place of his earlier question. Whether there is room to wait.
    pub fn ask(&self, name: &str, source: &str, waiter: Waiter) -> bool {
        let mut slots = self.slots();
        self.forget_gone(&mut slots);
        if slots.len() >= WAITING_MAX && !slots.contains_key(name) {
            return false;
        }
        let slot = slots.entry(name.to_owned()).or_insert_with(|| Slot {
            source: source.to_owned(),
            asked_at: Duration::ZERO,
            waiter: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
        });
        slot.asked_at = self.clock.monotonic();
        match slot.kept.pop_front() {
            Some(captured) => {
                slot.kept_bytes = slot.kept_bytes.saturating_sub(captured.body.len());
                waiter(&captured);
            }
            None => slot.waiter = Some(waiter),
        }
        self.waiting.store(slots.len(), Ordering::Relaxed);
        true
    }

    /// Who has what he wanted.
    pub fn done(&self, name: &str) {
        let mut slots = self.slots();
        slots.remove(name);
        self.waiting.store(slots.len(), Ordering::Relaxed);
    }

    fn forget_gone(&self, slots: &mut BTreeMap<String, Slot>) {
        let now = self.clock.monotonic();
        slots.retain(|_, slot| now.saturating_sub(slot.asked_at) < PATIENCE);
        self.waiting.store(slots.len(), Ordering::Relaxed);
    }
}

impl Latest {
    fn keep(&mut self, captured: &Captured) {
        if captured.body.len() > LATEST_BYTES {
            return;
        }
        self.count += 1;
        let kept = self.by_source.entry(captured.source.clone()).or_default();
        kept.push_back((self.count, Arc::new(captured.clone())));
        let bytes = |kept: &VecDeque<Remembered>| kept.iter().map(|(_, one)| one.body.len()).sum::<usize>();
        while kept.len() > LATEST || bytes(kept) > LATEST_BYTES {
            kept.pop_front();
        }
    }
}

impl Slot {
    fn keep(&mut self, captured: &Captured) {
        if self.kept.len() < KEPT && self.kept_bytes + captured.body.len() <= KEPT_BYTES {
            self.kept_bytes += captured.body.len();
            self.kept.push_back(captured.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use std::sync::mpsc::channel;

    fn request(source: &str, body: &str) -> Captured {
        Captured { source: source.to_owned(), body: body.to_owned(), ..Captured::default() }
    }

    #[test]
    fn who_asks_again_misses_nothing_and_who_is_gone_gets_nothing() {
        let clock = ManualClock::at(Timestamp(0));
        let captures = Captures::new(clock.clone());
        assert!(!captures.wants("contako"));
        let (tell, told) = channel();
        let ask = || {
            let tell = tell.clone();
            captures.ask("me", "contako", Box::new(move |one| drop(tell.send(one.body.clone()))))
        };
        assert!(ask());
        assert!(captures.wants("contako") && !captures.wants("botpress"));
        for body in ["1", "2", "3"] {
            captures.offer(&request("contako", body));
        }
        captures.offer(&request("botpress", "4"));
        assert!(ask() && ask());
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["1", "2", "3"]);
        assert!(ask());
        clock.advance(PATIENCE);
        assert!(!captures.wants("contako"));
        captures.offer(&request("contako", "5"));
        assert_eq!(told.try_iter().count(), 0);
        assert!(ask());
        captures.done("me");
        assert!(!captures.wants("contako"));
    }

    #[test]
    fn it_is_bounded() {
        let captures = Captures::new(ManualClock::at(Timestamp(0)));
        let waits = |name: usize| captures.ask(&name.to_string(), "x", Box::new(|_| {}));
        assert!((0..WAITING_MAX).all(waits));
        assert!(!waits(WAITING_MAX) && waits(0));
        (0..2 * KEPT).for_each(|_| captures.offer(&request("x", "")));
        assert!(captures.slots().values().all(|slot| slot.kept.len() <= KEPT));
        let large = "x".repeat(KEPT_BYTES / 3);
        let fresh = Captures::new(ManualClock::at(Timestamp(0)));
        fresh.ask("me", "x", Box::new(|_| {}));
        (0..9).for_each(|_| fresh.offer(&request("x", &large)));
        assert_eq!(fresh.slots()["me"].kept.len(), 3);
    }

    #[test]
    fn the_last_requests_are_remembered_only_where_they_may_be_shown() {
        let captures = Captures::new(ManualClock::at(Timestamp(0)));
        let ok = |body: &str| Captured { verified: "ok".to_owned(), ..request("x", body) };
        captures.offer(&ok("unseen"));
        assert!(captures.remembered("x").is_empty() && !captures.wants("x"));
        captures.remember(true);
        assert!(captures.wants("x"));
        (0..2 * LATEST).for_each(|number| captures.offer(&ok(&number.to_string())));
        captures.offer(&request("x", "refused"));
        let bodies: Vec<String> = captures.remembered("x").iter().map(|(_, one)| one.body.clone()).collect();
        assert_eq!((bodies.len(), bodies[0].as_str()), (LATEST, "11"), "newest first");
        captures.offer(&ok(&"y".repeat(LATEST_BYTES)));
        assert_eq!(captures.remembered("x").len(), 1, "bounded in bytes, too");
        captures.offer(&ok(&"y".repeat(LATEST_BYTES + 1)));
        assert_eq!(captures.remembered("x").len(), 1);
        let (number, _) = captures.remembered("x")[0];
        captures.forget_latest();
        assert!(captures.remembered("x").is_empty());
        captures.offer(&ok("another"));
        assert!(captures.remembered("x")[0].0 > number, "no number stands for two requests");
        captures.remember(false);
        assert!(captures.remembered("x").is_empty());
    }
}
