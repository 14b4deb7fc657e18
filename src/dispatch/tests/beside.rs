//! Writes of no envelope: paid for like all others, learned from, and made only when they may be.

use super::*;
use std::cell::Cell;

/// Makes one; what became of it, and whether it was told that it begins.
fn write(rig: &Rig) -> (Beside<Outcome>, bool) {
    let write = create("alert".to_owned());
    let aside = Aside { write: &write, ticket: None, marker: "ds-alert", since: START };
    let has_begun = Cell::new(false);
    let begin = || {
        has_begun.set(true);
        Ok(())
    };
    (rig.dispatch.as_ref().unwrap().write_beside(&aside, begin).unwrap(), has_begun.get())
}

fn look(rig: &Rig) -> Beside<Looked> {
    let write = create("alert".to_owned());
    let aside = Aside { write: &write, ticket: None, marker: "ds-alert", since: START };
    rig.dispatch.as_ref().unwrap().look_beside(&aside)
}

#[test]
fn it_is_taken_off_the_budget_of_deliveries() {
    let mut rig = Rig::new();
    rig.rate_per_minute = 2;
    rig.restart();
    rig.put("a", "hello");
    rig.run();
    assert_eq!(write(&rig), (Beside::Done(Outcome::Delivered { ticket: 2 }), true));
    let (later, has_begun) = write(&rig);
    assert_eq!((later, has_begun), (Beside::NotFor(Duration::from_secs(60)), false));
    rig.put("b", "other");
    rig.run();
    assert_eq!(rig.desk.count("create"), 2, "a delivery waits for it, too");
    rig.run_for(Duration::from_secs(61));
    assert_eq!(rig.desk.count("create"), 3);
}

#[test]
fn it_waits_for_the_account_and_what_it_meets_is_told_the_account() {
    let rig = Rig::new();
    rig.script([Answer::Deferred(Cause::Denied, None)]);
    assert!(matches!(write(&rig), (Beside::Done(Outcome::Deferred { .. }), true)));
    assert_eq!(rig.dispatch.as_ref().unwrap().standing().trouble.map(|it| it.cause), Some(Cause::Denied));
    assert!(matches!(write(&rig), (Beside::NotFor(_), false)));
    rig.clock.advance(Duration::from_secs(900));
    assert!(matches!(write(&rig), (Beside::NotFor(Duration::ZERO), false)), "first the account is probed");
    assert!(matches!(write(&rig), (Beside::Done(Outcome::Delivered { .. }), true)));
    rig.script([Answer::Deferred(Cause::RateLimited, Some(Duration::from_secs(30)))]);
    write(&rig);
    assert_eq!(write(&rig).0, Beside::NotFor(Duration::from_secs(30)));
}

#[test]
fn it_is_not_made_while_delivery_is_paused() {
    let rig = Rig::new();
    rig.dispatch.as_ref().unwrap().set_paused(true);
    assert!(matches!(write(&rig), (Beside::NotFor(_), false)));
    assert_eq!(rig.desk.count("create"), 0);
}

#[test]
fn what_was_done_without_an_answer_is_found() {
    let rig = Rig::new();
    assert_eq!(look(&rig), Beside::Done(Looked::Absent));
    rig.script([Answer::DoneUnanswered]);
    assert!(matches!(write(&rig).0, Beside::Done(Outcome::Unknown { .. })));
    assert_eq!(look(&rig), Beside::Done(Looked::Found { ticket: 1 }));
}
