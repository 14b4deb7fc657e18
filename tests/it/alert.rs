//! Alerts without Prometheus: told once, not again after a restart, and once more when it is over.

use crate::harness::{Daemon, KEY, PATIENCE, World, sandbox};
use deskspool::sandbox::{Effect, Fault, TicketView};
use std::io::{Read, Write};
use std::net::TcpListener;

#[test]
fn a_dead_letter_is_told_once_across_restarts_and_so_is_its_end() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    assert_eq!(daemon.post("/in/chat", "chat-secret", "not json").status, 200);
    daemon.stop();
    let told = world.path("told");
    let command = format!("[\"sh\", \"-c\", \"cat >> {0}; echo >> {0}\"]", told.display());
    let daemon = world.set("alert", "command", &command).start();
    daemon.wait_for("alert sent matter=dead state=begun");
    daemon.stop();
    let daemon = world.start();
    assert_eq!(world.run(&["drop", "--state", "dead", "--yes"]).code, 0);
    daemon.stop();
    let daemon = world.start();
    daemon.wait_for("alert sent matter=dead state=over");
    daemon.stop();
    let text = std::fs::read_to_string(told).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<_> = lines.iter().map(|line| line["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["begun", "over"], "{text}");
    assert!(
        lines[0]["text"].as_str().unwrap().starts_with("deskspool: 1 dead letter, chat: not JSON"),
        "{text}"
    );
}

#[test]
fn an_alert_is_posted_and_its_address_is_not_logged() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    assert_eq!(daemon.post("/in/chat", "chat-secret", "not json").status, 200);
    daemon.stop();
    let chat = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("\"http://{}/services/hunter2\"", chat.local_addr().unwrap());
    let daemon = world.set("alert", "url", &url).start();
    let (mut stream, _) = chat.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    while !text.contains("\"at\":") {
        let mut piece = [0; 1024];
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    assert!(
        text.starts_with("POST /services/hunter2 HTTP/1.1\r\n") && text.contains("1 dead letter"),
        "{text}"
    );
    daemon.wait_for("alert sent matter=dead state=begun");
    let log = daemon.log.clone();
    daemon.stop();
    assert!(!log.all().iter().any(|line| line.contains("hunter2")), "the address is in the log");
}

/// A daemon that opens tickets for alerts; its clock is `seconds` later than the one before.
fn ticketing(world: &World, seconds: u64) -> Daemon {
    world.write();
    let clock = (crate::transcripts::MORNING + seconds).to_string();
    Daemon::start(world.command(&["serve", "--clock", &clock]))
}

fn alerts(tickets: &[TicketView]) -> Vec<&TicketView> {
    tickets.iter().filter(|ticket| ticket.tags.iter().any(|tag| tag == "alert")).collect()
}

#[test]
fn a_matter_has_one_ticket_that_is_told_the_end_and_resolved() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().set("alert", "ticket", "true").set("ticket", "group_id", "51000123456");
    let daemon = ticketing(&world, 0);
    assert_eq!(daemon.post("/in/chat", "chat-secret", "not json").status, 200);
    daemon.stop();
    let daemon = ticketing(&world, 60);
    daemon.wait_for("alert ticket opened matter=dead ticket=1");
    daemon.stop();
    let tickets = desk.tickets();
    let ticket = alerts(&tickets)[0];
    assert!(ticket.subject.starts_with("deskspool: 1 dead letter, chat: not JSON"), "{ticket:?}");
    assert_eq!((ticket.status, ticket.priority, ticket.group_id), (2, 3, Some(51_000_123_456)), "{ticket:?}");
    // Another daemon opens no other.
    let daemon = ticketing(&world, 120);
    assert_eq!(world.run(&["drop", "--state", "dead", "--yes"]).code, 0);
    daemon.stop();
    let daemon = ticketing(&world, 660);
    daemon.wait_for("alert ticket resolved matter=dead ticket=1");
    daemon.stop();
    let tickets = desk.tickets();
    let [ticket] = alerts(&tickets)[..] else { panic!("{tickets:?}") };
    assert_eq!((ticket.status, ticket.notes.len()), (4, 1), "{ticket:?}");
    let note = &ticket.notes[0];
    assert!(note.private && note.body_text.starts_with("deskspool: over after "), "{note:?}");
    assert!(note.body_text.contains(": 1 dead letter, chat: not JSON"), "{note:?}");
}

#[test]
fn what_freshdesk_took_and_never_answered_is_found_and_not_opened_again() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().set("alert", "ticket", "true");
    let daemon = ticketing(&world, 0);
    assert_eq!(daemon.post("/in/chat", "chat-secret", "not json").status, 200);
    daemon.stop();
    desk.add_fault(Fault::new(Effect::CommitThenReset).on("POST", "/api/v2/tickets").times(1));
    let daemon = ticketing(&world, 60);
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    daemon.kill();
    let daemon = ticketing(&world, 120);
    daemon.wait_for("alert ticket opened matter=dead ticket=1");
    daemon.stop();
    assert_eq!(desk.tickets().len(), 1);
}

#[test]
fn a_ticket_that_freshdesk_refuses_is_told_in_the_log_and_not_tried_for_ever() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().set("alert", "ticket", "true").set("ticket", "type", "\"Nothing we have\"");
    let daemon = ticketing(&world, 0);
    assert_eq!(daemon.post("/in/chat", "chat-secret", "not json").status, 200);
    daemon.stop();
    let daemon = ticketing(&world, 60);
    daemon.wait_for(
        "alert ticket not opened matter=dead reason=\"freshdesk 400: type is invalid (ticket.type)\"",
    );
    daemon.stop();
    let asked = desk.requests().len();
    let daemon = ticketing(&world, 120);
    assert_eq!(world.run(&["status"]).code, 1);
    daemon.stop();
    assert_eq!(desk.requests().len(), asked, "it is not asked again");
}

#[test]
fn that_freshdesk_cannot_be_reached_makes_no_ticket_and_what_waited_is_told_later() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().set("alert", "ticket", "true");
    desk.set_key("another-key");
    let daemon = ticketing(&world, 0);
    daemon.chat(&crate::harness::events::message("ana", 0));
    let refused = || world.run(&["status"]).out.contains("refuses our key").then_some(());
    daemon.eventually("the key is refused", refused);
    daemon.stop();
    // A dead letter, while nothing can be told.
    let daemon = ticketing(&world, 600);
    assert_eq!(daemon.post("/in/chat", "chat-secret", "not json").status, 200);
    daemon.stop();
    let daemon = ticketing(&world, 660);
    let refused = || world.run(&["status"]).out.contains("refuses our key").then_some(());
    daemon.eventually("the key is refused", refused);
    assert_eq!(desk.tickets().len(), 0);
    desk.set_key(KEY);
    // Both what waited and the alert find their way by themselves.
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 2), "no ticket");
    daemon.stop();
    let tickets = desk.tickets();
    let [ticket] = alerts(&tickets)[..] else { panic!("{tickets:?}") };
    assert!(ticket.subject.starts_with("deskspool: 1 dead letter"), "{ticket:?}");
}
