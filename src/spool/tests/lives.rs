//! Lives of a spool on a recorded disk, and what must be true of it wherever the power was cut.
//!
//! **What is promised.** An event whose put was answered is there, intact, in order, with everything that had happened to
//! it by the last sync. `begin`, `touch` and `put` return after a sync; what else happened (`progress`, `settle`) is
//! synced with the next group, at the latest a tenth of a second later (`LAZY`), so a cut may undo the changes since
//! the last sync, newest first. An envelope whose delivery is undone so stands as its attempt's beginning left
//! it: in doubt, and looked for in Freshdesk before it is sent. Nothing else that was settled comes back.
//! A put that was not answered may be there or not; one that was answered with an error is not there as soon as
//! anything later was synced.

use super::super::*;
use super::disk::TestDisk;
use super::{RAN, START};
use crate::backoff::Dice;
use crate::clock::ManualClock;
use std::collections::BTreeMap;

/// What kind of life.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub name: &'static str,
    pub body_bytes: usize,
    pub segment_bytes: u64,
    pub garbage_min: u64,
    /// Small enough, and the queue moves to a new generation in the middle of it.
    pub renew_bytes_min: u64,
    pub steps: usize,
    /// Of a hundred puts, so many meet a failing sync.
    pub failing_syncs: u64,
    /// Of a hundred attempts, so many end with a delivery; the others leave stragglers.
    pub delivered: u64,
    /// Of a hundred steps, so many close the spool and open it again.
    pub reopened: u64,
}

impl Plan {
    pub fn ground(&self, disk: Arc<TestDisk>) -> Ground {
        let (segment_bytes, garbage_min) = (self.segment_bytes, self.garbage_min);
        Ground {
            disk,
            segment_bytes,
            garbage_min,
            renew_bytes_min: self.renew_bytes_min,
            probe: None,
            tell: None,
        }
    }
}

pub fn limits() -> Limits {
    Limits { disk_free_min: 0, ..Limits::default() }
}

/// One put and what became of it.
struct Life {
    conversation: usize,
    event: usize,
    body_bytes: usize,
    put_at: usize,
    id: Option<Id>,
    /// Changes as they were made: their number among all, and the position after which they can be on disk.
    changes: Vec<(u64, usize, Change)>,
    /// Its put was answered with an error: from that change on it is gone.
    failed: Option<(u64, usize)>,
}

/// A position, the last change that is durable at it, and the lives that an answer says are put.
type Sure = (usize, u64, Vec<(usize, Id)>);

/// What the answers say, each at its position.
#[derive(Default)]
struct Answers {
    /// Everything up to this change is durable, and these lives are put.
    sure: Vec<Sure>,
}

/// A spool being lived in.
pub struct World {
    plan: Plan,
    directory: PathBuf,
    disk: Arc<TestDisk>,
    clock: Arc<ManualClock>,
    spool: Option<Spool>,
    dice: Dice,
    lives: Vec<Life>,
    by_id: BTreeMap<Id, usize>,
    made: u64,
    answers: Arc<Mutex<Answers>>,
}

const CONVERSATIONS: u64 = 5;

/// A text that no other life has at any place.
fn body(life: usize, bytes: usize) -> Vec<u8> {
    let line = format!("{{\"life\":{life},\"text\":\"¿Dónde está mi pedido?\"}}\n").into_bytes();
    line.repeat(bytes / line.len() + 1)
}

fn envelope(life: usize, conversation: usize, event: usize, bytes: usize) -> Envelope {
    Envelope {
        id: 0,
        received_at: START,
        source: "test".into(),
        kind: "message".into(),
        event_id: event.to_string(),
        dedupe: hash_of(&[event.to_string().as_bytes()]),
        dedupe_window: Duration::from_secs(10 * 365 * 86_400),
        conversation: conversation.to_string(),
        peer: life.to_string(),
        context: b"{}".to_vec(),
        body: body(life, bytes),
        born_dead: None,
        origin: None,
    }
}

impl World {
    /// Lives a whole life below `root`, from the creation of the spool on.
    pub fn lived(plan: Plan, root: &Path, seed: u64) -> World {
        let disk = Arc::new(TestDisk::recording(root));
        let mut world = World {
            plan,
            directory: root.join("var/lib/spool"),
            disk,
            clock: ManualClock::at(START),
            spool: None,
            dice: Dice::seeded(seed),
            lives: Vec::new(),
            by_id: BTreeMap::new(),
            made: 0,
            answers: Arc::default(),
        };
        world.open();
        for _ in 0..plan.steps {
            world.step();
        }
        world.spool = None;
        world.sure();
        world
    }

    pub fn disk(&self) -> &TestDisk {
        &self.disk
    }

    fn chance(&mut self, of_hundred: u64) -> bool {
        self.dice.next_u64() % 100 < of_hundred
    }

    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.dice.next_u64() % end).expect("small")
    }

    fn open(&mut self) {
        let ground = self.plan.ground(self.disk.clone());
        let opened = Spool::open_on(ground, &self.directory, limits(), self.clock.clone());
        self.spool = Some(opened.expect("an undamaged spool opens").0);
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("it is open")
    }

    fn step(&mut self) {
        let throw = self.dice.next_u64() % 100;
        if throw < self.plan.reopened {
            self.reopen();
        } else if throw < 55 {
            self.put();
        } else if throw < 92 {
            self.attempt();
        } else {
            self.touch();
        }
    }

    fn reopen(&mut self) {
        self.spool = None;
        // A spool that was closed has everything on disk.
        let sure = (self.disk.position(), self.made, Vec::new());
        self.answers().sure.push(sure);
        self.open();
        // Each attempt that had begun is over; what is in doubt says so itself.
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().expect("nothing panics while it answers")
    }

    /// A few requests at once, so that groups have several.
    fn put(&mut self) {
        if self.chance(self.plan.failing_syncs) {
            self.disk.fail_next_sync();
        }
        let (tell, told) = std::sync::mpsc::channel();
        let requests = 1 + self.below(3);
        for _ in 0..requests {
            let first = self.lives.len();
            let put_at = self.disk.position();
            let events = 1 + self.below(3);
            let envelopes: Vec<Envelope> = (first..first + events)
                .map(|life| {
                    let (conversation, event) = (self.below(CONVERSATIONS), life);
                    let body_bytes = self.plan.body_bytes / 2 + self.below(self.plan.body_bytes as u64);
                    let life_of = Life {
                        conversation,
                        event,
                        body_bytes,
                        put_at,
                        id: None,
                        changes: Vec::new(),
                        failed: None,
                    };
                    self.lives.push(life_of);
                    envelope(life, conversation, event, body_bytes)
                })
                .collect();
            let (answers, disk, made, tell) =
                (self.answers.clone(), self.disk.clone(), self.made, tell.clone());
            self.spool().put(envelopes, move |result| {
                let ids = result.map(|receipt| receipt.ids).unwrap_or_default();
                let lives: Vec<(usize, Id)> = (first..).zip(ids.iter().copied()).collect();
                if !lives.is_empty() {
                    let sure = (disk.position(), made, lives.clone());
                    answers.lock().expect("nothing panics while it answers").sure.push(sure);
                }
                drop(tell.send((first..first + events, lives)));
            });
        }
        drop(tell);
        for (range, lives) in told {
            for (life, id) in &lives {
                self.lives[*life].id = Some(*id);
                self.by_id.insert(*id, *life);
            }
            if lives.is_empty() {
                let at = self.disk.position();
                self.made += 1;
                for life in range {
                    self.lives[life].failed = Some((self.made, at));
                }
            }
        }
    }

    fn made(&mut self, id: Id, change: &Change) {
        self.made += 1;
        let at = self.disk.position();
        let life = self.by_id[&id];
        self.lives[life].changes.push((self.made, at, change.clone()));
    }

    fn sure(&mut self) {
        let sure = (self.disk.position(), self.made, Vec::new());
        self.answers().sure.push(sure);
    }

    fn lease(&self) -> Option<Box<Lease>> {
        let mut seen = 0;
        for _ in 0..3 {
            match self.spool().lease_due().expect("the queue is readable") {
                Leased::One(lease) => return Some(lease),
                _ => seen = self.spool().wait_for_work(seen, Duration::from_millis(5)),
            }
        }
        None
    }

    fn attempt(&mut self) {
        let Some(lease) = self.lease() else {
            return self.clock.advance(Duration::from_secs(30));
        };
        let id = lease.envelope.id;
        self.made(id, &Change::Begun { at: START, ticket: lease.ticket });
        if self.spool().begin(id, START, lease.ticket).is_err() {
            // Its beginning goes with the next group.
            self.spool().give_back(id);
            return;
        }
        self.sure();
        if self.chance(20) {
            self.made(id, &Change::Progressed { step: 1, ticket: Some(1000 + id), opened: true });
            self.spool().progress(id, 1, Some(1000 + id), true).expect("the queue is writable");
        }
        let change = if self.chance(self.plan.delivered) {
            let conversation = lease.envelope.conversation_hash();
            Change::Delivered { ticket: Some(1000 + id), conversation, ran: RAN }
        } else if self.chance(80) {
            let due = self.clock.now().plus(Duration::from_secs(20));
            let attempts = lease.attempts + 1;
            Change::Deferred { attempts, due, doubt: None, ran: RAN, reason: "503".into() }
        } else {
            Change::Buried { doubt: None, ran: Some(RAN), reason: "mapping".into() }
        };
        self.made(id, &change);
        self.spool().settle(id, change).expect("the queue is writable");
    }

    fn touch(&mut self) {
        let waiting: Vec<Id> = self.spool().entries(0).expect("readable").iter().map(|row| row.0).collect();
        if waiting.is_empty() {
            return;
        }
        let id = waiting[self.below(waiting.len() as u64)];
        let change = if self.chance(50) { Change::Retried } else { Change::Dropped { at: START } };
        self.made(id, &change);
        self.spool().touch(id, change).expect("the queue is writable");
        self.sure();
    }
}

/// The claims that hold after a cut.
pub struct Claims<'a> {
    world: &'a World,
    cut: usize,
    /// Every change up to this one is durable.
    durable: u64,
    answered: BTreeMap<usize, Id>,
}

impl World {
    /// What must be true when only the first `cut` things were done.
    pub fn claims(&self, cut: usize) -> Claims<'_> {
        let mut claims = Claims { world: self, cut, durable: 0, answered: BTreeMap::new() };
        let answers = self.answers();
        for (_, made, lives) in answers.sure.iter().filter(|(at, ..)| *at <= cut) {
            claims.durable = claims.durable.max(*made);
            claims.answered.extend(lives.iter().copied());
        }
        claims
    }

    /// Where the spool is below the root of a rebuilt disk.
    pub fn directory_below(&self, root: &Path) -> PathBuf {
        root.join("var/lib/spool")
    }
}

/// When it is due means something only while it waits for that moment.
fn without_idle_due(entry: &Entry) -> Entry {
    let due = if entry.state == State::Deferred { entry.due } else { entry.received_at };
    Entry { due, ..entry.clone() }
}

/// What the spool may say of one put.
struct Allowed {
    entries: Vec<Entry>,
    absent: bool,
}

impl Claims<'_> {
    /// Opens the spool and looks.
    pub fn check(&self, root: &Path, disk: Arc<TestDisk>, drains: bool) -> Result<(), String> {
        let spool = self.opened(root, disk)?;
        let found = self.found(&spool)?;
        self.compare(&spool, &found)?;
        if drains {
            self.goes_on(&spool, &found)?;
            drop(spool);
            let again = self.opened(root, Arc::new(TestDisk::without_syncs()))?;
            let back = again.entries(0).map_err(|error| error.to_string())?;
            if let Some((id, entry, _)) = back.iter().find(|(_, entry, _)| entry.state != State::Dead) {
                let was = found.values().find(|(was, _)| was == id);
                return Err(format!("{id} came back after it was delivered: {entry:?}, was {was:?}"));
            }
        }
        Ok(())
    }

    /// Opens the spool and closes it again.
    pub fn opened(&self, root: &Path, disk: Arc<TestDisk>) -> Result<Spool, String> {
        let ground = self.world.plan.ground(disk);
        let directory = self.world.directory_below(root);
        let clock = ManualClock::at(self.later());
        let opened = Spool::open_on(ground, &directory, limits(), clock);
        let (spool, recovery) = opened.map_err(|error| format!("does not open: {error}"))?;
        if !recovery.lost.is_empty() {
            return Err(format!("{:?} are lost", recovery.lost));
        }
        Ok(spool)
    }

    /// A time at which everything is due.
    pub fn later(&self) -> crate::clock::Timestamp {
        self.world.clock.now().plus(Duration::from_secs(3600))
    }

    /// What surely waits, and how it stands.
    pub fn waiting(&self) -> BTreeMap<Id, Entry> {
        let mut waiting = BTreeMap::new();
        for (number, id) in &self.answered {
            let allowed = self.allowed(*number, &self.world.lives[*number]);
            if let (false, [entry]) = (allowed.absent, allowed.entries.as_slice()) {
                waiting.insert(*id, entry.clone());
            }
        }
        waiting
    }

    /// Whether an envelope has the bytes it was put with.
    pub fn is_as_put(&self, held: &Envelope) -> bool {
        let Some((number, life)) =
            held.peer.parse().ok().and_then(|number: usize| Some((number, self.world.lives.get(number)?)))
        else {
            return false;
        };
        *held == Envelope { id: held.id, ..envelope(number, life.conversation, life.event, life.body_bytes) }
    }

    /// Whether an entry is the one that is expected, wherever its text lies.
    pub fn stands(&self, entry: &Entry, expected: &Entry) -> bool {
        Entry { place: entry.place, ..without_idle_due(expected) } == without_idle_due(entry)
    }

    /// What is there, by life.
    fn found(&self, spool: &Spool) -> Result<BTreeMap<usize, (Id, Entry)>, String> {
        let mut found = BTreeMap::new();
        let mut from = 0;
        loop {
            let page = spool.entries(from).map_err(|error| error.to_string())?;
            for (id, entry, _) in &page {
                let held = spool.envelope(entry).map_err(|error| format!("{id} unreadable: {error}"))?;
                let life: usize = held.peer.parse().map_err(|_| format!("{id} is nobody"))?;
                let put = self.world.lives.get(life).ok_or(format!("{id} is nobody"))?;
                let meant =
                    Envelope { id: *id, ..envelope(life, put.conversation, put.event, put.body_bytes) };
                if held != meant {
                    return Err(format!("{id} has other bytes"));
                }
                if let Some((before, _)) = found.insert(life, (*id, entry.clone())) {
                    return Err(format!("{before} and {id} are the same put"));
                }
            }
            match page.last() {
                Some((last, ..)) => from = last + 1,
                None => return Ok(found),
            }
        }
    }

    fn compare(&self, spool: &Spool, found: &BTreeMap<usize, (Id, Entry)>) -> Result<(), String> {
        for (number, life) in self.world.lives.iter().enumerate() {
            let allowed = self.allowed(number, life);
            let Some((id, entry)) = found.get(&number) else {
                if allowed.absent {
                    continue;
                }
                return Err(format!("{:?} of life {number} is not there", self.answered.get(&number)));
            };
            if self.answered.get(&number).is_some_and(|answered| answered != id) {
                return Err(format!("{id} has another number than it was answered with"));
            }
            let entry = without_idle_due(entry);
            let is = |one: &Entry| Entry { place: entry.place, ..without_idle_due(one) } == entry;
            if !allowed.entries.iter().any(is) {
                return Err(format!("{id} stands wrong: {entry:?}, allowed are {:?}", allowed.entries));
            }
        }
        let highest = self.answered.values().max().copied().unwrap_or(0);
        let next = spool.shared.core().next_id;
        if next <= highest { Err(format!("{next} would be given again")) } else { Ok(()) }
    }

    fn allowed(&self, number: usize, life: &Life) -> Allowed {
        let is_answered = self.answered.contains_key(&number);
        let mut allowed = Allowed { entries: Vec::new(), absent: !is_answered };
        if life.put_at > self.cut {
            return allowed;
        }
        if let Some((made, at)) = life.failed {
            if at > self.cut || made > self.durable {
                allowed.entries.push(self.fresh(number, life));
            }
            return allowed;
        }
        let mut entry = self.fresh(number, life);
        let mut steps = vec![Some(entry.clone())];
        let mut sure = 0;
        for (made, at, change) in &life.changes {
            if *at > self.cut {
                break;
            }
            entry.apply(change);
            steps.push(if change.settles() { None } else { Some(entry.clone()) });
            if *made <= self.durable {
                sure = steps.len() - 1;
            }
        }
        for step in steps.drain(sure..) {
            match step {
                Some(entry) => allowed.entries.push(entry),
                None => allowed.absent = true,
            }
        }
        allowed
    }

    fn fresh(&self, number: usize, life: &Life) -> Entry {
        let envelope = envelope(number, life.conversation, life.event, 0);
        Entry::of(&envelope, Place { segment: 0, offset: 0, length: 0 })
    }

    /// The spool can be worked with: what is there is known, leased in order, and gone for good when it is settled.
    fn goes_on(&self, spool: &Spool, found: &BTreeMap<usize, (Id, Entry)>) -> Result<(), String> {
        for (number, (id, _)) in found.iter().take(3) {
            let life = &self.world.lives[*number];
            let again = spool.put_and_wait(vec![envelope(*number, life.conversation, life.event, 10)]);
            if again.as_ref().map_or(0, |receipt| receipt.duplicates) != 1 {
                return Err(format!("{id} is not known when it is sent again: {again:?}"));
            }
        }
        let mut last: BTreeMap<String, Id> = BTreeMap::new();
        let mut left = found.values().filter(|(_, entry)| entry.state != State::Dead).count();
        while let Leased::One(lease) = spool.lease_due().map_err(|error| error.to_string())? {
            let (id, conversation) = (lease.envelope.id, lease.envelope.conversation.clone());
            if last.insert(conversation, id).is_some_and(|before| before > id) {
                return Err(format!("{id} comes after a later one of its conversation"));
            }
            let conversation = lease.envelope.conversation_hash();
            let change = Change::Delivered { ticket: Some(1), conversation, ran: RAN };
            spool.settle(id, change).map_err(|error| error.to_string())?;
            left = left.checked_sub(1).ok_or(format!("{id} came twice"))?;
        }
        if left > 0 { Err(format!("{left} are never leased")) } else { Ok(()) }
    }
}
