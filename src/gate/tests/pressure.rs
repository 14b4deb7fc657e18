//! Clients that are slow, many, greedy or rude on purpose, while honest ones want to be served.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::room::{Client, Room, until};
use crate::gate::{Limits, Reason};

const SLOW_HEAD: &str = "GET /slow HTTP/1.1\r\nHost: x\r\nX-Dri";
const SLOW_BODY: &str = "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\nabc";
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_full_table_evicts_the_oldest_unfinished() {
    let room = Room::new(Limits { connections_max: 4, ..Limits::default() });
    let mut slow: Vec<_> = (1..=4)
        .map(|count| {
            let client = room.client_with(SLOW_HEAD);
            until("it is in", || room.gate.counters().accepted == count);
            client
        })
        .collect();
    room.assert_serves();
    assert!(slow[0].is_gone());
    assert_eq!(room.gate.counters().evicted, 1);
    slow[3].send("p: 1\r\n\r\n");
    assert_eq!(slow[3].answer().status, 200, "the newest was left alone");
}

#[test]
fn a_table_full_of_waiting_clients_refuses_newcomers() {
    let room = Room::new(Limits { connections_max: 2, ..Limits::default() });
    let mut waiting: Vec<_> =
        (0..2).map(|_| room.client_with("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    until("both wait", || room.received() == 2);
    let mut newcomer = room.client();
    let answer = newcomer.answer();
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("10")));
    assert!(newcomer.is_closed());
    room.handlers.as_ref().unwrap().valve.open();
    assert!(waiting.iter_mut().all(|client| client.answer().status == 200));
    assert_eq!(room.gate.counters().refused[Reason::Full as usize].1, 1);
}

#[test]
fn slow_bodies_do_not_block_others() {
    let room = Room::new(Limits { connections_max: 16, ..Limits::default() });
    let _slow: Vec<_> = (0..40).map(|_| room.client_with(SLOW_BODY)).collect();
    (0..20).for_each(|_| room.assert_serves());
    assert_eq!(room.received(), 20);
}

#[test]
fn bodies_share_a_budget() {
    let limits = Limits { body_bytes_max: 300_000, body_budget_bytes: 400_000, ..Limits::default() };
    let room = Room::new(limits);
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n";
    let mut greedy = room.client_with(head);
    greedy.send("x".repeat(299_999));
    until("it holds its share", || room.gate.shared.budget.held_bytes() == 300_000);
    let answer = room.client_with(&format!("{head}{}", "x".repeat(300_000))).answer();
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("10")));
    let small = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n{}", "x".repeat(2000));
    assert_eq!(room.client_with(&small).answer().status, 200, "small bodies still fit");
    greedy.send("x");
    assert_eq!(greedy.answer().status, 200);
    until("all is given back", || room.gate.shared.budget.held_bytes() == 0);
}

#[test]
fn announced_bodies_cost_nothing_until_they_come() {
    let room = Room::new(Limits::default());
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\nx";
    let _waiting: Vec<_> = (0..50).map(|_| room.client_with(head)).collect();
    until("all are being read", || room.gate.shared.budget.held_bytes() == 50 * 64 * 1024);
    room.assert_serves();
}

#[test]
fn resets_kill_nothing() {
    let room = Room::new(Limits::default());
    for raw in ["", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", SLOW_BODY, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"]
    {
        for _ in 0..100 {
            let client = room.client_with(raw);
            socket2::SockRef::from(client.socket()).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    room.assert_serves();
    until("all are gone", || room.gate.counters().open_connections <= 1);
    assert_eq!(room.gate.counters().panics, 0);
}

/// Drips a byte a moment into `count` connections, and opens those anew that were closed, until the
/// sender is dropped.
fn drip(address: std::net::SocketAddr, count: usize, stop: &mpsc::Receiver<()>) {
    let open = |_| {
        let mut client = Client::connect(address);
        client.send(SLOW_HEAD);
        client.socket().set_nonblocking(true).unwrap();
        client
    };
    let mut clients: Vec<_> = (0..count).map(open).collect();
    while stop.recv_timeout(Duration::from_millis(20)) == Err(mpsc::RecvTimeoutError::Timeout) {
        for client in &mut clients {
            if client.socket().write_all(b"x").is_err() {
                *client = open(0);
            }
        }
    }
}

#[test]
fn honest_clients_are_served_among_many_slow_ones() {
    let room = Room::new(Limits { connections_max: 32, ..Limits::default() });
    let (address, (running, stop)) = (room.address(), mpsc::channel());
    let attacker = thread::spawn(move || drip(address, 200, &stop));
    until("the table is full", || room.gate.counters().evicted > 100);
    for _ in 0..100 {
        assert_eq!(room.client_with(GET).answer().status, 200);
    }
    drop(running);
    attacker.join().unwrap();
    assert_eq!(room.gate.counters().panics, 0);
}

/// A gate in a process of its own that may open few files; it ends with its standard input.
struct SmallProcess {
    child: Child,
    address: std::net::SocketAddr,
    output: BufReader<std::process::ChildStdout>,
}

const CHILD: &str = "DESKSPOOL_TEST_GATE_CHILD";

impl SmallProcess {
    fn start(descriptors: usize) -> SmallProcess {
        let script = format!("ulimit -n {descriptors}; exec \"$0\" --exact --nocapture \"$1\"");
        let test = "gate::tests::pressure::a_gate_with_few_descriptors_keeps_serving";
        let mut child = Command::new("sh")
            .args(["-c", &script, std::env::current_exe().unwrap().to_str().unwrap(), test])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let address = Self::await_word(&mut output, "ADDRESS ").parse().unwrap();
        SmallProcess { child, address, output }
    }

    fn await_word(output: &mut impl BufRead, word: &str) -> String {
        let mut lines = output.lines().map_while(Result::ok);
        let line = lines.find_map(|line| line.split_once(word).map(|(_, rest)| rest.to_owned()));
        line.expect("the child says it")
    }

    /// Ends it and gives what it counted.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let counters = Self::await_word(&mut self.output, "COUNTERS ");
        assert!(self.child.wait().unwrap().success());
        counters
    }

    fn run() {
        let room = Room::new(Limits::default());
        println!("ADDRESS {}", room.address());
        std::io::stdin().lines().for_each(drop);
        println!("COUNTERS {:?}", room.gate.counters());
    }
}

#[test]
fn a_gate_with_few_descriptors_keeps_serving() {
    if std::env::var_os(CHILD).is_some() {
        return SmallProcess::run();
    }
    let small = SmallProcess::start(64);
    let slow: Vec<_> = (0..200)
        .map(|_| {
            let mut client = Client::connect(small.address);
            client.send(SLOW_BODY);
            client
        })
        .collect();
    let serves = || {
        let mut client = Client::connect(small.address);
        client.send(GET);
        assert_eq!(client.answer().status, 200);
    };
    (0..50).for_each(|_| serves());
    let together: Vec<_> = (0..8)
        .map(|_| {
            let address = small.address;
            thread::spawn(move || {
                let mut client = Client::connect(address);
                client.send(GET);
                client.answer().status
            })
        })
        .collect();
    assert!(together.into_iter().all(|client| client.join().unwrap() == 200));
    drop(slow);
    (0..50).for_each(|_| serves());
    let counters = small.end();
    assert!(counters.contains("panics: 0") && counters.contains("relayed: 108"), "{counters}");
}
