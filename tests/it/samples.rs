//! What the platforms' documentation shows becomes tickets, however it is wrapped up on the way.

use crate::harness::{Daemon, PATIENCE, World, post, sandbox};
use deskspool::sandbox::{Sandbox, TicketView};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const TARGET: &str = "/in/sendpulse?token=pulse-token";

const FIRST: &str = include_str!("../../src/cli/demo/sendpulse-1.json");
const SECOND: &str = include_str!("../../src/cli/demo/sendpulse-2.json");
const INCOMING: &str = include_str!("../corpus/sendpulse/incoming-wa-json-ctype.http");
const OPEN_CHAT: &str = include_str!("../corpus/sendpulse/open-chat.http");
const NEW_SUBSCRIBER: &str = include_str!("../corpus/sendpulse/new-subscriber-with-first-text.http");
const CONTACT_CARD: &str = include_str!("../corpus/botpress/contact-card.http");

fn body_of(request: &str) -> &str {
    request.split_once("\r\n\r\n").expect("a head and a body").1
}

/// What must be the same: everything but numbers, times and the marker.
fn essence(ticket: &TicketView) -> String {
    let tags: Vec<&String> = ticket.tags.iter().filter(|tag| !tag.starts_with("ds-")).collect();
    let requester = &ticket.requester;
    let who = (&requester.name, &requester.email, &requester.phone, &requester.unique_external_id);
    let how = (ticket.status, ticket.priority, ticket.source);
    format!("{}\n{}\n{tags:?}\n{who:?}\n{how:?}", ticket.subject, ticket.description)
}

fn sendpulse() -> (Sandbox, Daemon, World) {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.source("sendpulse", "preset = \"sendpulse@1\"\nsecret = \"pulse-token\"");
    let daemon = world.start();
    (desk, daemon, world)
}

fn take(daemon: &Daemon, header: (&str, &str), body: &str) {
    let answer = post(daemon.address, TARGET, &[header], body.as_bytes()).expect("the daemon answers");
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"ok\":true}"));
}

/// The one ticket that a body becomes on a fresh machine.
fn ticket_of(header: (&str, &str), body: &str) -> TicketView {
    let (desk, daemon, _world) = sendpulse();
    take(&daemon, header, body);
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    daemon.stop();
    let mut tickets = desk.tickets();
    assert_eq!(tickets.len(), 1);
    tickets.remove(0)
}

fn percent(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A sample in every wrapping that was seen or is documented is the same ticket.
fn check_wrappings(sample: &str) -> TicketView {
    let expect = ticket_of(JSON, sample);
    assert!(expect.tags.iter().any(|tag| tag.starts_with("ds-")), "no marker in {:?}", expect.tags);
    let in_a_field = format!("data={}", percent(sample));
    let as_only_key = percent(sample);
    let wrapped = [
        ("form header and raw JSON", FORM, sample),
        ("JSON in a form field", FORM, in_a_field.as_str()),
        ("JSON as the only key", FORM, as_only_key.as_str()),
    ];
    for (what, header, body) in wrapped {
        assert_eq!(essence(&ticket_of(header, body)), essence(&expect), "{what}");
    }
    expect
}

#[test]
fn an_incoming_message_is_the_same_ticket_in_every_wrapping() {
    let ticket = check_wrappings(body_of(INCOMING));
    assert_eq!(ticket.requester.name.as_deref(), Some("Андрій"));
    let id = ticket.requester.unique_external_id.as_deref();
    assert_eq!(id, Some("sendpulse:65f0bb22083b4964fd0f1a01"));
    assert!(ticket.description_text.contains("+380671112233"), "{}", ticket.description_text);
    assert!(ticket.subject.starts_with("WhatsApp, Андрій: "), "{}", ticket.subject);
}

#[test]
fn an_opened_chat_is_the_same_ticket_in_every_wrapping() {
    check_wrappings(body_of(OPEN_CHAT));
}

#[test]
fn a_new_subscriber_who_says_something_is_the_same_ticket_in_every_wrapping() {
    check_wrappings(body_of(NEW_SUBSCRIBER));
}

#[test]
fn the_second_message_of_a_contact_is_a_note_and_the_same_request_has_one_effect() {
    let (desk, daemon, world) = sendpulse();
    take(&daemon, JSON, FIRST);
    // As SendPulse repeats it, and as its documentation says that it sends it.
    take(&daemon, JSON, FIRST);
    take(&daemon, FORM, FIRST);
    take(&daemon, FORM, SECOND);
    take(&daemon, JSON, SECOND);
    assert!(desk.wait_until(PATIENCE, |state| state.note_count() == 1), "no note");
    daemon.eventually("an empty queue", || {
        world.queue("queued,deferred,in-flight,held,dead").is_empty().then_some(())
    });
    let tickets = desk.tickets();
    assert_eq!((tickets.len(), tickets[0].notes.len()), (1, 1), "{tickets:#?}");
    assert!(tickets[0].description_text.contains("¿Dónde está mi pedido 5531?"));
    assert!(tickets[0].notes[0].body.contains("Lo necesito para el viernes."));
    assert_eq!(world.queue("delivered").len(), 2);
    daemon.stop();
}

#[test]
fn a_contact_card_of_botpress_is_a_ticket() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.source("botpress", "preset = \"botpress@1\"\nsecret = \"bp-secret\"");
    let daemon = world.start();
    let headers = [JSON, ("x-bp-secret", "bp-secret")];
    let answer = post(daemon.address, "/in/botpress", &headers, body_of(CONTACT_CARD).as_bytes()).unwrap();
    assert_eq!(answer.status, 200);
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    let ticket = desk.tickets().remove(0);
    assert_eq!(ticket.requester.email.as_deref(), Some("lucia.paredes@crownhogar.com.ar"));
    assert_eq!(ticket.requester.name.as_deref(), Some("Lucía Paredes"));
    assert_eq!(ticket.subject, "Facturación: No reconozco el segundo cargo (Lucía Paredes)");
    assert!(ticket.description_text.contains("dos veces la factura de octubre"), "{ticket:?}");
    let expect = ["deskspool", "botpress", "Facturación"];
    assert!(expect.iter().all(|tag| ticket.tags.iter().any(|found| found == tag)), "{:?}", ticket.tags);
    daemon.stop();
}
