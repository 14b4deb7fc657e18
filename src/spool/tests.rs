//! The spool as its callers see it, with a manual clock and a directory that can be damaged.

mod ages;
mod cuts;
mod damage;
mod disk;
mod format;
mod kills;
mod lives;
mod model;
mod moved;
mod platter;
mod space;
mod torn;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use disk::TestDisk;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

const START: Timestamp = Timestamp(1_763_712_000_000);
const RAN: Ran = Ran { at: START, took: Duration::from_millis(7) };

struct Rig {
    directory: TempDir,
    clock: Arc<ManualClock>,
    limits: Limits,
    disk: Arc<TestDisk>,
    spool: Option<Spool>,
    recovery: Recovery,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(Limits { disk_free_min: 0, ..Limits::default() })
    }

    fn with(limits: Limits) -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let mut rig = Rig {
            directory,
            clock: ManualClock::at(START),
            limits,
            disk: Arc::default(),
            spool: None,
            recovery: Recovery::default(),
        };
        rig.open();
        rig
    }

    fn open(&mut self) {
        let ground = Ground { disk: self.disk.clone(), ..Ground::default() };
        let opened = Spool::open_on(ground, self.directory.path(), self.limits.clone(), self.clock.clone());
        let (spool, recovery) = opened.expect("the spool opens");
        self.spool = Some(spool);
        self.recovery = recovery;
    }

    fn close(&mut self) {
        self.spool = None;
    }

    fn reopen(&mut self) {
        self.close();
        self.open();
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("it is open")
    }

    fn put(&self, conversation: &str, event: &str) -> Id {
        let receipt =
            self.spool().put_and_wait(vec![self.envelope(conversation, event)]).expect("there is room");
        receipt.ids[0]
    }

    fn envelope(&self, conversation: &str, event: &str) -> Envelope {
        Envelope {
            id: 0,
            received_at: self.clock.now(),
            source: "test".into(),
            kind: "message".into(),
            event_id: event.into(),
            dedupe: hash_of(&[event.as_bytes()]),
            dedupe_window: Duration::from_secs(600),
            conversation: conversation.into(),
            peer: "127.0.0.1".into(),
            context: b"{}".to_vec(),
            body: format!("{{\"event\":\"{event}\"}}").into_bytes(),
            born_dead: None,
            origin: None,
        }
    }

    fn lease(&self) -> Option<Box<Lease>> {
        self.spool().wait_for_work(0, Duration::from_secs(5));
        match self.spool().lease_due().expect("the queue is readable") {
            Leased::One(lease) => Some(lease),
            Leased::NotBefore(_) | Leased::Nothing => None,
        }
    }

    /// Leases until something is due: puts enter the queue a moment after they were answered.
    fn lease_soon(&self) -> Box<Lease> {
        let mut seen = 0;
        for _ in 0..100 {
            if let Some(lease) = self.lease() {
                return lease;
            }
            seen = self.spool().wait_for_work(seen, Duration::from_millis(200));
        }
        panic!("nothing became due");
    }

    fn deliver(&self, ticket: u64) -> Id {
        let lease = self.lease_soon();
        self.spool().begin(lease.envelope.id, START, None).expect("the journal is writable");
        self.settle(&lease, delivered(&lease, Some(ticket)));
        lease.envelope.id
    }

    fn settle(&self, lease: &Lease, change: Change) {
        self.spool().settle(lease.envelope.id, change).expect("the queue is writable");
    }

    fn waiting(&self) -> u64 {
        self.spool().counts().iter().map(|(_, _, count)| count).sum()
    }

    fn damage(&self, segment: u64, offset: u64) {
        let path = self.directory.path().join("journal").join(journal::segment_name(segment));
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"\xff\xfe\xfd", offset).unwrap();
    }
}

fn delivered(lease: &Lease, ticket: Option<u64>) -> Change {
    let conversation = lease.envelope.conversation_hash();
    Change::Delivered { ticket, conversation, ran: RAN }
}

fn deferred(rig: &Rig, lease: &Lease, wait: Duration) -> Change {
    Change::Deferred {
        attempts: lease.attempts + 1,
        due: rig.clock.now().plus(wait),
        doubt: None,
        ran: RAN,
        reason: "503".into(),
    }
}

fn buried() -> Change {
    Change::Buried { doubt: None, ran: Some(RAN), reason: "mapping: subject rendered empty".into() }
}

#[test]
fn what_was_put_comes_back_in_order_after_a_restart() {
    let mut rig = Rig::new();
    let ids = [rig.put("a", "1"), rig.put("a", "2"), rig.put("b", "3")];
    assert_eq!(ids, [1, 2, 3]);
    rig.reopen();
    assert_eq!(rig.recovery, Recovery { waiting: 3, was_clean: true, ..Recovery::default() });
    let first = rig.lease_soon();
    assert_eq!((first.envelope.id, first.envelope.body.as_slice()), (1, b"{\"event\":\"1\"}".as_slice()));
    assert_eq!(rig.lease_soon().envelope.id, 3, "conversation a has something in flight");
    assert!(rig.lease().is_none());
}

#[test]
fn numbers_are_never_reused_even_when_the_queue_is_lost() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.deliver(8812);
    rig.close();
    std::fs::remove_dir_all(rig.directory.path().join("queue")).unwrap();
    rig.open();
    assert_eq!(rig.put("a", "2"), 2);
    assert_eq!(rig.lease_soon().ticket, Some(8812), "the journal still knew the conversation's ticket");
}

#[test]
fn the_same_event_has_one_effect_until_its_window_ends() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    let again = rig.spool().put_and_wait(vec![rig.envelope("a", "1"), rig.envelope("a", "2")]).unwrap();
    assert_eq!(again, Receipt { ids: vec![2], duplicates: 1 });
    rig.deliver(5);
    rig.reopen();
    let after_delivery = rig.spool().put_and_wait(vec![rig.envelope("a", "1")]).unwrap();
    assert_eq!(after_delivery, Receipt { ids: vec![], duplicates: 1 });
    rig.clock.advance(Duration::from_secs(601));
    assert_eq!(rig.put("a", "1"), 3);
}

#[test]
fn a_request_with_the_same_event_twice_counts_it_once() {
    let rig = Rig::new();
    let receipt = rig.spool().put_and_wait(vec![rig.envelope("a", "1"), rig.envelope("a", "1")]).unwrap();
    assert_eq!(receipt, Receipt { ids: vec![1], duplicates: 1 });
}

#[test]
fn past_a_limit_nothing_of_the_request_is_taken() {
    let rig = Rig::with(Limits { envelopes_max: 2, disk_free_min: 0, ..Limits::default() });
    rig.put("a", "1");
    let two = vec![rig.envelope("a", "2"), rig.envelope("a", "3")];
    assert!(matches!(rig.spool().put_and_wait(two), Err(PutError::Full("spool full"))));
    assert_eq!(rig.spool().unhealthy_reason(), None);
    assert_eq!(rig.put("a", "2"), 2);
    assert_eq!(rig.spool().unhealthy_reason().as_deref(), Some("spool full"));
}

#[test]
fn a_disk_below_the_floor_refuses() {
    let rig = Rig::with(Limits { disk_free_min: u64::MAX, ..Limits::default() });
    let refused = rig.spool().put_and_wait(vec![rig.envelope("a", "1")]);
    assert!(matches!(refused, Err(PutError::Full("disk low"))));
}

#[test]
fn deferred_heads_wait_and_hold_back_their_conversation_only() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.put("a", "2");
    rig.put("b", "3");
    let head = rig.lease_soon();
    rig.spool().begin(head.envelope.id, START, None).unwrap();
    rig.settle(&head, deferred(&rig, &head, Duration::from_secs(60)));
    rig.reopen();
    assert_eq!(rig.deliver(7), 3);
    assert!(rig.lease().is_none());
    let due = rig.clock.now().plus(Duration::from_secs(60));
    assert!(matches!(rig.spool().lease_due(), Ok(Leased::NotBefore(at)) if at == due));
    rig.clock.advance(Duration::from_secs(60));
    let again = rig.lease_soon();
    assert_eq!((again.envelope.id, again.attempts, again.doubt), (1, 1, None));
}

#[test]
fn an_attempt_cut_off_by_a_restart_is_unknown() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    let lease = rig.lease_soon();
    rig.spool().begin(lease.envelope.id, START, None).unwrap();
    rig.reopen();
    let again = rig.lease_soon();
    assert_eq!(
        (again.envelope.id, again.attempts, again.doubt),
        (1, 1, Some(Doubt { since: START, looks: 0, ticket: None }))
    );
}

#[test]
fn a_lease_without_a_beginning_leaves_no_trace() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.lease_soon();
    rig.reopen();
    let again = rig.lease_soon();
    assert_eq!((again.attempts, again.doubt), (0, None));
}

#[test]
fn progress_survives_and_the_conversation_knows_its_ticket() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.put("a", "2");
    let lease = rig.lease_soon();
    rig.spool().begin(1, START, None).unwrap();
    rig.spool().progress(1, 1, Some(8812), true).unwrap();
    rig.settle(&lease, deferred(&rig, &lease, Duration::ZERO));
    rig.reopen();
    let again = rig.lease_soon();
    assert_eq!((again.step, again.ticket), (1, Some(8812)));
    rig.settle(&again, delivered(&again, Some(8812)));
    assert_eq!(rig.lease_soon().ticket, Some(8812));
}

#[test]
fn what_follows_a_dead_head_is_the_admins_choice() {
    for (pass_dead, next) in [(true, Some(2)), (false, None)] {
        let mut rig = Rig::with(Limits { pass_dead, disk_free_min: 0, ..Limits::default() });
        rig.put("a", "1");
        rig.put("a", "2");
        let head = rig.lease_soon();
        rig.settle(&head, buried());
        rig.reopen();
        assert_eq!(rig.lease().map(|lease| lease.envelope.id), next, "pass_dead = {pass_dead}");
    }
}

#[test]
fn passing_dead_heads_can_be_changed_while_running() {
    let rig = Rig::with(Limits { pass_dead: false, disk_free_min: 0, ..Limits::default() });
    rig.put("a", "1");
    rig.put("a", "2");
    let head = rig.lease_soon();
    rig.settle(&head, buried());
    assert!(rig.lease().is_none());
    rig.spool().set_limits(Limits { pass_dead: true, ..rig.limits.clone() }).unwrap();
    assert_eq!(rig.lease_soon().envelope.id, 2);
}

#[test]
fn a_retried_dead_letter_is_the_head_again() {
    let rig = Rig::new();
    rig.put("a", "1");
    rig.put("a", "2");
    let head = rig.lease_soon();
    rig.settle(&head, buried());
    assert_eq!(rig.spool().touch(1, Change::Retried).unwrap(), Touched::Done);
    assert_eq!(rig.lease_soon().envelope.id, 1);
    assert_eq!(rig.spool().touch(1, Change::Retried).unwrap(), Touched::InFlight);
    assert_eq!(rig.spool().touch(99, Change::Retried).unwrap(), Touched::Unknown);
}

#[test]
fn dropped_and_dead_letters_stay_what_they_are_when_the_queue_is_lost() {
    let mut rig = Rig::new();
    for event in ["1", "2", "3"] {
        rig.put(event, event);
    }
    let dead = rig.lease_soon();
    rig.spool().begin(dead.envelope.id, START, None).unwrap();
    rig.settle(&dead, buried());
    assert_eq!(rig.spool().touch(2, Change::Dropped { at: START }).unwrap(), Touched::Done);
    assert!(rig.spool().settled(2).unwrap().is_some_and(|settled| settled.dropped));
    rig.close();
    std::fs::remove_dir_all(rig.directory.path().join("queue")).unwrap();
    rig.open();
    let (entry, _) = rig.spool().entry(1).unwrap().expect("dead letters stay");
    assert_eq!((entry.state, entry.reason.as_str()), (State::Dead, "mapping: subject rendered empty"));
    assert!(rig.spool().entry(2).unwrap().is_none());
    assert_eq!(rig.lease_soon().envelope.id, 3);
}

#[test]
fn an_unreadable_queue_is_set_aside_and_rebuilt() {
    let mut rig = Rig::new();
    for event in 0..50 {
        rig.put("a", &event.to_string());
    }
    rig.close();
    // A conf that was cut in half by a power failure is what makes sled refuse for ever.
    let conf = rig.directory.path().join("queue").join("1").join("conf");
    let file = OpenOptions::new().write(true).open(conf).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    rig.open();
    assert_eq!(rig.recovery.queue_set_aside.as_deref(), Some("queue.damaged.1"));
    assert_eq!((rig.waiting(), rig.recovery.mended), (50, 50));
    assert_eq!(rig.deliver(1), 1);
}

#[test]
fn a_second_daemon_is_refused_with_the_holders_pid() {
    let rig = Rig::new();
    let refused = Spool::open(rig.directory.path(), Limits::default(), rig.clock.clone());
    let text = refused.map(drop).expect_err("one owner only").to_string();
    assert!(text.ends_with(&format!("is open by another deskspool (pid {})", std::process::id())), "{text}");
}

#[test]
fn settled_segments_go_and_a_straggler_does_not_pin_them() {
    let mut rig = Rig::new();
    let mut big = rig.envelope("stuck", "straggler");
    big.body = vec![b'x'; 1000];
    rig.spool().put_and_wait(vec![big]).unwrap();
    let stuck = rig.lease_soon();
    rig.spool().begin(stuck.envelope.id, START, None).unwrap();
    rig.settle(&stuck, deferred(&rig, &stuck, Duration::from_secs(86_400)));
    for event in 0..80 {
        let mut envelope = rig.envelope("busy", &event.to_string());
        envelope.body = vec![b'y'; 600_000];
        rig.spool().put_and_wait(vec![envelope]).unwrap();
        rig.deliver(9);
    }
    let first = rig.directory.path().join("journal").join(journal::segment_name(1));
    let mut seen = 0;
    let is_small = || !first.exists() && rig.spool().journal_bytes() < 40 << 20;
    for event in 100..200 {
        if is_small() {
            break;
        }
        rig.put("busy", &event.to_string());
        rig.deliver(9);
        seen = rig.spool().wait_for_work(seen, Duration::from_millis(100));
    }
    assert!(!first.exists(), "the first segment is pinned by one envelope");
    assert!(rig.spool().journal_bytes() < 40 << 20, "{} bytes", rig.spool().journal_bytes());
    rig.close();
    std::fs::remove_dir_all(rig.directory.path().join("queue")).unwrap();
    rig.open();
    let (entry, _) = rig.spool().entry(1).unwrap().expect("the straggler was copied");
    assert_eq!((entry.state, entry.attempts, entry.reason.as_str()), (State::Deferred, 1, "503"));
    rig.clock.advance(Duration::from_secs(86_400));
    assert_eq!(rig.lease_soon().envelope.body, vec![b'x'; 1000]);
}

/// A step that every write of the tables fails. The upkeep may have taken all that was put before.
fn fail_a_step(rig: &Rig) {
    rig.spool().shared.queue.fails.store(true, Ordering::SeqCst);
    rig.spool().shared.queue.remember([9; 16], START);
    rig.spool().shared.queue.step().expect_err("the queue fails");
    assert!(rig.spool().shared.queue.is_away());
}

fn come_back(rig: &Rig) {
    let shared = &rig.spool().shared;
    shared.queue.fails.store(false, Ordering::SeqCst);
    shared.queue.come_back().expect("there is room again");
    shared.place_unplaced();
}

#[test]
fn an_outcome_the_tables_cannot_take_is_kept_and_never_attempted_again() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.put("a", "2");
    let lease = rig.lease_soon();
    rig.spool().begin(1, START, None).unwrap();
    fail_a_step(&rig);
    rig.settle(&lease, delivered(&lease, Some(7)));
    come_back(&rig);
    assert_eq!(rig.lease_soon().envelope.id, 2, "the next one, without a restart");
    rig.spool().give_back(2);
    assert!(rig.spool().is_sound());
    rig.reopen();
    assert_eq!(rig.waiting(), 1);
    assert_eq!((rig.lease_soon().envelope.id, rig.recovery.was_clean), (2, true));
}

#[test]
fn an_event_the_tables_cannot_take_is_kept_and_known() {
    let mut rig = Rig::new();
    rig.put("a", "0");
    fail_a_step(&rig);
    rig.spool().put_and_wait(vec![rig.envelope("b", "1")]).expect_err("identities cannot be looked up");
    come_back(&rig);
    assert_eq!(rig.put("b", "1"), 2);
    assert_eq!(rig.spool().put_and_wait(vec![rig.envelope("a", "0")]).unwrap().duplicates, 1);
    rig.reopen();
    assert_eq!(rig.waiting(), 2);
    let again = rig.spool().put_and_wait(vec![rig.envelope("b", "1")]).unwrap();
    assert_eq!(again.duplicates, 1);
}

#[test]
fn a_failed_sync_is_told_and_its_events_never_come_back() {
    let mut rig = Rig::new();
    rig.disk.fail_next_sync();
    let failed = rig.spool().put_and_wait(vec![rig.envelope("a", "1")]);
    assert!(matches!(failed, Err(PutError::Broken(_))));
    assert_eq!(rig.put("a", "1"), 2, "the platform's retry is taken");
    assert_eq!(rig.deliver(7), 2);
    rig.reopen();
    assert_eq!((rig.waiting(), rig.recovery.damaged.len()), (0, 0));
}

#[test]
fn a_voided_event_goes_before_the_record_that_voids_it() {
    let mut rig = Rig::new();
    rig.disk.fail_next_sync();
    rig.spool().put_and_wait(vec![rig.envelope("a", "1")]).expect_err("told to fail");
    rig.put("a", "1");
    rig.deliver(7);
    let mut seen = 0;
    for event in 0..60 {
        let mut envelope = rig.envelope("busy", &format!("big {event}"));
        envelope.body = vec![b'y'; 600_000];
        rig.spool().put_and_wait(vec![envelope]).unwrap();
        rig.deliver(9);
        seen = rig.spool().wait_for_work(seen, Duration::from_millis(20));
    }
    rig.reopen();
    assert_eq!(rig.waiting(), 0);
}

#[test]
fn a_flipped_bit_in_the_identity_costs_nothing() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.close();
    let path = rig.directory.path().join("identity");
    let mut identity = std::fs::read(&path).unwrap();
    identity[3] ^= 1;
    std::fs::write(&path, &identity).unwrap();
    rig.open();
    assert_eq!((rig.waiting(), rig.recovery.damaged.len()), (1, 0));
    identity[3] ^= 1;
    assert_eq!(std::fs::read(&path).unwrap(), identity, "the file is mended");
}

#[test]
fn dead_letters_do_not_pin_what_was_delivered_among_them() {
    let rig = Rig::new();
    let mut seen = 0;
    for event in 0..150 {
        let mut envelope = rig.envelope(&event.to_string(), &event.to_string());
        envelope.body = vec![b'y'; 600_000];
        rig.spool().put_and_wait(vec![envelope]).unwrap();
        let lease = rig.lease_soon();
        rig.settle(&lease, if event < 20 { buried() } else { delivered(&lease, Some(1)) });
        seen = rig.spool().wait_for_work(seen, Duration::from_millis(5));
    }
    for event in 1000..1200 {
        if rig.spool().journal_bytes() < 60 << 20 {
            break;
        }
        rig.put("busy", &event.to_string());
        seen = rig.spool().wait_for_work(seen, Duration::from_millis(100));
    }
    let bytes = rig.spool().journal_bytes();
    assert!(bytes < 60 << 20, "{bytes} bytes on disk for 12 MB of dead letters");
}

#[test]
fn dead_letters_that_are_passed_are_not_in_the_way() {
    let rig = Rig::new();
    rig.put("a", "1");
    let lease = rig.lease_soon();
    let conversation = lease.envelope.conversation_hash();
    rig.settle(&lease, buried());
    let queue = &rig.spool().shared.queue;
    assert!(!queue.has_order(conversation, 1));
    rig.spool().set_limits(Limits { pass_dead: false, ..rig.limits.clone() }).unwrap();
    assert!(queue.has_order(conversation, 1));
}

#[test]
fn a_damaged_tail_of_a_full_segment_is_damage_and_not_a_torn_write() {
    let mut rig = Rig::new();
    for (event, bytes) in [("1", 10), ("2", 9_000_000), ("3", 10)] {
        let mut envelope = rig.envelope(event, event);
        envelope.body = vec![b'x'; bytes];
        rig.spool().put_and_wait(vec![envelope]).unwrap();
    }
    rig.close();
    std::fs::remove_dir_all(rig.directory.path().join("queue")).unwrap();
    let path = rig.directory.path().join("journal").join(journal::segment_name(1));
    let length = std::fs::metadata(path).unwrap().len();
    rig.damage(1, length - 100);
    rig.open();
    assert_eq!((rig.waiting(), rig.recovery.torn_bytes), (2, 0));
    assert_eq!(rig.recovery.damaged.len(), 1);
}

#[test]
fn a_clock_that_was_ahead_does_not_park_anything() {
    let rig = Rig::new();
    rig.clock.jump_to(START.plus(Duration::from_secs(365 * 86_400)));
    rig.put("a", "1");
    rig.clock.jump_to(START);
    assert_eq!(rig.lease_soon().envelope.id, 1);
}

#[test]
fn a_reading_error_that_is_no_damage_buries_nothing() {
    let rig = Rig::new();
    rig.put("a", "1");
    rig.spool().entry(1).unwrap().expect("it is there");
    let path = rig.directory.path().join("journal").join(journal::segment_name(1));
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();
    rig.spool().shared.files.forget_open();
    assert!(rig.spool().lease_due().is_err());
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(rig.lease_soon().envelope.id, 1);
}

/// One minute after a boot without a clock, and a year before the right time.
const WRONG: [Timestamp; 2] = [Timestamp(60_000), Timestamp(START.0 - 365 * 86_400_000)];
