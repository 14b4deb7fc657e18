//! Random lives of a spool against a plain map.

use super::cuts::cases;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Action {
    Put { conversation: u8, event: u8 },
    Deliver,
    Defer { seconds: u8 },
    Bury,
    CutOff,
    Retry { nth: u8 },
    Drop { nth: u8 },
    Wait { seconds: u8 },
    Reopen,
    LoseQueue,
    FullDisk { event: u8 },
    Damage { nth: u8 },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0u8..4, any::<u8>()).prop_map(|(conversation, event)| Action::Put { conversation, event }),
        6 => Just(Action::Deliver),
        3 => (0u8..90).prop_map(|seconds| Action::Defer { seconds }),
        2 => Just(Action::Bury),
        1 => Just(Action::CutOff),
        1 => any::<u8>().prop_map(|nth| Action::Retry { nth }),
        1 => any::<u8>().prop_map(|nth| Action::Drop { nth }),
        2 => (0u8..90).prop_map(|seconds| Action::Wait { seconds }),
        1 => Just(Action::Reopen),
        1 => Just(Action::LoseQueue),
        1 => any::<u8>().prop_map(|event| Action::FullDisk { event }),
        1 => any::<u8>().prop_map(|nth| Action::Damage { nth }),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Expected {
    conversation: u8,
    state: State,
    due: Timestamp,
    attempts: u32,
    unknown: bool,
}

#[derive(Default)]
struct Model {
    waiting: BTreeMap<Id, Expected>,
    /// Until when an event counts as known, and its envelope.
    known: BTreeMap<u8, (Timestamp, Id)>,
    /// Settled when the queue was lost: the journal may have forgotten them with their segments.
    forgotten: Vec<u8>,
    gone: Vec<Id>,
}

impl Model {
    /// Heads of conversations that are due, dead ones passed over.
    fn leasable(&self, now: Timestamp) -> Vec<Id> {
        let mut heads: BTreeMap<u8, Id> = BTreeMap::new();
        for (id, expected) in self.waiting.iter().filter(|(_, expected)| expected.state != State::Dead) {
            heads.entry(expected.conversation).or_insert(*id);
        }
        heads.into_values().filter(|id| self.waiting[id].due <= now).collect()
    }

    fn nth(&self, nth: u8) -> Option<Id> {
        let count = self.waiting.len().max(1);
        self.waiting.keys().nth(usize::from(nth) % count).copied()
    }
}

fn attempt(rig: &Rig, model: &mut Model, end: &Action) {
    let leasable = model.leasable(rig.clock.now());
    if leasable.is_empty() {
        assert!(rig.lease().is_none(), "nothing should be due");
        return;
    }
    let lease = rig.lease_soon();
    let id = lease.envelope.id;
    assert!(leasable.contains(&id), "leased {id}, due are {leasable:?}");
    let expected = model.waiting.get_mut(&id).expect("leased what waits");
    assert_eq!((lease.attempts, lease.doubt.is_some()), (expected.attempts, expected.unknown));
    rig.spool().begin(id, START, None).unwrap();
    match end {
        Action::Deliver => {
            rig.settle(&lease, delivered(&lease, Some(id)));
            model.waiting.remove(&id);
            model.gone.push(id);
        }
        Action::Defer { seconds } => {
            let wait = Duration::from_secs(u64::from(*seconds));
            rig.settle(&lease, deferred(rig, &lease, wait));
            expected.state = State::Deferred;
            expected.due = rig.clock.now().plus(wait);
            expected.attempts += 1;
            expected.unknown = false;
        }
        Action::Bury => {
            rig.settle(&lease, buried());
            expected.state = State::Dead;
            expected.attempts += 1;
            expected.unknown = false;
        }
        _ => unreachable!("not the end of an attempt"),
    }
}

fn meet_full_disk(rig: &Rig, model: &Model, event: u8) {
    let envelope = rig.envelope("full", &event.to_string());
    let is_known = model.known.get(&event).is_some_and(|(expires, _)| envelope.received_at < *expires);
    rig.disk.fill(true);
    let refused = rig.spool().put_and_wait(vec![envelope]);
    rig.disk.fill(false);
    // What is known needs no room, unless others wait for the same write.
    let is_answered = refused.is_ok();
    assert!(!is_answered || is_known || model.forgotten.contains(&event), "event {event}");
}

fn meet_damage(rig: &mut Rig, model: &mut Model, nth: u8) {
    let Some(id) = model.nth(nth) else { return };
    let (entry, _) = rig.spool().entry(id).unwrap().expect("it waits");
    rig.close();
    rig.damage(entry.place.segment, entry.place.offset + 40);
    rig.open();
    assert_eq!(rig.recovery.lost, [id]);
    let (dead, _) = rig.spool().entry(id).unwrap().expect("a dead letter stays");
    assert_eq!((dead.state, dead.reason.contains("damaged in segment")), (State::Dead, true));
    assert_eq!(rig.spool().touch(id, Change::Dropped { at: START }).unwrap(), Touched::Done);
    model.waiting.remove(&id);
    model.gone.push(id);
}

fn act(rig: &mut Rig, model: &mut Model, action: &Action) {
    match action {
        Action::Put { conversation, event } => {
            let envelope = rig.envelope(&conversation.to_string(), &event.to_string());
            let due = envelope.received_at;
            let is_known = model.known.get(event).is_some_and(|(expires, _)| due < *expires);
            let expires = due.plus(envelope.dedupe_window);
            let receipt = rig.spool().put_and_wait(vec![envelope]).unwrap();
            assert!(receipt.ids.is_empty() == is_known || model.forgotten.contains(event), "event {event}");
            for id in receipt.ids {
                model.known.insert(*event, (expires, id));
                model.forgotten.retain(|forgotten| forgotten != event);
                let conversation = *conversation;
                let fresh = Expected { conversation, state: State::Queued, due, attempts: 0, unknown: false };
                model.waiting.insert(id, fresh);
            }
        }
        Action::Deliver | Action::Defer { .. } | Action::Bury => attempt(rig, model, action),
        Action::CutOff => {
            if model.leasable(rig.clock.now()).is_empty() {
                return;
            }
            let lease = rig.lease_soon();
            rig.spool().begin(lease.envelope.id, START, None).unwrap();
            let expected = model.waiting.get_mut(&lease.envelope.id).expect("leased what waits");
            expected.attempts += 1;
            expected.unknown = true;
            rig.reopen();
        }
        Action::Retry { nth } => {
            let Some(id) = model.nth(*nth) else { return };
            assert_eq!(rig.spool().touch(id, Change::Retried).unwrap(), Touched::Done);
            let expected = model.waiting.get_mut(&id).expect("it waits");
            expected.state = State::Queued;
            expected.due = Timestamp(0);
            expected.attempts = 0;
        }
        Action::Drop { nth } => {
            let Some(id) = model.nth(*nth) else { return };
            assert_eq!(rig.spool().touch(id, Change::Dropped { at: START }).unwrap(), Touched::Done);
            model.waiting.remove(&id);
            model.gone.push(id);
        }
        Action::Wait { seconds } => rig.clock.advance(Duration::from_secs(u64::from(*seconds))),
        Action::Reopen => rig.reopen(),
        Action::FullDisk { event } => meet_full_disk(rig, model, *event),
        Action::Damage { nth } => meet_damage(rig, model, *nth),
        Action::LoseQueue => {
            let settled = model.known.iter().filter(|(_, (_, id))| !model.waiting.contains_key(id));
            model.forgotten.extend(settled.map(|(event, _)| *event));
            rig.close();
            std::fs::remove_dir_all(rig.directory.path().join("queue")).unwrap();
            rig.open();
        }
    }
}

fn compare(rig: &mut Rig, model: &Model) {
    rig.reopen();
    let held: BTreeMap<Id, Entry> =
        rig.spool().entries(0).unwrap().into_iter().map(|(id, entry, _)| (id, entry)).collect();
    assert_eq!(held.keys().collect::<Vec<_>>(), model.waiting.keys().collect::<Vec<_>>());
    for (id, entry) in held {
        let expected = &model.waiting[&id];
        assert_eq!((entry.state, entry.attempts), (expected.state, expected.attempts), "envelope {id}");
    }
    for id in &model.gone {
        assert!(rig.spool().entry(*id).unwrap().is_none(), "{id} came back");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: u32::try_from(cases(48)).expect("few"), max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_spool_is_a_map_with_memory(actions in prop::collection::vec(action(), 1..60)) {
        let mut rig = Rig::with(Limits { disk_free_min: 0, ..Limits::default() });
        let mut model = Model::default();
        for action in &actions {
            act(&mut rig, &mut model, action);
        }
        compare(&mut rig, &model);
    }
}
