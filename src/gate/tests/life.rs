//! tiny_http slow, gone or back; stopping; reload.

use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::room::{Client, Handlers, PATIENCE, Room, until};
use crate::gate::{Gate, GateConfig, GateError, Limits, Reason};

const HOLD: &str = "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn sixty_four_clients_at_once_are_all_answered() {
    let room = Room::new(Limits::default());
    let (address, together) = (room.address(), Arc::new(Barrier::new(64)));
    let clients: Vec<_> = (0..64)
        .map(|number| {
            let together = Arc::clone(&together);
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for round in 0..5 {
                    together.wait();
                    client.send(format!("GET /{number}/{round} HTTP/1.1\r\nHost: x\r\n\r\n"));
                    assert!(client.answer().body.starts_with(&format!("GET /{number}/{round}\n")));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(room.gate.counters().relayed, 320);
}

#[test]
fn many_may_wait_for_their_answers_at_once() {
    let room = Room::new(Limits::default());
    let mut clients: Vec<_> = (0..100).map(|_| room.client_with(HOLD)).collect();
    until("all wait", || room.received() == 100);
    room.assert_serves();
    room.handlers.as_ref().unwrap().valve.open();
    assert!(clients.iter_mut().all(|client| client.answer().body == "held"));
}

#[test]
fn no_answer_in_time_is_a_503() {
    let room = Room::new(Limits { answer_deadline: Duration::from_millis(100), ..Limits::default() });
    let answer = room.client_with(HOLD).answer();
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("10")));
    assert_eq!(room.gate.counters().refused[Reason::Unanswered as usize].1, 1);
    room.handlers.as_ref().unwrap().valve.open();
    room.assert_serves();
    assert_eq!(room.received(), 2, "the first was not sent again");
}

#[test]
fn handlers_may_go_and_come_back() {
    let mut room = Room::new(Limits::default());
    assert!(room.gate.answers(PATIENCE));
    drop(room.handlers.take());
    assert!(!room.gate.answers(PATIENCE), "tiny_http has removed its socket");
    room.handlers = Some(Handlers::start(&room.upstream()));
    assert!(room.gate.answers(PATIENCE));
    room.assert_serves();
}

#[test]
fn without_handlers_clients_get_503() {
    let mut room = Room::new(Limits::default());
    drop(room.handlers.take());
    let answer = room.client_with(GET).answer();
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("10")));
    assert_eq!(room.gate.counters().refused[Reason::Unreachable as usize].1, 1);
}

#[test]
fn stopping_finishes_what_is_under_way() {
    let room = Room::new(Limits::default());
    let mut idle = room.client_with(GET);
    assert_eq!(idle.answer().status, 200);
    let mut reading = room.client_with("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na");
    until("a body is being read", || room.gate.shared.budget.held_bytes() > 0);
    let mut waiting = room.client_with(HOLD);
    until("a handler has it", || room.received() == 2);
    room.gate.stop_accepting();
    assert!(TcpStream::connect(room.address()).is_err());
    assert!(idle.is_closed());
    reading.send("bc");
    let answer = reading.answer();
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    assert_eq!(room.gate.drain(Duration::from_millis(20)), 1, "one still waits");
    assert!(waiting.is_gone());
}

#[test]
fn who_has_just_come_or_comes_again_is_answered_while_the_gate_stops() {
    let room = Room::new(Limits::default());
    let (mut fresh, mut kept) = (room.client(), room.client_with(GET));
    assert_eq!(kept.answer().status, 200);
    until("both are in", || room.gate.counters().open_connections == 2);
    thread::scope(|scope| {
        scope.spawn(|| room.gate.stop_within(PATIENCE));
        until("it stops", || room.gate.shared.is_stopping());
        for client in [&mut fresh, &mut kept] {
            client.send(GET);
            let answer = client.answer();
            assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
        }
    });
}

#[test]
fn an_accept_loop_that_hangs_is_noticed() {
    let room = Room::new(Limits::default());
    assert!(room.gate.shared.accepts(room.gate.shared.table.now_millis()));
    assert!(!room.gate.shared.accepts(u64::MAX));
    room.gate.stop_accepting();
    assert!(room.gate.shared.accepts(u64::MAX), "it has ended and does not hang");
}

#[test]
fn draining_waits_for_the_last_answer() {
    let room = Room::new(Limits::default());
    let mut waiting = room.client_with(HOLD);
    until("a handler has it", || room.received() == 1);
    room.gate.stop_accepting();
    room.handlers.as_ref().unwrap().valve.open();
    let answer = waiting.answer();
    assert_eq!((answer.body.as_str(), answer.header("Connection")), ("held", Some("close")));
    assert_eq!(room.gate.drain(PATIENCE), 0);
    assert_eq!(room.gate.counters().open_upstreams, 0);
}

#[test]
fn new_limits_apply_to_open_connections() {
    let room = Room::new(Limits::default());
    let mut client = room.client_with(GET);
    assert_eq!(client.answer().status, 200);
    room.gate.set_limits(Limits { body_bytes_max: 2, ..Limits::default() });
    // The connection may already wait under the old limits; the request after the next sees the new ones.
    client.send(GET);
    assert_eq!(client.answer().status, 200);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.answer().status, 413);
}

#[test]
fn a_gate_needs_a_listener() {
    let config = GateConfig {
        listeners: Vec::new(),
        upstream: "unused".into(),
        limits: Limits::default(),
        trusted_proxies: Vec::new(),
    };
    assert!(matches!(Gate::start(config), Err(GateError::NoListener)));
}
