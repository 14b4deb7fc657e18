//! Torn tails and damaged records: what they cost, and what they do not.

use super::*;

impl Rig {
    /// Opens it again after a cut in the last write, without a queue that could know better.
    fn open_torn(&mut self) {
        self.close();
        std::fs::remove_dir_all(self.directory.path().join("queue")).unwrap();
        let path = self.directory.path().join("journal").join(journal::segment_name(1));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 5).unwrap();
        self.open();
    }
}

#[test]
fn a_torn_tail_costs_only_what_was_never_answered() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    let two = vec![rig.envelope("b", "2"), rig.envelope("b", "3")];
    rig.spool().put_and_wait(two).unwrap();
    rig.open_torn();
    assert_eq!(rig.waiting(), 1, "the torn request goes as a whole");
    assert!(rig.recovery.torn_bytes > 0);
    let retried = rig.spool().put_and_wait(vec![rig.envelope("b", "2"), rig.envelope("b", "3")]).unwrap();
    assert_eq!(retried.ids.len(), 2, "the platform's retry is taken");
}

#[test]
fn a_torn_tail_is_no_damage_when_it_is_met_a_second_time() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.put("a", "2");
    rig.open_torn();
    let torn_bytes = rig.recovery.torn_bytes;
    rig.spool().put_and_wait(vec![rig.envelope("b", "3"), rig.envelope("b", "4")]).unwrap();
    rig.close();
    // A clean stop is believed without walking the journal.
    std::fs::remove_file(rig.directory.path().join("clean")).unwrap();
    rig.open();
    assert_eq!(rig.recovery.damaged, []);
    assert_eq!((rig.recovery.torn_bytes, rig.waiting()), (torn_bytes, 3));
}

#[test]
fn a_damaged_record_is_reported_and_the_others_live() {
    let mut rig = Rig::new();
    for event in ["1", "2", "3"] {
        rig.put(event, event);
    }
    let (entry, _) = rig.spool().entry(2).unwrap().expect("it is there");
    rig.close();
    rig.damage(entry.place.segment, entry.place.offset + 60);
    rig.open();
    let end = entry.place.offset + u64::from(entry.place.length);
    assert_eq!(rig.recovery.damaged, [(1, entry.place.offset..end)]);
    assert_eq!((rig.waiting(), rig.recovery.lost.as_slice()), (3, &[2][..]));
    let (lost, _) = rig.spool().entry(2).unwrap().expect("a dead letter stays");
    assert_eq!((lost.state, lost.reason.contains("segment 1")), (State::Dead, true), "{}", lost.reason);
    assert_eq!([rig.deliver(1), rig.deliver(2)], [1, 3]);
}

#[test]
fn damage_met_while_running_is_a_dead_letter_not_wrong_bytes() {
    let rig = Rig::new();
    rig.put("a", "1");
    let (entry, _) = rig.spool().entry(1).unwrap().expect("it is there");
    rig.damage(1, entry.place.offset + 60);
    assert!(rig.lease().is_none());
    let (entry, _) = rig.spool().entry(1).unwrap().expect("it is still there");
    assert_eq!(entry.state, State::Dead);
    assert!(entry.reason.starts_with("spool: record damaged in segment 1"), "{}", entry.reason);
}
