//! Freshdesk takes the write and does not say so, or says so and has not: still one ticket and one note each.

use crate::harness::events::{delivered, message};
use crate::harness::{PATIENCE, World, sandbox};
use deskspool::sandbox::{Effect, Fault, FaultBody};
use std::time::Duration;

const TICKETS: &str = "/api/v2/tickets";
const NOTES: &str = "/api/v2/tickets/*/notes";

/// Lets `conversations` talk twice while `faults` are about; each must end as one ticket with one note.
fn check(what: &str, faults: Vec<Fault>, conversations: usize) {
    let desk = sandbox();
    let hits = faults.len();
    faults.into_iter().for_each(|fault| desk.add_fault(fault));
    let mut world = World::new(&desk);
    world.chat().set("delivery", "workers", "16");
    let daemon = world.start();
    for number in 0..2 {
        for conversation in 0..conversations {
            daemon.chat(&message(&format!("c{conversation}"), number));
        }
    }
    let all = |state: &deskspool::sandbox::State| state.ticket_count() + state.note_count();
    assert!(desk.wait_until(PATIENCE, |state| all(state) >= 2 * conversations), "{what}: not all arrive");
    daemon.eventually("an empty queue", || {
        world.queue("queued,deferred,in-flight,held,dead").is_empty().then_some(())
    });
    let tickets = desk.tickets();
    assert_eq!(tickets.len(), conversations, "{what}: {tickets:#?}");
    for conversation in 0..conversations {
        assert_eq!(
            delivered(&tickets, &format!("c{conversation}")),
            [0, 1],
            "{what}: conversation {conversation}"
        );
    }
    let spoilt = desk.requests().iter().filter(|request| request.fault.is_some()).count();
    assert!(spoilt >= hits, "{what}: only {spoilt} requests were spoilt");
    daemon.stop();
}

fn first_ticket_and_first_note(effect: &Effect) -> Vec<Fault> {
    let on = |path| Fault::new(effect.clone()).on("POST", path).times(1);
    vec![on(TICKETS), on(NOTES)]
}

fn check_all(cases: &[(&str, Effect)]) {
    std::thread::scope(|scope| {
        for (what, effect) in cases {
            scope.spawn(move || check(what, first_ticket_and_first_note(effect), 3));
        }
    });
}

#[test]
fn every_fifth_create_and_every_fourth_note_is_done_and_not_answered() {
    let faults = vec![
        Fault::new(Effect::CommitThenReset).on("POST", TICKETS).every(5),
        Fault::new(Effect::CommitThenReset).on("POST", NOTES).every(4),
    ];
    check("commit then reset", faults, 20);
}

#[test]
fn a_stalled_write_happens_once_whether_it_was_done_or_not() {
    let hold = Duration::from_secs(30);
    check_all(&[
        ("stall, done", Effect::Stall { hold, commit: true }),
        ("stall, not done", Effect::Stall { hold, commit: false }),
        // Longer than the client waits, shorter than it waits before it looks.
        ("done late", Effect::Slow { delay: Duration::from_secs(3) }),
        ("reset before reading", Effect::ResetBeforeReading),
    ]);
}

#[test]
fn a_write_with_a_useless_answer_happens_once() {
    let error = |status, commit| Effect::Status { status, body: FaultBody::Html, retry_after: None, commit };
    check_all(&[
        ("502 html, not done", error(502, false)),
        ("504 html, done", error(504, true)),
        (
            "500 json, done",
            Effect::Status { status: 500, body: FaultBody::Json, retry_after: None, commit: true },
        ),
        ("truncated 201 with Location", Effect::TruncatedJson { location: true }),
        ("truncated 201 without Location", Effect::TruncatedJson { location: false }),
        ("somebody else's 200, done", Effect::Garbage200 { commit: true }),
        ("somebody else's 200, not done", Effect::Garbage200 { commit: false }),
    ]);
}
