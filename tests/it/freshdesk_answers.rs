//! What Freshdesk says, and what becomes of the envelope and of the delivery.

use crate::harness::events::{delivered, message};
use crate::harness::{Daemon, KEY, PATIENCE, World, sandbox};
use deskspool::sandbox::{Effect, Fault, FaultBody, Sandbox};
use serde_json::Value;

/// The one dead letter there is to be.
fn dead_letter(daemon: &Daemon, world: &World) -> Value {
    daemon.eventually("a dead letter", || world.queue("dead").pop())
}

fn reason(row: &Value) -> &str {
    row["last_error"].as_str().unwrap_or_default()
}

fn retry_all(world: &World) {
    let retried = world.run(&["retry", "--all", "--state", "dead"]);
    assert_eq!((retried.code, retried.out.as_str()), (0, "1 envelope is due now. Watch: deskspool queue\n"));
}

#[test]
fn a_refused_field_is_a_dead_letter_until_it_is_mended_and_retried() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let lines = "preset = \"generic@1\"\nsecret = \"chat-secret\"";
    world.source("chat", &format!("{lines}\nticket = {{ type = \"Nothing we have\" }}"));
    let daemon = world.start();
    daemon.chat(&message("ana", 0));
    let letter = dead_letter(&daemon, &world);
    assert!(reason(&letter).starts_with("freshdesk 400: type is invalid (ticket.type)"), "{letter}");
    assert_eq!(desk.tickets().len(), 0);
    assert_eq!(world.run(&["status"]).code, 1);
    world.source("chat", lines).write();
    let reloaded = world.run(&["reload"]);
    assert_eq!(reloaded.code, 0, "{reloaded:?}");
    retry_all(&world);
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "the retry does not deliver");
    daemon.eventually("nothing dead", || world.queue("dead").is_empty().then_some(()));
    assert_eq!(delivered(&desk.tickets(), "ana"), [0]);
    daemon.stop();
}

#[test]
fn a_key_that_is_refused_pauses_delivery_and_nothing_is_lost() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat();
    let daemon = world.start();
    desk.set_key("another-key");
    for conversation in ["ana", "luis", "eva"] {
        for number in 0..3 {
            daemon.chat(&message(conversation, number));
        }
    }
    daemon.wait_for("freshdesk still fails");
    let after_first_probe = daemon.lines();
    daemon.wait_for_after("freshdesk still fails", after_first_probe);
    let status = world.run(&["status"]);
    assert_eq!(status.code, 1, "a refused key needs somebody: {}", status.out);
    assert!(status.out.contains("refuses our key"), "{}", status.out);
    let waiting = world.queue("queued,deferred,in-flight");
    assert_eq!(waiting.len(), 9);
    assert!(waiting.iter().all(|row| row["attempts"] == 0), "{waiting:?}");
    let requests = desk.requests();
    assert!(requests.iter().all(|request| request.status == 401), "{requests:?}");
    assert!(requests.iter().any(|request| request.path == "/api/v2/agents/me"), "{requests:?}");
    desk.set_key(KEY);
    let all = |state: &deskspool::sandbox::State| state.ticket_count() + state.note_count() == 9;
    assert!(desk.wait_until(PATIENCE, all), "delivery does not go on by itself");
    for conversation in ["ana", "luis", "eva"] {
        assert_eq!(delivered(&desk.tickets(), conversation), [0, 1, 2]);
    }
    daemon.eventually("status is fine", || (world.run(&["status"]).code == 0).then_some(()));
    daemon.stop();
}

#[test]
fn a_429_stops_the_whole_account_for_as_long_as_it_says_and_is_no_attempt() {
    const WAIT_SECONDS: u64 = 5;
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().set("delivery", "workers", "1");
    let daemon = world.start();
    let too_many =
        Effect::Status { status: 429, body: FaultBody::Json, retry_after: Some(WAIT_SECONDS), commit: false };
    desk.add_fault(Fault::new(too_many).times(1));
    daemon.chat(&message("ana", 0));
    daemon.wait_for("429");
    let waiting = daemon.eventually("it waits", || world.queue("deferred").pop());
    assert_eq!(waiting["attempts"], 0, "{waiting}");
    daemon.chat(&message("luis", 0));
    daemon.chat(&message("eva", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 3), "delivery does not go on");
    let requests = desk.requests();
    let first = requests.iter().position(|request| request.status == 429).expect("the fault fired");
    let gap = requests[first + 1].at_ms - requests[first].at_ms;
    assert!(gap >= WAIT_SECONDS * 1000, "somebody called {gap} ms after the 429");
    daemon.stop();
}

fn first_message(desk: &Sandbox, daemon: &Daemon) {
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
}

#[test]
fn a_note_for_a_deleted_ticket_is_a_dead_letter_that_can_be_retried() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat();
    let daemon = world.start();
    first_message(&desk, &daemon);
    assert!(desk.mark_ticket(1, false, true));
    daemon.chat(&message("ana", 1));
    let letter = dead_letter(&daemon, &world);
    assert!(reason(&letter).starts_with("freshdesk 40"), "{letter}");
    assert!(reason(&letter).contains("ticket 1 "), "{letter}");
    // An agent restores it.
    assert!(desk.mark_ticket(1, false, false));
    retry_all(&world);
    assert!(desk.wait_until(PATIENCE, |state| state.note_count() == 1), "the retry does not deliver");
    assert_eq!(delivered(&desk.tickets(), "ana"), [0, 1]);
    daemon.stop();
}

#[test]
fn behind_a_dead_letter_the_conversation_goes_on() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat();
    let daemon = world.start();
    first_message(&desk, &daemon);
    let refused = Effect::Status { status: 400, body: FaultBody::Json, retry_after: None, commit: false };
    desk.add_fault(Fault::new(refused).on("POST", "/api/v2/tickets/*/notes").times(1));
    daemon.chat(&message("ana", 1));
    dead_letter(&daemon, &world);
    daemon.chat(&message("ana", 2));
    assert!(desk.wait_until(PATIENCE, |state| state.note_count() == 1), "it waits behind the dead letter");
    assert_eq!(delivered(&desk.tickets(), "ana"), [0, 2]);
    daemon.stop();
}
