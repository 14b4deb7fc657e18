//! A simulated world: its clock, what is going to happen, the process with its workers, and its kills.

mod agenda;
mod life;
mod told;

use super::desk::{Account, Call, Fate, Reply, Weather};
use super::judge::{Failed, Judge};
use super::{HOUR, between};
use crate::backoff::{Backoff, Dice};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::dispatch::{Dispatch, Planned, Step};
use crate::freshdesk::outcome::Cause;
use crate::freshdesk::write::{ContactFields, NoteFields, TicketFields, UpdateFields, Write};
use crate::spool::{Change, Entry, Envelope, Id, Spool, State as Standing};
use agenda::Happening;
use life::Process;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
pub use told::Told;

const START: Timestamp = Timestamp(1_763_712_000_000);
const GUARD: Duration = Duration::from_secs(25);
/// Steps without time passing; more are a loop.
const STEPS_AT_ONCE_MAX: u32 = 20_000;
/// In memory where there is such a place: what is tested here is not the disk.
const SHARED_MEMORY: &str = "/dev/shm";

/// What kind of world.
#[derive(Clone, Debug)]
pub struct Settings {
    pub hours: u64,
    pub workers: usize,
    pub rate_per_minute: u32,
    pub conversations: u64,
    pub hours_between_bursts: f64,
    /// That a call goes wrong in fine weather.
    pub fault_chance: f64,
    /// Whether the weather changes.
    pub storms: bool,
    /// That the process is killed during a call.
    pub kill_chance: f64,
    /// That a silent call is done when nobody can know any more.
    pub too_late_chance: f64,
    /// Whether the wall clock is set now and then.
    pub jumps: bool,
}

/// What was accepted.
#[derive(Clone, Debug)]
pub struct Event {
    pub text: String,
    /// A sick one fails until then.
    pub sick_until: Duration,
}

pub struct State {
    dice: Dice,
    account: Account,
    judge: Judge,
    agenda: BTreeMap<(Duration, u64), Happening>,
    serial: u64,
    /// Workers in a call.
    busy: usize,
    /// When an idle worker looks again.
    step_at: Duration,
    steps_at_once: u32,
    life: u32,
    /// This life was cut off: nothing that it does counts.
    over: bool,
    /// It is told to end.
    stopping: bool,
    /// The last days: nothing goes wrong any more.
    ending: bool,
    /// What is promised to be on disk: the last segment and its length.
    durable: (PathBuf, u64),
    /// The directory that a kill left.
    left: Option<PathBuf>,
    directories: u32,
    next_number: BTreeMap<u64, u64>,
    events: BTreeMap<Id, Event>,
    /// By marker, which envelope it is.
    failed: BTreeMap<Id, Failed>,
    /// When a text was last accepted.
    accepted: BTreeMap<String, Duration>,
    markers: BTreeMap<String, Id>,
    told: Told,
    jumped_at: Duration,
}

pub struct World {
    seed: u64,
    settings: Settings,
    clock: Arc<ManualClock>,
    room: TempDir,
    state: Mutex<State>,
    process: Mutex<Option<Process>>,
}

fn backoff() -> Backoff {
    Backoff { first: Duration::from_secs(5), factor: 2.0, max: Duration::from_secs(900), jitter: 0.2 }
}

/// The first event opens the conversation's ticket, the others are notes. `twice` makes two notes of it; `filed` fills
/// the contact before and changes the ticket after; `moved` only changes the ticket, if there is one.
fn plan(envelope: &Envelope, ticket: Option<u64>) -> Planned {
    let text = String::from_utf8_lossy(&envelope.body).into_owned();
    let texts = texts(&text);
    let note = |body: &String| Write::AddNote(NoteFields { body: body.clone(), ..NoteFields::default() });
    let message = |text: &String| match ticket {
        None => {
            let fields = TicketFields { subject: text.clone(), ..TicketFields::default() };
            Write::CreateTicket(Box::new(fields))
        }
        Some(_) => note(text),
    };
    let tags = |step: usize| vec![tag(envelope.id, step), texts[step].clone()];
    let update = |step| {
        Write::UpdateTicket(Box::new(UpdateFields { tags_add: tags(step), ..UpdateFields::default() }))
    };
    Planned::Writes(match text.split(' ').next() {
        Some("twice") => vec![message(&texts[0]), note(&texts[1])],
        Some("filed") => {
            let contact = ContactFields { tags_add: tags(0), ..ContactFields::default() };
            vec![Write::PutContact(Box::new(contact)), message(&texts[1]), update(2)]
        }
        Some("moved") if ticket.is_some() => vec![update(0)],
        _ => vec![message(&texts[0])],
    })
}

/// Writes of the longest plan.
const STEPS_MAX: usize = 3;

/// What the writes of an event's plan say, in order: each one `+` more.
pub fn texts(text: &str) -> Vec<String> {
    let steps = match text.split(' ').next() {
        Some("twice") => 2,
        Some("filed") => STEPS_MAX,
        _ => 1,
    };
    (0..steps).map(|step| format!("{text}{}", "+".repeat(step))).collect()
}

/// By what an update or a contact is known.
fn tag(id: Id, step: usize) -> String {
    format!("write {step} of {id}")
}

impl World {
    /// Lives through a world; panics with its seed when something does not hold.
    pub fn run(seed: u64, settings: Settings) -> Told {
        let world = Arc::new(World::new(seed, settings));
        world.open(world.room.path().join("0"));
        world.plan_ahead();
        world.live(world.settings.hours * HOUR.as_secs());
        world.calm();
        // Longer than anything is tried.
        world.live(world.clock.monotonic().as_secs() + 5 * 86_400);
        world.judge_the_end();
        let mut state = world.state();
        let _ = world.process().take();
        state.told.doubles_excused = state.judge.doubles_excused;
        state.told.clone()
    }

    fn new(seed: u64, settings: Settings) -> World {
        let mut dice = Dice::seeded(seed ^ 0x5eed);
        let begins = if settings.jumps && dice.throw() < 0.5 { Timestamp(60_000) } else { START };
        let room = match Path::new(SHARED_MEMORY).is_dir() {
            true => TempDir::new_in(SHARED_MEMORY),
            false => TempDir::new(),
        };
        let judge = Judge::new(&settings, backoff());
        let state = State {
            dice,
            account: Account::new(),
            judge,
            agenda: BTreeMap::new(),
            serial: 0,
            busy: 0,
            step_at: Duration::ZERO,
            steps_at_once: 0,
            life: 0,
            over: false,
            stopping: false,
            ending: false,
            durable: (PathBuf::new(), 0),
            left: None,
            directories: 0,
            next_number: BTreeMap::new(),
            events: BTreeMap::new(),
            failed: BTreeMap::new(),
            accepted: BTreeMap::new(),
            markers: BTreeMap::new(),
            told: Told { hours: settings.hours, ..Told::default() },
            jumped_at: Duration::ZERO,
        };
        World {
            seed,
            settings,
            clock: ManualClock::at(begins),
            room: room.expect("there is room for a directory"),
            state: Mutex::new(state),
            process: Mutex::default(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan_ahead(&self) {
        let mut state = self.state();
        state.repeat(Duration::ZERO, 0.1, Happening::Arrive);
        state.repeat(Duration::ZERO, 10.0, Happening::Kill { repeats: true });
        state.repeat(Duration::ZERO, 20.0, Happening::Restart);
        state.repeat(Duration::ZERO, 12.0, Happening::Admin);
        if self.settings.storms {
            state.repeat(Duration::ZERO, 3.0, Happening::Weather);
        }
        if self.settings.jumps {
            state.repeat(Duration::ZERO, 3.0, Happening::Jump);
        }
    }

    /// Nothing goes wrong any more, and nothing new comes.
    fn calm(&self) {
        let now = self.clock.monotonic();
        let mut state = self.state();
        state.ending = true;
        state.account.weather = Weather::Fine;
        state.judge.weather_changes(Weather::Fine, now);
        state.agenda.retain(|_, happening| matches!(happening, Happening::Done { .. } | Happening::Post(_)));
        state.step_at = now;
    }

    /// Until so many seconds have passed since the beginning.
    fn live(self: &Arc<Self>, until_seconds: u64) {
        let until = Duration::from_secs(until_seconds);
        loop {
            self.pass(until);
            self.stand_judged();
            let (over, stopping, left) = {
                let mut state = self.state();
                (state.over, state.stopping, state.left.take())
            };
            if !over && !stopping {
                return;
            }
            self.restart(left);
        }
    }

    fn stand_judged(&self) {
        let state = self.state();
        assert!(
            state.judge.violations.is_empty(),
            "after {:.1} hours, repeat with SIM_SEED={}: {:#?}\n{:?}",
            self.clock.monotonic().as_secs_f64() / 3600.0,
            self.seed,
            state.judge.violations,
            self.settings
        );
    }

    /// Lets time pass, and everything happen that does, with steps of idle workers in between.
    fn pass(self: &Arc<Self>, until: Duration) {
        loop {
            let now = self.clock.monotonic();
            let (next, may_step) = {
                let state = self.state();
                let ends = state.over || (state.stopping && state.busy == 0);
                if ends || !state.judge.violations.is_empty() {
                    return;
                }
                let may_step = !state.stopping && state.busy < self.settings.workers;
                let steps = if may_step { state.step_at } else { Duration::MAX };
                let happens = state.agenda.first_key_value().map_or(Duration::MAX, |((at, _), _)| *at);
                (until.min(steps).min(happens), may_step && state.step_at <= now)
            };
            if may_step {
                self.step();
                continue;
            }
            if next > now {
                self.clock.advance(next - now);
                self.state().steps_at_once = 0;
            }
            let happening = self.state().take_due(next);
            match happening {
                Some(happening) => self.happen(happening),
                None if next >= until => return,
                None => {}
            }
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dispatch(&self) -> Option<Arc<Dispatch>> {
        self.process().as_ref().map(|process| process.dispatch.clone())
    }

    fn spool(&self) -> Option<Arc<Spool>> {
        self.process().as_ref().map(|process| process.spool.clone())
    }

    /// One step of an idle worker; other workers take theirs inside its calls.
    fn step(self: &Arc<Self>) {
        let Some(dispatch) = self.dispatch() else {
            self.state().step_at = Duration::MAX;
            return;
        };
        let step = dispatch.step();
        let now = self.clock.monotonic();
        let mut state = self.state();
        if state.over {
            return;
        }
        state.steps_at_once += 1;
        state.step_at = match step {
            Ok(Step::Again) => now,
            Ok(Step::Wait(wait) | Step::Closed(wait)) => now + wait.max(Duration::from_millis(1)),
            Err(error) => {
                state.judge.violate(format!("a step failed: {error}"));
                now
            }
        };
        if state.steps_at_once > STEPS_AT_ONCE_MAX {
            state.judge.violate("workers turn in a circle".to_owned());
        }
        drop(state);
        self.judge_due_times();
    }

    /// What was attempted and deferred must be due when the backoff says.
    fn judge_due_times(&self) {
        let failed = std::mem::take(&mut self.state().failed);
        let Some(spool) = self.spool().filter(|_| !failed.is_empty()) else { return };
        let now = self.clock.now();
        for (id, failed) in failed {
            match spool.entry(id) {
                Ok(Some((_, true))) => drop(self.state().failed.insert(id, failed)),
                Ok(Some((entry, false))) if entry.state == Standing::Deferred => {
                    self.state().judge.deferred(entry.attempts, entry.due.since(now), failed, GUARD);
                }
                Ok(_) => {}
                Err(error) => self.state().judge.violate(format!("the spool cannot be read: {error}")),
            }
        }
    }

    fn happen(self: &Arc<Self>, happening: Happening) {
        let now = self.clock.monotonic();
        self.state().told.note(now, happening.name());
        match happening.clone() {
            Happening::Arrive => self.arrive(now),
            Happening::Post(envelope) => self.post(*envelope, now),
            Happening::Done { call, began } => {
                let mut state = self.state();
                let State { account, dice, judge, markers, .. } = &mut *state;
                account.perform(&call, now, dice);
                let marker = call.marker().expect("writes have one");
                judge.done(&call, markers[marker], account.done[marker].len() > 1, (began, now));
            }
            Happening::Kill { repeats } => {
                if repeats {
                    self.state().repeat(now, 80.0, happening);
                }
                self.kill();
            }
            Happening::Restart => {
                let mut state = self.state();
                state.repeat(now, 60.0, Happening::Restart);
                state.stopping = true;
            }
            Happening::Weather => self.turn_weather(now),
            Happening::Admin => self.retry_dead(now),
            Happening::Jump => self.jump(now),
        }
    }

    fn turn_weather(&self, now: Duration) {
        let mut state = self.state();
        let to = match between(&mut state.dice, 0, 13) {
            0 => Weather::Refusing,
            1 => Weather::WrongKey,
            2 => Weather::Failing,
            3 => Weather::WritesFail,
            4 => Weather::Silent,
            5 => Weather::Limited,
            6 | 7 => Weather::Flaky,
            _ => Weather::Fine,
        };
        state.told.outages += u64::from(to != Weather::Fine && to != Weather::Flaky);
        state.judge.weather_changes(to, now);
        state.account.weather = to;
        // Minutes or days.
        let hours = if state.dice.throw() < 0.1 { 48.0 } else { 4.0 };
        state.repeat(now, hours, Happening::Weather);
    }

    /// An admin looks at the dead letters and has them tried again, half of them.
    fn retry_dead(&self, now: Duration) {
        self.state().repeat(now, 24.0, Happening::Admin);
        let Some(spool) = self.spool() else { return };
        for (id, entry) in dead_letters(&spool) {
            let mut state = self.state();
            if state.dice.throw() < 0.5 {
                continue;
            }
            let all = state.events.get(&id).map(|event| texts(&event.text)).unwrap_or_default();
            state.judge.retried.extend(all);
            state.step_at = now;
            drop(state);
            drop(entry);
            spool.touch(id, Change::Retried).expect("the spool can be written");
        }
        // What is on disk is what was appended, not what the machine had time for.
        spool.touch_all(&[], &Change::Retried).expect("the spool can be written");
        self.promise();
    }

    /// The wall clock is set: by minutes, by a year, from 1970 to today or back.
    fn jump(&self, now: Duration) {
        let mut state = self.state();
        state.repeat(now, 30.0, Happening::Jump);
        let minutes = match between(&mut state.dice, 0, 5) {
            0 => 2,
            1 => 60,
            2 => 3 * 24 * 60,
            _ => 365 * 24 * 60,
        };
        let wall = self.clock.now();
        let step = Duration::from_secs(minutes * 60);
        let is_unset = wall.0 < START.0 / 2;
        let to = match between(&mut state.dice, 0, 1) {
            _ if is_unset => START.plus(now),
            0 => wall.plus(step),
            _ => Timestamp(wall.0.saturating_sub(u64::try_from(step.as_millis()).expect("a year fits"))),
        };
        self.clock.jump_to(to);
        // Seen at once: whether one of the spool's own threads would have looked in between must not matter.
        let _ = self.spool().map(|spool| spool.clock_jumps());
        state.told.jumps += 1;
        state.jumped_at = now;
        // A worker looks at the clock that often.
        let wait = between(&mut state.dice, 0, 15_000);
        state.step_at = state.step_at.min(now + Duration::from_millis(wait));
    }

    /// A call of a life; the ticket when it went well and there is one.
    pub fn call(self: &Arc<Self>, life: u32, call: &Call) -> (Reply, Option<u64>) {
        const CUT_OFF: Reply = Reply::Deferred(Cause::Unreachable, None, "this process is no more");
        let began = self.clock.monotonic();
        let Some(fate) = self.begin_call(life, call, began) else { return (CUT_OFF, None) };
        self.pass(began + fate.took);
        let now = self.clock.monotonic();
        let mut state = self.state();
        state.busy -= 1;
        if state.over || state.life != life {
            return (CUT_OFF, None);
        }
        state.told.note(now, fate.reply.name());
        let ticket = match (&fate.reply, call) {
            (Reply::Fine, call) if call.is_write() => {
                let done = call.marker().and_then(|marker| state.account.done.get(marker));
                done.and_then(|done| done.last()).map(|done| done.ticket)
            }
            (Reply::Fine, _) => state.account.find(call, now),
            _ => None,
        };
        let id = call.marker().and_then(|marker| state.markers.get(marker)).copied();
        match &fate.reply {
            Reply::Deferred(Cause::RateLimited, wait, _) => {
                let wait = wait.expect("a scripted 429 says how long");
                state.judge.told_to_wait(wait, now);
            }
            Reply::Deferred(Cause::Denied, ..) | Reply::Fine | Reply::Rejected => {}
            Reply::Deferred(_, asked, _) => {
                let failed = Failed { in_doubt: !call.is_write(), asked: *asked };
                state.failed.extend(id.map(|id| (id, failed)));
            }
            Reply::Unknown(_) => {
                state.failed.extend(id.map(|id| (id, Failed { in_doubt: true, asked: None })));
            }
        }
        (fate.reply, ticket)
    }

    /// What becomes of a call is decided now; nothing when the caller's life is over.
    fn begin_call(&self, life: u32, call: &Call, now: Duration) -> Option<Fate> {
        if call.is_write() {
            // Its beginning is promised to be on disk.
            self.promise();
        }
        let mut state = self.state();
        if state.over || state.life != life {
            return None;
        }
        state.told.calls += 1;
        state.told.note(now, call.name());
        state.judge.call_begins(call, now);
        let chances = match state.ending {
            true => (0.0, 0.0),
            false => (self.settings.fault_chance, self.settings.too_late_chance),
        };
        let State { account, dice, .. } = &mut *state;
        let mut fate = account.fate(call, chances, dice);
        if call.is_write() {
            state.judge_illness(call, &mut fate, now);
            if let Some(after) = fate.done_after {
                state.schedule_at(now + after, Happening::Done { call: call.clone(), began: now });
            }
        }
        if !state.ending && state.dice.throw() < self.settings.kill_chance {
            let most = u64::try_from(fate.took.as_millis()).expect("calls are short") + 1;
            let after = Duration::from_millis(between(&mut state.dice, 0, most));
            state.schedule_at(now + after, Happening::Kill { repeats: false });
        }
        state.busy += 1;
        Some(fate)
    }

    fn judge_the_end(&self) {
        let spool = self.spool().expect("it is open");
        let dead: BTreeMap<Id, String> =
            dead_letters(&spool).into_iter().map(|(id, entry)| (id, entry.reason)).collect();
        let mut state = self.state();
        state.told.dead = dead.len() as u64;
        state.told.events = state.events.len() as u64;
        for (id, event) in std::mem::take(&mut state.events) {
            let stands = match (dead.get(&id), spool.entry(id).expect("it can be read")) {
                (Some(reason), _) => reason.clone(),
                (None, None) => "delivered".to_owned(),
                (None, Some((entry, _))) => format!("{:?}: {}", entry.state, entry.reason),
            };
            state.judge.ended(&event, &stands);
        }
        drop(state);
        self.stand_judged();
    }
}

fn dead_letters(spool: &Spool) -> Vec<(Id, Entry)> {
    let mut dead = Vec::new();
    let mut from = 0;
    loop {
        let page = spool.entries(from).expect("the spool can be read");
        let Some((last, ..)) = page.last() else { return dead };
        from = last + 1;
        dead.extend(
            page.into_iter()
                .filter(|(_, entry, _)| entry.state == Standing::Dead)
                .map(|(id, entry, _)| (id, entry)),
        );
    }
}
