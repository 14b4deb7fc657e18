//! What ends with time: identities, history, dead letters, whatever the clock is set to meanwhile.

use super::*;

fn is_duplicate(rig: &Rig, event: &str) -> bool {
    rig.spool().put_and_wait(vec![rig.envelope("a", event)]).unwrap().duplicates == 1
}

#[test]
fn a_jump_of_the_clock_neither_forgets_an_identity_nor_remembers_it_for_years() {
    let pairs = WRONG.map(|wrong| [(wrong, START), (START, wrong)]).concat();
    for (from, to) in pairs {
        let mut rig = Rig::new();
        rig.clock.jump_to(from);
        rig.reopen();
        rig.put("a", "1");
        rig.clock.advance(Duration::from_secs(60));
        rig.clock.jump_to(to);
        rig.spool().shared.trim().unwrap();
        assert!(is_duplicate(&rig, "1"), "a minute later, {from} to {to}");
        rig.clock.advance(Duration::from_secs(600));
        assert!(!is_duplicate(&rig, "1"), "eleven minutes later, {from} to {to}");
        assert!(is_duplicate(&rig, "1"), "and again, {from} to {to}");
        assert_eq!(rig.spool().clock_jumps(), 1);
    }
}

#[test]
fn history_outlives_a_jump_of_the_clock_and_goes_in_the_end() {
    for wrong in WRONG {
        let mut rig = Rig::new();
        rig.clock.jump_to(wrong);
        rig.reopen();
        rig.put("a", "1");
        rig.deliver(7);
        rig.clock.jump_to(START);
        rig.spool().shared.trim().unwrap();
        assert!(rig.spool().settled(1).unwrap().is_some(), "{wrong}");
        rig.clock.advance(Duration::from_secs(15 * 86_400));
        rig.spool().shared.trim().unwrap();
        assert!(rig.spool().settled(1).unwrap().is_none(), "{wrong}");
    }
}

#[test]
fn dead_letters_are_dropped_into_history_after_keep_dead() {
    let rig = Rig::new();
    rig.put("a", "1");
    rig.put("b", "2");
    for _ in 0..2 {
        let lease = rig.lease_soon();
        rig.settle(&lease, buried());
    }
    rig.clock.advance(Duration::from_secs(89 * 86_400));
    rig.spool().touch(2, Change::Retried).unwrap();
    let lease = rig.lease_soon();
    let ran = Ran { at: rig.clock.now(), took: Duration::ZERO };
    rig.settle(&lease, Change::Buried { doubt: None, ran: Some(ran), reason: "again".into() });
    rig.clock.advance(Duration::from_secs(2 * 86_400));
    rig.spool().shared.drop_old_dead().unwrap();
    assert!(rig.spool().entry(1).unwrap().is_none());
    assert!(rig.spool().settled(1).unwrap().is_some_and(|settled| settled.dropped));
    assert!(rig.spool().entry(2).unwrap().is_some(), "what was tried again died later");
}

#[test]
fn dead_letters_age_over_restarts_by_the_time_the_spool_was_open_and_by_no_clock() {
    let mut rig = Rig::new();
    let month = Duration::from_secs(30 * 86_400);
    rig.put("a", "1");
    let lease = rig.lease_soon();
    rig.settle(&lease, buried());
    for started in 0..3 {
        rig.spool().shared.drop_old_dead().unwrap();
        assert!(rig.spool().entry(1).unwrap().is_some(), "a month before each of {started} starts");
        rig.clock.advance(month - Duration::from_secs(60));
        rig.close();
        // While nobody runs the clock is set ten years on: what it says is no age.
        rig.clock.jump_to(rig.clock.now().plus(month * 120));
        rig.open();
    }
    rig.spool().shared.drop_old_dead().unwrap();
    assert!(rig.spool().entry(1).unwrap().is_some(), "three minutes are missing");
    rig.clock.advance(Duration::from_secs(240));
    rig.spool().shared.drop_old_dead().unwrap();
    assert!(rig.spool().settled(1).unwrap().is_some_and(|settled| settled.dropped));
}

#[test]
fn a_dead_letter_that_was_tried_again_is_young_also_after_a_restart() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    for age in [89, 2] {
        let lease = rig.lease_soon();
        let ran = Ran { at: rig.clock.now(), took: Duration::ZERO };
        rig.settle(&lease, Change::Buried { doubt: None, ran: Some(ran), reason: "again".into() });
        rig.clock.advance(Duration::from_secs(age * 86_400));
        rig.reopen();
        rig.spool().shared.drop_old_dead().unwrap();
        assert!(rig.spool().entry(1).unwrap().is_some(), "dead for {age} days");
        rig.spool().touch(1, Change::Retried).unwrap();
    }
}
