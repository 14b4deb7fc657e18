//! Each fault as a client meets it, and what is stored by then.

use super::client::{read_reply, request};
use super::{Client, Options, Sandbox, start};
use crate::sandbox::{Effect, Fault, FaultBody};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::net::Shutdown;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(20);

fn body() -> Value {
    json!({"email": "ana@acme.example", "subject": "s", "description": "d"})
}

/// A sandbox that spoils every create.
fn spoilt(effect: Effect) -> (Sandbox, Client) {
    let (desk, client, _) = start(Options::default());
    desk.add_fault(Fault::new(effect).on("POST", "/api/v2/tickets"));
    (desk, client)
}

fn create(client: &Client) -> io::Result<super::client::Reply> {
    client.try_call("POST", "/api/v2/tickets", Some(&body()))
}

/// Status and fault of the last logged call.
fn last(desk: &Sandbox) -> (u16, Option<&'static str>) {
    let log = desk.requests();
    let last = log.last().expect("a call was logged");
    (last.status, last.fault)
}

#[test]
fn commit_then_reset_stores_the_ticket() {
    let (desk, client) = spoilt(Effect::CommitThenReset);
    assert_eq!(create(&client).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!((desk.tickets().len(), last(&desk)), (1, (0, Some("commit_then_reset"))));
    assert_eq!(client.get("/api/v2/tickets/1").status, 200, "other calls are as ever");
}

#[test]
fn reset_before_reading_stores_nothing() {
    let (desk, client) = spoilt(Effect::ResetBeforeReading);
    assert_eq!(create(&client).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let mut stream = client.connect().unwrap();
    let head = "POST /api/v2/tickets HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert!(read_reply(&mut stream).is_err(), "it does not wait for the body");
    assert_eq!((desk.tickets().len(), last(&desk)), (0, (0, Some("reset_before_reading"))));
}

#[test]
fn refuse_closes_before_a_byte_is_read() {
    let (desk, client, _) = start(Options::default());
    desk.add_fault(Fault::new(Effect::Refuse).times(1));
    assert!(create(&client).is_err());
    assert_eq!((desk.tickets().len(), last(&desk)), (0, (0, Some("refuse"))));
    assert_eq!(create(&client).unwrap().status, 201);
}

#[test]
fn a_stall_says_nothing_until_the_client_leaves() {
    for (commit, expect) in [(false, 0), (true, 1)] {
        let (desk, client) = spoilt(Effect::Stall { hold: LONG, commit });
        let mut stream = client.connect().unwrap();
        stream.write_all(&request("POST", "/api/v2/tickets", Some(&body()))).unwrap();
        assert!(desk.wait_until(PATIENCE, |state| state.requests().len() == 1));
        assert_eq!(desk.tickets().len(), expect);
        stream.shutdown(Shutdown::Both).unwrap();
        assert!(desk.wait_until(PATIENCE, |state| state.connections == 0));
        assert_eq!((desk.tickets().len(), last(&desk)), (expect, (0, Some("stall"))));
    }
}

#[test]
fn a_stall_ends_when_its_time_is_over() {
    let hold = Duration::from_millis(20);
    let (desk, client) = spoilt(Effect::Stall { hold, commit: true });
    assert_eq!(create(&client).unwrap().status, 201);
    desk.clear_faults();
    desk.add_fault(Fault::new(Effect::Stall { hold, commit: false }));
    assert!(create(&client).is_err());
    assert_eq!(desk.tickets().len(), 1);
}

#[test]
fn a_stall_ends_when_the_sandbox_stops() {
    let (mut desk, client) = spoilt(Effect::Stall { hold: LONG, commit: false });
    let mut stream = client.connect().unwrap();
    stream.write_all(&request("POST", "/api/v2/tickets", Some(&body()))).unwrap();
    assert!(desk.wait_until(PATIENCE, |state| state.requests().len() == 1));
    desk.stop();
    assert!(read_reply(&mut stream).is_err());
    assert!(desk.wait_until(Duration::ZERO, |state| state.connections == 0));
}

#[test]
fn slow_answers_are_true_and_commit_late() {
    let (desk, client) = spoilt(Effect::Slow { delay: Duration::from_millis(20) });
    assert_eq!(create(&client).unwrap().status, 201);
    let mut stream = client.connect().unwrap();
    stream.write_all(&request("POST", "/api/v2/tickets", Some(&body()))).unwrap();
    drop(stream);
    assert!(
        desk.wait_until(PATIENCE, |state| state.ticket_count() == 2),
        "the client left, the write is done"
    );
    assert_eq!(last(&desk), (201, Some("slow")));
}

#[test]
fn any_status_can_be_answered() {
    let check = |effect: Effect, expect: (u16, Option<&str>, &str, usize)| {
        let (desk, client) = spoilt(effect);
        let reply = create(&client).unwrap();
        let seen = (reply.status, reply.header("Retry-After"), desk.tickets().len());
        assert_eq!(seen, (expect.0, expect.1, expect.3), "{reply:?}");
        assert!(reply.body.contains(expect.2), "{reply:?}");
        assert_eq!(last(&desk), (expect.0, Some("status")));
    };
    let html = |status, commit| Effect::Status { status, body: FaultBody::Html, retry_after: None, commit };
    let limited = Effect::Status { status: 429, body: FaultBody::Json, retry_after: Some(30), commit: false };
    check(Effect::status(503), (503, None, "{\"message\":", 0));
    check(Effect::status(500), (500, None, "internal_error", 0));
    check(Effect::status(403), (403, None, "access_denied", 0));
    check(Effect::status(400), (400, None, "invalid_value", 0));
    check(limited, (429, Some("30"), "exceeded the limit", 0));
    check(html(502, false), (502, None, "<h1>502 Bad Gateway</h1>", 0));
    check(html(504, true), (504, None, "<html>", 1));
}

#[test]
fn only_the_service_itself_tells_the_budget() {
    let (desk, client) = spoilt(Effect::status(503));
    assert!(create(&client).unwrap().header("X-Ratelimit-Remaining").is_some());
    desk.clear_faults();
    desk.add_fault(Fault::new(Effect::Status {
        status: 503,
        body: FaultBody::Html,
        retry_after: None,
        commit: false,
    }));
    assert_eq!(create(&client).unwrap().header("X-Ratelimit-Remaining"), None);
}

#[test]
fn a_wrong_key_can_be_for_one_call_only() {
    let (desk, client) = spoilt(Effect::WrongKey);
    assert_eq!(create(&client).unwrap().json()["code"], json!("invalid_credentials"));
    assert_eq!((desk.tickets().len(), last(&desk)), (0, (401, Some("wrong_key"))));
    assert_eq!(client.get("/api/v2/agents/me").status, 200);
}

#[test]
fn a_truncated_answer_promises_more_than_comes() {
    for location in [true, false] {
        let (desk, client) = spoilt(Effect::TruncatedJson { location });
        let mut stream = client.connect().unwrap();
        stream.write_all(&request("POST", "/api/v2/tickets", Some(&body()))).unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut stream, &mut text).unwrap();
        let (head, sent) = text.split_once("\r\n\r\n").unwrap();
        let promised = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        assert!(head.starts_with("HTTP/1.1 201 Created") && sent.starts_with("{\"id\":1,"), "{text}");
        assert!(sent.len() < promised.parse().unwrap() && serde_json::from_str::<Value>(sent).is_err());
        assert_eq!((head.contains("Location: "), desk.tickets().len()), (location, 1));
    }
}

#[test]
fn garbage_looks_like_success() {
    for (commit, expect) in [(false, 0), (true, 1)] {
        let (desk, client) = spoilt(Effect::Garbage200 { commit });
        let reply = create(&client).unwrap();
        assert_eq!((reply.status, reply.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
        assert_eq!((desk.tickets().len(), last(&desk)), (expect, (200, Some("garbage_200"))));
    }
}

#[test]
fn every_fifth_create_is_lost_on_the_way_back() {
    let (desk, client, _) = start(Options::default());
    desk.add_fault(Fault::new(Effect::CommitThenReset).on("POST", "/api/v2/tickets").every(5));
    let failed: Vec<u64> = (1..=12).filter(|_| create(&client).is_err()).collect();
    assert_eq!((failed, desk.tickets().len()), (vec![5, 10], 12));
}

#[test]
fn down_means_refused_and_up_is_the_same_port() {
    let (desk, client, _) = start(Options::default());
    let mut kept = client.connect().unwrap();
    kept.write_all(&request("GET", "/api/v2/agents/me", None)).unwrap();
    assert_eq!(read_reply(&mut kept).unwrap().status, 200);
    for _ in 0..3 {
        desk.set_down(true).unwrap();
        assert_eq!(create(&client).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(read_reply(&mut kept).is_err(), "open connections are cut");
        desk.set_down(true).unwrap();
        desk.set_down(false).unwrap();
        assert_eq!(create(&client).unwrap().status, 201);
    }
    assert_eq!(desk.tickets().len(), 3);
}

#[test]
fn nothing_is_stored_while_it_is_down() {
    let (desk, client) = spoilt(Effect::Slow { delay: Duration::from_millis(50) });
    let mut stream = client.connect().unwrap();
    stream.write_all(&request("POST", "/api/v2/tickets", Some(&body()))).unwrap();
    assert!(desk.wait_until(PATIENCE, |state| state.faults[0].hits == 1));
    desk.set_down(true).unwrap();
    assert!(read_reply(&mut stream).is_err());
    assert!(desk.wait_until(PATIENCE, |state| state.connections == 0));
    assert!(desk.tickets().is_empty());
}
