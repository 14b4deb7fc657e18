//! Delivery against a scripted Freshdesk and a manual clock: days pass in milliseconds.

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::freshdesk::outcome::Looked;
use crate::freshdesk::write::{ContactFields, NoteFields, Requester, TicketFields, UpdateFields};
use crate::spool::{Change, Limits, State};
use desk::{Answer, ScriptedDesk};
use std::collections::VecDeque;
use tempfile::TempDir;

mod beside;
mod desk;
mod together;

const START: Timestamp = Timestamp(1_763_712_000_000);
const GUARD: Duration = Duration::from_secs(25);

type Deliveries = Arc<Mutex<Vec<(Id, Option<u64>)>>>;

struct Rig {
    directory: TempDir,
    clock: Arc<ManualClock>,
    desk: Arc<ScriptedDesk>,
    spool: Option<Arc<Spool>>,
    dispatch: Option<Dispatch>,
    rate_per_minute: u32,
    delivered: Deliveries,
}

/// The body is what is written; `unmappable` and `nothing` are what they say.
fn plan(envelope: &Envelope, ticket: Option<u64>) -> Planned {
    let text = String::from_utf8_lossy(&envelope.body).into_owned();
    match (text.as_str(), ticket) {
        ("unmappable", _) => Planned::Unmappable("mapping: ticket.subject rendered empty".into()),
        ("nothing", _) => Planned::Writes(Vec::new()),
        ("stranger", _) => Planned::NoSource,
        ("twice", None) => {
            let note = Write::AddNote(NoteFields { body: text.clone(), ..NoteFields::default() });
            Planned::Writes(vec![create(text), note])
        }
        (_, None) => Planned::Writes(vec![create(text)]),
        (note, Some(_)) if note.starts_with("merge") => {
            let merge = note.starts_with("merge later").then_some(Duration::from_secs(120));
            let merge = Some(merge.unwrap_or_default());
            Planned::Writes(vec![Write::AddNote(NoteFields { body: text, merge, ..NoteFields::default() })])
        }
        (_, Some(_)) => {
            Planned::Writes(vec![Write::AddNote(NoteFields { body: text, ..NoteFields::default() })])
        }
    }
}

fn create(subject: String) -> Write {
    Write::CreateTicket(Box::new(TicketFields { subject, ..TicketFields::default() }))
}

impl Rig {
    fn new() -> Rig {
        let clock = ManualClock::at(START);
        let desk = Arc::new(ScriptedDesk { clock: clock.clone(), books: Mutex::default() });
        let directory = tempfile::tempdir().unwrap();
        let delivered = Deliveries::default();
        let mut rig =
            Rig { directory, clock, desk, spool: None, dispatch: None, rate_per_minute: 1000, delivered };
        rig.start();
        rig
    }

    fn orders(&self) -> Orders {
        Orders {
            desk: self.desk.clone(),
            plan: Box::new(plan),
            backoff: backoff(),
            give_up_after: Duration::from_secs(3 * 86_400),
            rate_per_minute: self.rate_per_minute,
            guard: GUARD,
        }
    }

    fn start(&mut self) {
        let limits = Limits { disk_free_min: 0, ..Limits::default() };
        let (spool, _) = Spool::open(self.directory.path(), limits, self.clock.clone()).unwrap();
        let spool = Arc::new(spool);
        let delivered = self.delivered.clone();
        let note = move |envelope: &Envelope, delivery: &Delivery| {
            delivered.lock().unwrap().push((envelope.id, delivery.ticket));
        };
        let dispatch = Dispatch::new(spool.clone(), self.clock.clone(), self.orders(), Box::new(note));
        self.spool = Some(spool);
        self.dispatch = Some(dispatch);
    }

    fn restart(&mut self) {
        self.dispatch = None;
        self.spool = None;
        self.start();
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.desk.books().script.extend(answers);
    }

    fn always(&self, answer: Option<Answer>) {
        self.desk.books().always = answer;
    }

    fn put(&self, conversation: &str, body: &str) -> Id {
        let count = self.spool().counts().len();
        let envelope = Envelope {
            id: 0,
            received_at: self.clock.now(),
            source: "test".into(),
            kind: String::new(),
            event_id: format!("{conversation}/{body}/{count}"),
            dedupe: hash_of(&[conversation.as_bytes(), body.as_bytes()]),
            dedupe_window: Duration::from_secs(600),
            conversation: conversation.into(),
            peer: "127.0.0.1".into(),
            context: Vec::new(),
            body: body.into(),
            born_dead: None,
            origin: None,
        };
        let id = self.spool().put_and_wait(vec![envelope]).unwrap().ids[0];
        // A put enters the queue a moment after it was answered.
        self.spool().entry(id).unwrap().expect("it was just put");
        id
    }

    /// Steps until nothing is due, letting time pass up to `patience`.
    fn run_for(&self, patience: Duration) {
        let end = self.clock.monotonic() + patience;
        loop {
            match self.dispatch.as_ref().unwrap().step().unwrap() {
                Step::Again => {}
                Step::Wait(wait) | Step::Closed(wait) => {
                    let wait = wait.clamp(Duration::from_millis(1), WAIT_MAX);
                    if self.clock.monotonic() + wait > end {
                        self.clock.advance(end.saturating_sub(self.clock.monotonic()));
                        return;
                    }
                    self.clock.advance(wait);
                }
            }
        }
    }

    fn run(&self) {
        self.run_for(Duration::ZERO);
    }

    fn written(&self) -> Vec<(u64, String)> {
        self.desk.books().written.iter().map(|(_, ticket, text)| (*ticket, text.clone())).collect()
    }

    fn reason(&self, id: Id) -> (State, String) {
        let (entry, _) = self.spool().entry(id).unwrap().expect("it is not settled");
        (entry.state, entry.reason)
    }
}

fn backoff() -> Backoff {
    Backoff { first: Duration::from_secs(5), factor: 2.0, max: Duration::from_secs(900), jitter: 1.0 }
}

fn owned(pairs: &[(u64, &str)]) -> Vec<(u64, String)> {
    pairs.iter().map(|(ticket, text)| (*ticket, (*text).to_owned())).collect()
}

#[test]
fn the_first_event_opens_the_ticket_and_the_next_ones_add_to_it() {
    let rig = Rig::new();
    rig.put("a", "hello");
    rig.put("b", "other");
    rig.put("a", "where is it?");
    rig.run();
    assert_eq!(rig.written(), owned(&[(1, "hello"), (2, "other"), (1, "where is it?")]));
    assert_eq!(*rig.delivered.lock().unwrap(), [(1, Some(1)), (2, Some(2)), (3, Some(1))]);
}

#[test]
fn failed_attempts_come_back_within_the_bounds_of_the_backoff() {
    let rig = Rig::new();
    rig.put("a", "hello");
    let busy = Answer::Deferred(Cause::Server, None);
    rig.script([busy.clone(), busy]);
    rig.run_for(Duration::from_secs(120));
    let at: Vec<Duration> = rig.desk.books().calls.iter().map(|(at, _)| *at).collect();
    assert_eq!(at.len(), 3);
    for (attempt, gap) in (1..).zip(at.windows(2).map(|pair| pair[1] - pair[0])) {
        let (shortest, longest) = backoff().bounds(attempt);
        // A deadline is kept in whole milliseconds.
        let slack = Duration::from_millis(2);
        assert!(gap + slack >= shortest && gap <= longest + slack, "{gap:?} after attempt {attempt}");
    }
}

#[test]
fn a_rejected_write_is_a_dead_letter_and_others_go_on() {
    let rig = Rig::new();
    let dead = rig.put("a", "hello");
    rig.put("b", "other");
    rig.script([Answer::Rejected]);
    rig.run();
    let reason = "freshdesk 400: type is invalid (type)".to_owned();
    assert_eq!(rig.reason(dead), (State::Dead, reason));
    assert_eq!(rig.written(), owned(&[(1, "other")]));
}

#[test]
fn a_rejected_write_that_is_retried_is_sent_at_once_without_looking() {
    for restarted in [false, true] {
        let mut rig = Rig::new();
        let dead = rig.put("a", "hello");
        rig.script([Answer::Rejected]);
        rig.run();
        if restarted {
            rig.restart();
        }
        rig.spool().touch(dead, Change::Retried).unwrap();
        rig.run();
        assert_eq!(rig.written(), owned(&[(1, "hello")]), "restarted = {restarted}");
        let calls: Vec<&str> = rig.desk.books().calls.iter().map(|(_, what)| *what).collect();
        assert_eq!(calls, ["create", "create"], "restarted = {restarted}");
    }
}

#[test]
fn what_was_given_up_in_doubt_is_looked_for_when_it_is_retried() {
    let mut rig = Rig::new();
    let id = rig.put("a", "hello");
    rig.always(Some(Answer::LostUnanswered));
    rig.run_for(Duration::from_secs(4 * 86_400));
    assert_eq!(rig.reason(id).0, State::Dead);
    rig.always(None);
    rig.restart();
    let looks = rig.desk.count("find ticket");
    rig.spool().touch(id, Change::Retried).unwrap();
    rig.run_for(Duration::from_secs(600));
    assert!(rig.desk.count("find ticket") > looks);
    assert_eq!(rig.written(), owned(&[(1, "hello")]));
}

#[test]
fn a_restart_waits_for_the_write_that_was_cut_off_and_not_for_the_first_of_its_plan() {
    let mut rig = Rig::new();
    rig.put("a", "twice");
    let Leased::One(lease) = rig.spool().lease_due().unwrap() else { panic!("it is due") };
    rig.spool().begin(lease.envelope.id, rig.clock.now(), None).unwrap();
    // The first write took its time; the second was sent a moment before the end.
    rig.clock.advance(GUARD * 2);
    rig.spool().progress(lease.envelope.id, 1, Some(1), true).unwrap();
    rig.spool().begin(lease.envelope.id, rig.clock.now(), None).unwrap();
    let sent = rig.clock.monotonic();
    rig.restart();
    rig.run_for(GUARD * 4);
    let looks: Vec<Duration> =
        rig.desk.books().calls.iter().filter(|(_, call)| *call == "find note").map(|(at, _)| *at).collect();
    assert_eq!(looks.len(), 2, "{looks:?}");
    assert!(looks[0] >= sent + GUARD, "{looks:?} after {sent:?}");
}

#[test]
fn mapping_failures_and_strangers_never_reach_freshdesk() {
    let rig = Rig::new();
    let dead = rig.put("a", "unmappable");
    let held = rig.put("b", "stranger");
    rig.put("c", "nothing");
    rig.run();
    assert_eq!(rig.reason(dead), (State::Dead, "mapping: ticket.subject rendered empty".into()));
    assert_eq!(rig.reason(held), (State::Held, "source.test is not configured".into()));
    assert_eq!(
        (rig.desk.books().calls.len(), rig.delivered.lock().unwrap().as_slice()),
        (0, &[(3, None)][..])
    );
}

#[test]
fn while_a_retry_after_runs_nobody_calls_and_no_attempt_is_counted() {
    let rig = Rig::new();
    let id = rig.put("a", "hello");
    rig.put("b", "other");
    rig.script([Answer::Deferred(Cause::RateLimited, Some(Duration::from_secs(30)))]);
    rig.run_for(Duration::from_secs(29));
    assert_eq!(rig.desk.books().calls.len(), 1);
    assert_eq!(rig.spool().entry(id).unwrap().unwrap().0.attempts, 0);
    rig.run_for(Duration::from_secs(2));
    assert_eq!(rig.written().len(), 2);
}

#[test]
fn an_outage_costs_probes_not_attempts() {
    let rig = Rig::new();
    for conversation in 0..40 {
        rig.put(&conversation.to_string(), "hello");
    }
    rig.always(Some(Answer::Deferred(Cause::Unreachable, None)));
    rig.run_for(Duration::from_secs(6 * 3600));
    assert!(rig.desk.count("create") <= 2, "{} creates against a dead line", rig.desk.count("create"));
    assert!((10..80).contains(&rig.desk.count("probe")), "{} probes in six hours", rig.desk.count("probe"));
    rig.always(None);
    rig.run_for(Duration::from_secs(1800));
    assert_eq!(rig.written().len(), 40);
}

#[test]
fn a_wrong_key_pauses_delivery_and_buries_nothing() {
    let rig = Rig::new();
    let id = rig.put("a", "hello");
    rig.always(Some(Answer::Deferred(Cause::Denied, None)));
    rig.run_for(Duration::from_secs(10 * 86_400));
    let (entry, _) = rig.spool().entry(id).unwrap().unwrap();
    assert_eq!((entry.state, entry.attempts), (State::Deferred, 0));
    rig.always(None);
    rig.run_for(Duration::from_secs(1800));
    assert_eq!(rig.written(), owned(&[(1, "hello")]));
}

#[test]
fn never_more_calls_in_a_minute_than_configured() {
    let mut rig = Rig::new();
    rig.rate_per_minute = 10;
    rig.restart();
    for conversation in 0..35 {
        rig.put(&conversation.to_string(), "hello");
    }
    rig.run_for(Duration::from_secs(600));
    let at: Vec<Duration> = rig.desk.books().calls.iter().map(|(at, _)| *at).collect();
    assert_eq!(rig.written().len(), 35);
    for window in at.windows(11) {
        assert!(window[10] - window[0] >= Duration::from_secs(60), "{window:?}");
    }
}

#[test]
fn an_answer_that_never_came_is_looked_for_and_found() {
    let rig = Rig::new();
    rig.put("a", "hello");
    rig.put("a", "second");
    rig.script([Answer::DoneUnanswered, Answer::DoneUnanswered]);
    rig.run_for(Duration::from_secs(600));
    assert_eq!(rig.written(), owned(&[(1, "hello"), (1, "second")]));
    assert_eq!((rig.desk.count("find ticket"), rig.desk.count("find note")), (1, 1));
}

#[test]
fn what_is_not_there_is_sent_again_only_after_two_looks() {
    let rig = Rig::new();
    rig.put("a", "hello");
    rig.script([Answer::LostUnanswered]);
    rig.run_for(Duration::from_secs(600));
    assert_eq!(rig.written(), owned(&[(1, "hello")]));
    let calls: Vec<&str> = rig.desk.books().calls.iter().map(|(_, what)| *what).collect();
    assert_eq!(calls, ["create", "find ticket", "find ticket", "create"]);
    let at: Vec<Duration> = rig.desk.books().calls.iter().map(|(at, _)| *at).collect();
    assert!(at[1] - at[0] >= GUARD && at[2] - at[1] >= GUARD, "{at:?}");
}

#[test]
fn an_attempt_cut_off_by_a_crash_is_looked_for() {
    for was_done in [true, false] {
        let mut rig = Rig::new();
        let id = rig.put("a", "hello");
        let Leased::One(lease) = rig.spool().lease_due().unwrap() else { panic!("it is due") };
        rig.spool().begin(id, START, None).unwrap();
        if was_done {
            let marker = marker(&rig.spool().identity(), id, 0);
            rig.desk
                .create_ticket(&TicketFields { subject: "hello".into(), ..TicketFields::default() }, &marker);
        }
        drop(lease);
        rig.restart();
        rig.run_for(Duration::from_secs(600));
        assert_eq!(rig.written(), owned(&[(1, "hello")]), "was_done = {was_done}");
    }
}

#[test]
fn a_plan_of_two_writes_goes_on_where_it_stopped() {
    let mut rig = Rig::new();
    rig.put("a", "twice");
    rig.script([Answer::Fine, Answer::LostUnanswered]);
    rig.run();
    rig.restart();
    rig.run_for(Duration::from_secs(600));
    assert_eq!(rig.written(), owned(&[(1, "twice"), (1, "twice")]));
    assert_eq!(rig.desk.count("create"), 1);
}

#[test]
fn a_failing_envelope_is_given_up_when_it_is_old() {
    let rig = Rig::new();
    let id = rig.put("a", "hello");
    rig.always(Some(Answer::LostUnanswered));
    rig.run_for(Duration::from_secs(4 * 86_400));
    let (state, reason) = rig.reason(id);
    assert_eq!(state, State::Dead);
    assert!(reason.starts_with("gave up after 3d, last: "), "{reason}");
}

#[test]
fn after_a_long_outage_everything_gets_its_chance() {
    let rig = Rig::new();
    rig.put("a", "hello");
    rig.always(Some(Answer::Deferred(Cause::Unreachable, None)));
    rig.run_for(Duration::from_secs(10 * 86_400));
    rig.always(None);
    rig.run_for(Duration::from_secs(3600));
    assert_eq!(rig.written(), owned(&[(1, "hello")]));
}

#[test]
fn a_panic_costs_the_envelope_not_the_worker() {
    let rig = Rig::new();
    let id = rig.put("a", "hello");
    rig.put("b", "other");
    rig.script([Answer::Panics]);
    rig.run();
    assert_eq!(rig.reason(id).1, "bug: panicked");
    assert_eq!(rig.written(), owned(&[(1, "other")]));
    rig.always(Some(Answer::Panics));
    rig.run_for(Duration::from_secs(86_400));
    let (state, reason) = rig.reason(id);
    assert_eq!(state, State::Dead);
    assert_eq!(reason, format!("bug: panicked 3 times (see journal, id {id})"));
}

#[test]
fn a_doubtful_write_is_looked_for_as_it_was_planned() {
    let rig = Rig::new();
    let dead = rig.put("a", "first");
    rig.script([Answer::Rejected]);
    rig.run();
    rig.put("a", "second");
    rig.script([Answer::DoneUnanswered]);
    rig.run();
    rig.spool().touch(dead, crate::spool::Change::Retried).unwrap();
    rig.run_for(Duration::from_secs(600));
    assert_eq!(rig.written(), owned(&[(1, "second"), (2, "first")]));
}

#[test]
fn a_rejected_write_is_in_no_doubt_when_it_is_retried() {
    let rig = Rig::new();
    let dead = rig.put("a", "hello");
    rig.script([Answer::Rejected]);
    rig.run();
    rig.spool().touch(dead, crate::spool::Change::Retried).unwrap();
    rig.run();
    assert_eq!(rig.written(), owned(&[(1, "hello")]));
    assert_eq!(rig.desk.count("find ticket"), 0);
}

#[test]
fn markers_differ_by_spool_envelope_and_step() {
    let all =
        [marker(&[1; 16], 7, 0), marker(&[1; 16], 7, 1), marker(&[1; 16], 8, 0), marker(&[2; 16], 7, 0)];
    for (index, one) in all.iter().enumerate() {
        assert_eq!(one.len(), 23);
        assert!(!all[index + 1..].contains(one));
    }
}

/// One minute after a boot without a clock.
const UNSET: Timestamp = Timestamp(60_000);

#[test]
fn what_came_in_before_the_clock_was_set_is_given_up_when_it_is_old_and_not_before() {
    let mut rig = Rig::new();
    rig.clock.jump_to(UNSET);
    rig.restart();
    let id = rig.put("a", "hello");
    rig.always(Some(Answer::LostUnanswered));
    rig.run_for(Duration::from_secs(600));
    rig.clock.jump_to(START);
    rig.run_for(Duration::from_secs(2 * 86_400));
    assert_eq!(rig.reason(id).0, State::Deferred, "it is two days old, whatever its stamp says");
    rig.run_for(Duration::from_secs(2 * 86_400));
    assert!(rig.reason(id).1.starts_with("gave up after 3d"), "{:?}", rig.reason(id));
}

#[test]
fn a_clock_that_is_set_back_by_a_year_keeps_nobody_waiting() {
    let rig = Rig::new();
    rig.put("a", "hello");
    rig.script([Answer::Deferred(Cause::Server, None), Answer::LostUnanswered]);
    rig.run_for(Duration::from_secs(30));
    rig.clock.jump_to(Timestamp(START.0 - 365 * 86_400_000));
    rig.run_for(Duration::from_secs(300));
    assert_eq!(rig.written(), owned(&[(1, "hello")]));
}

#[test]
fn what_is_old_because_the_machine_slept_for_a_week_is_not_given_up_for_want_of_a_line() {
    let rig = Rig::new();
    let id = rig.put("a", "hello");
    rig.script(vec![Answer::Deferred(Cause::Server, None); 6]);
    rig.run_for(Duration::from_secs(600));
    rig.clock.advance(Duration::from_secs(7 * 86_400));
    rig.always(Some(Answer::Deferred(Cause::Unreachable, None)));
    rig.run_for(Duration::from_secs(3600));
    rig.always(None);
    rig.run_for(Duration::from_secs(3600));
    assert_eq!(rig.written(), owned(&[(1, "hello")]), "{:?}", rig.spool().entry(id).unwrap());
}

#[test]
fn when_the_clock_is_set_what_failed_before_is_tried_at_once() {
    let mut rig = Rig::new();
    rig.clock.jump_to(UNSET);
    rig.restart();
    rig.put("a", "hello");
    // No certificate is valid in 1970.
    rig.always(Some(Answer::Deferred(Cause::Unreachable, None)));
    rig.run_for(Duration::from_secs(7200));
    rig.always(None);
    rig.clock.jump_to(START);
    // The probe, and then the write.
    rig.run_for(Duration::from_secs(2));
    assert_eq!(rig.written(), owned(&[(1, "hello")]));
}
