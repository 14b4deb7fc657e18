//! Notes that go out as one, and every way in which that can be cut off.

use super::*;

/// A conversation with a ticket, and three notes that wait behind each other.
fn three_wait() -> (Rig, Vec<Id>) {
    let rig = Rig::new();
    rig.put("a", "hello");
    rig.run();
    let ids = ["merge 1", "merge 2", "merge 3"].map(|text| rig.put("a", text)).to_vec();
    (rig, ids)
}

fn all_once() -> Vec<(u64, String)> {
    owned(&[(1, "hello"), (1, "merge 1"), (1, "merge 2"), (1, "merge 3")])
}

fn is_all_delivered(rig: &Rig) -> bool {
    rig.delivered.lock().unwrap().len() == 4 && rig.spool().counts().is_empty()
}

#[test]
fn notes_that_wait_together_are_one_call() {
    let (rig, _) = three_wait();
    rig.put("b", "other");
    rig.run();
    assert_eq!(rig.desk.count("note"), 1);
    let mut written = rig.written();
    written.retain(|(_, text)| text != "other");
    assert_eq!(written, all_once());
    assert_eq!(
        *rig.delivered.lock().unwrap(),
        [(1, Some(1)), (3, Some(1)), (4, Some(1)), (2, Some(1)), (5, Some(2))]
    );
}

#[test]
fn what_is_no_such_note_ends_the_row_and_order_is_kept() {
    let rig = Rig::new();
    rig.put("a", "hello");
    rig.run();
    for text in ["merge 1", "merge 2", "plain", "merge 3", "merge 4"] {
        rig.put("a", text);
    }
    rig.run();
    let expect = [(1, "hello"), (1, "merge 1"), (1, "merge 2"), (1, "plain"), (1, "merge 3"), (1, "merge 4")];
    assert_eq!(rig.written(), owned(&expect));
    assert_eq!(rig.desk.count("note"), 3);
}

#[test]
fn an_answer_that_was_lost_doubles_none_of_them() {
    let (rig, _) = three_wait();
    rig.script([Answer::DoneUnanswered]);
    rig.run_for(Duration::from_secs(600));
    assert_eq!(rig.written(), all_once());
    assert_eq!(
        (rig.desk.count("note"), rig.desk.count("find note")),
        (1, 3),
        "each is looked for by its marker"
    );
    assert!(is_all_delivered(&rig));
}

#[test]
fn a_request_that_was_lost_loses_none_of_them() {
    let (rig, _) = three_wait();
    rig.script([Answer::LostUnanswered]);
    rig.run_for(Duration::from_secs(3600));
    assert_eq!(rig.written(), all_once());
    assert!(is_all_delivered(&rig));
}

#[test]
fn a_crash_after_the_note_left_doubles_none_of_them() {
    for is_written in [true, false] {
        let (mut rig, ids) = three_wait();
        let Leased::One(head) = rig.spool().lease_due().unwrap() else { panic!("it is due") };
        let behind = rig.spool().lease_behind(head.envelope.id, 10);
        assert_eq!(behind.iter().map(|lease| lease.envelope.id).collect::<Vec<_>>(), ids[1..]);
        rig.spool().begin_all(&ids, rig.clock.now(), Some(1)).unwrap();
        if is_written {
            let identity = rig.spool().identity();
            let merged = |index: usize| (format!("merge {}", index + 1), marker(&identity, ids[index], 0));
            let note = NoteFields {
                body: "merge 1".into(),
                merged: vec![merged(1), merged(2)],
                ..NoteFields::default()
            };
            rig.desk.add_note(1, &note, &marker(&identity, ids[0], 0));
        }
        rig.restart();
        rig.run_for(Duration::from_secs(3600));
        assert_eq!(rig.written(), all_once(), "written before the crash: {is_written}");
        assert!(is_all_delivered(&rig));
    }
}

#[test]
fn a_crash_before_the_note_left_leaves_no_doubt() {
    let (mut rig, ids) = three_wait();
    let Leased::One(head) = rig.spool().lease_due().unwrap() else { panic!("it is due") };
    assert_eq!(rig.spool().lease_behind(head.envelope.id, 10).len(), 2);
    assert_eq!(rig.spool().lease_behind(head.envelope.id, 10).len(), 0, "they are leased");
    rig.spool().give_back(head.envelope.id);
    assert!(matches!(rig.spool().lease_due().unwrap(), Leased::Nothing), "others of it are in flight");
    rig.restart();
    rig.run();
    assert_eq!(rig.written(), all_once());
    assert_eq!((rig.desk.count("note"), rig.desk.count("find note"), ids.len()), (1, 0, 3));
}

#[test]
fn what_is_refused_together_goes_alone_and_costs_only_itself() {
    let (rig, ids) = three_wait();
    rig.script([Answer::Rejected, Answer::Rejected]);
    rig.run_for(Duration::from_secs(60));
    assert_eq!(rig.written(), owned(&[(1, "hello"), (1, "merge 2"), (1, "merge 3")]));
    assert_eq!(rig.reason(ids[0]).0, State::Dead);
    assert_eq!(rig.desk.count("note"), 3);
}

#[test]
fn a_panic_costs_none_of_them() {
    let (rig, _) = three_wait();
    rig.script([Answer::Panics]);
    rig.run_for(Duration::from_secs(3600));
    assert_eq!(rig.written(), all_once());
    assert!(is_all_delivered(&rig));
}

#[test]
fn an_outage_costs_one_call_per_conversation() {
    let rig = Rig::new();
    for conversation in ["a", "b", "c"] {
        rig.put(conversation, "hello");
    }
    rig.run();
    rig.always(Some(Answer::Deferred(Cause::Unreachable, None)));
    for number in 0..20 {
        for conversation in ["a", "b", "c"] {
            rig.put(conversation, &format!("merge {number}"));
        }
        rig.run_for(Duration::from_secs(30));
    }
    let notes_in_vain = rig.desk.count("note");
    rig.always(None);
    rig.run_for(Duration::from_secs(3600));
    assert_eq!(rig.written().len(), 63);
    assert_eq!(rig.desk.count("note") - notes_in_vain, 3);
}

#[test]
fn a_burst_is_waited_for() {
    let rig = Rig::new();
    rig.put("a", "hello");
    rig.run();
    rig.put("a", "merge later 1");
    rig.run_for(Duration::from_secs(100));
    rig.put("a", "merge later 2");
    rig.run_for(Duration::from_secs(10));
    assert_eq!(rig.written().len(), 1);
    rig.run_for(Duration::from_secs(15));
    assert_eq!(rig.written(), owned(&[(1, "hello"), (1, "merge later 1"), (1, "merge later 2")]));
    assert_eq!(rig.desk.count("note"), 1);
}
