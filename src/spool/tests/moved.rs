//! Spools that move: what another one held is taken over once, whole and as it stood there; and spools that are only
//! looked into stay as they are, whatever state they are in.

use super::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

const OTHER: [u8; 16] = [7; 16];

/// Envelope `id` of another spool: dead and in doubt.
fn imported(rig: &Rig, id: Id, conversation: &str) -> Imported {
    let envelope = rig.envelope(conversation, &format!("{conversation}-{id}"));
    let place = Place { segment: 0, offset: 0, length: 0 };
    let entry = Entry {
        state: State::Dead,
        reason: "gave up after 3d, last: timeout".into(),
        doubt: Some(Doubt { since: START, looks: 1, ticket: None }),
        attempts: 6,
        ..Entry::of(&envelope, place)
    };
    Imported { envelope, origin: Origin { spool: OTHER, id }, entry }
}

fn waiting(rig: &Rig, id: Id, conversation: &str) -> Imported {
    let imported = imported(rig, id, conversation);
    let entry = Entry::of(&imported.envelope, imported.entry.place);
    Imported { entry, ..imported }
}

fn entry(rig: &Rig, id: Id) -> Entry {
    rig.spool().entry(id).expect("the queue is readable").expect("it is there").0
}

/// Everything below a directory: names, bytes, times of the last change.
fn state_of(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            found.extend(state_of(&path));
        } else {
            let modified = path.metadata().unwrap().modified().unwrap();
            found.insert(path.clone(), (std::fs::read(&path).unwrap(), modified));
        }
    }
    found
}

fn read(rig: &Rig) -> Result<(Spool, Recovery), OpenError> {
    Spool::open_for_reading(rig.directory.path(), None, rig.clock.clone())
}

#[test]
fn what_is_imported_twice_is_there_once_also_after_its_delivery_a_kill_and_its_window() {
    let mut rig = Rig::new();
    let both = || vec![imported(&rig, 41, "a"), waiting(&rig, 42, "b")];
    let (first, again) = (both(), both());
    assert_eq!(rig.spool().import(first).unwrap(), [Some(1), Some(2)]);
    assert_eq!(rig.spool().import(again.clone()).unwrap(), [None, None]);
    let dead = entry(&rig, 1);
    assert_eq!((dead.state, dead.attempts, dead.doubt.map(|doubt| doubt.looks)), (State::Dead, 6, Some(1)));
    assert_eq!(rig.lease_soon().envelope.origin, Some(Origin { spool: OTHER, id: 42 }));
    rig.spool().settle(2, Change::Dropped { at: START }).unwrap();
    // A crash: the queue is lost, the journal tells who was imported.
    rig.close();
    std::fs::remove_dir_all(rig.directory.path().join("queue")).unwrap();
    let _ = std::fs::remove_file(rig.directory.path().join("clean"));
    rig.open();
    assert_eq!(entry(&rig, 1).reason, "gave up after 3d, last: timeout");
    rig.clock.advance(Duration::from_secs(40 * 86_400));
    assert_eq!(rig.spool().import(again).unwrap(), [None, None]);
    assert_eq!(rig.waiting(), 1);
}

#[test]
fn an_event_that_the_platform_has_sent_here_too_is_not_imported() {
    let rig = Rig::new();
    rig.put("a", "a-41");
    assert_eq!(rig.spool().import(vec![waiting(&rig, 41, "a")]).unwrap(), [None]);
    // And the other way round.
    assert_eq!(rig.spool().import(vec![waiting(&rig, 42, "a")]).unwrap(), [Some(2)]);
    let again = rig.spool().put_and_wait(vec![rig.envelope("a", "a-42")]).unwrap();
    assert_eq!(again, Receipt { ids: vec![], duplicates: 1 });
}

#[test]
fn equal_events_that_their_first_host_took_are_all_imported() {
    let rig = Rig::new();
    let twin = |id| Imported { origin: Origin { spool: OTHER, id }, ..waiting(&rig, 1, "a") };
    assert_eq!(rig.spool().import(vec![twin(1), twin(2), twin(2)]).unwrap(), [Some(1), Some(2), None]);
}

#[test]
fn a_spool_that_comes_back_takes_only_what_it_has_given_up() {
    let rig = Rig::new();
    let here = rig.spool().identity();
    let (kept, dropped) = (rig.put("a", "1"), rig.put("b", "2"));
    rig.spool().touch(dropped, Change::Dropped { at: START }).unwrap();
    let back = |id| Imported { origin: Origin { spool: here, id }, ..waiting(&rig, id, "c") };
    assert_eq!(rig.spool().import(vec![back(kept), back(dropped)]).unwrap(), [None, Some(3)]);
}

#[test]
fn a_torn_import_leaves_all_of_an_envelope_or_nothing() {
    let rig = Rig::new();
    rig.spool().import(vec![imported(&rig, 41, "a")]).unwrap();
    let journal = rig.directory.path().join("journal");
    let whole = std::fs::read(journal.join(journal::segment_name(1))).unwrap();
    let written = rig.spool().journal_bytes();
    for length in (segment::SEGMENT_HEADER_LENGTH..written).step_by(13).chain(written - 3..written) {
        let mut torn = Rig::new();
        torn.close();
        let _ = std::fs::remove_file(torn.directory.path().join("clean"));
        std::fs::write(torn.directory.path().join("identity"), rig.spool().identity()).unwrap();
        let bytes = &whole[..usize::try_from(length).unwrap()];
        let journal = torn.directory.path().join("journal");
        std::fs::remove_dir_all(&journal).unwrap();
        std::fs::create_dir(&journal).unwrap();
        std::fs::write(journal.join(journal::segment_name(1)), bytes).unwrap();
        torn.open();
        assert_eq!(torn.waiting(), 0, "cut at {length}");
        // The number of the torn one is not given to another, which would be taken for dead at the next start.
        let id = torn.put("b", "new");
        torn.close();
        let _ = std::fs::remove_file(torn.directory.path().join("clean"));
        torn.open();
        assert_eq!(entry(&torn, id).state, State::Queued, "cut at {length}");
    }
}

#[test]
fn tickets_and_identities_travel_and_the_later_ticket_wins() {
    let mut rig = Rig::new();
    let conversation = rig.envelope("a", "1").conversation_hash();
    let later = START.plus(Duration::from_secs(9));
    assert_eq!(rig.spool().learn_tickets(&[(conversation, 8812, later)]).unwrap(), 1);
    assert_eq!(
        rig.spool().learn_tickets(&[(conversation, 7, START), (conversation, 8812, later)]).unwrap(),
        0
    );
    let identity = rig.envelope("a", "1").dedupe;
    let until = START.plus(Duration::from_secs(600));
    assert_eq!(rig.spool().learn_identities(&[(identity, until)]).unwrap(), 1);
    assert_eq!(rig.spool().learn_identities(&[(identity, until)]).unwrap(), 0);
    rig.reopen();
    assert_eq!(rig.spool().put_and_wait(vec![rig.envelope("a", "1")]).unwrap().duplicates, 1);
    rig.put("a", "2");
    assert_eq!(rig.lease_soon().ticket, Some(8812));
}

#[test]
fn looking_changes_nothing_after_a_clean_stop_a_kill_or_damage() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.put("a", "2");
    rig.deliver(8812);
    rig.put("b", "3");
    rig.close();
    let directory = rig.directory.path().to_path_buf();
    let look = |what: &str, check: &dyn Fn(&Spool, &Recovery)| {
        let before = state_of(&directory);
        let (spool, recovery) = read(&rig).expect("it can be read");
        check(&spool, &recovery);
        assert!(spool.put_and_wait(vec![rig.envelope("c", "9")]).is_err(), "{what}: nothing can be put");
        drop(spool);
        assert!(state_of(&directory) == before, "{what}: something was changed");
    };
    let ids = |spool: &Spool| spool.entries(0).unwrap().iter().map(|(id, ..)| *id).collect::<Vec<_>>();
    look("clean", &|spool, recovery| {
        assert!(recovery.was_clean);
        assert_eq!(ids(spool), [2, 3]);
        assert_eq!(spool.settled(1).unwrap().and_then(|settled| settled.ticket), Some(8812));
    });
    std::fs::remove_file(directory.join("clean")).unwrap();
    look("killed", &|spool, recovery| {
        assert!(!recovery.was_clean);
        assert_eq!(ids(spool), [2, 3]);
    });
    let generation = directory.join("queue").join("1").join("db");
    let mut bytes = std::fs::read(&generation).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 0x5a);
    std::fs::write(&generation, bytes).unwrap();
    look("the queue is damaged", &|spool, _| assert_eq!(ids(spool), [2, 3]));
    std::fs::remove_dir_all(directory.join("queue")).unwrap();
    rig.damage(1, segment::SEGMENT_HEADER_LENGTH + 40);
    look("the queue is gone, the journal damaged", &|spool, recovery| {
        assert_eq!(recovery.damaged.len(), 1, "{recovery:?}");
        assert_eq!(ids(spool), [2, 3]);
    });
}

#[test]
fn who_looks_keeps_daemons_out_and_the_other_way_round() {
    let mut rig = Rig::new();
    match read(&rig).map(drop) {
        Err(error @ OpenError::InUse { .. }) => {
            let pid = std::process::id();
            assert!(
                error.to_string().ends_with(&format!("is open by another deskspool (pid {pid})")),
                "{error}"
            );
        }
        other => panic!("a daemon has it: {other:?}"),
    }
    rig.close();
    let (one, another) = (read(&rig).unwrap(), read(&rig).unwrap());
    let opened = Spool::open(rig.directory.path(), Limits::default(), rig.clock.clone());
    assert!(matches!(opened.map(drop), Err(OpenError::InUse { .. })));
    drop((one, another));
    rig.open();
}

#[test]
fn there_is_nothing_to_look_into_where_no_spool_is() {
    let directory = tempfile::tempdir().unwrap();
    let nothing = directory.path().join("none");
    let opened = Spool::open_for_reading(&nothing, None, ManualClock::at(START)).map(drop);
    assert!(matches!(opened, Err(OpenError::Directory { .. })), "{opened:?}");
    assert!(!nothing.exists());
}
