//! Clients who mean no good, or do not know better: the daemon lives, and the honest ones are answered.

use crate::harness::events::message;
use crate::harness::http::request;
use crate::harness::{Client, Daemon, PATIENCE, World, post, sandbox, send};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

const HEADERS: [(&str, &str); 2] = [("Content-Type", "application/json"), ("Authorization", "chat-secret")];

#[test]
fn absurd_requests_are_refused_and_the_daemon_lives() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    let many = (0..20_000).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let absurd: [(&str, Vec<u8>, &[u16]); 7] = [
        (
            "a length of 2^63 - 1",
            b"POST /in/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n{".to_vec(),
            &[413],
        ),
        (
            "a length of 2^64",
            b"POST /in/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n{".to_vec(),
            &[400, 413],
        ),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), &[400, 505]),
        ("20,000 headers", format!("GET /in/chat HTTP/1.1\r\nHost: x\r\n{many}\r\n").into_bytes(), &[431]),
        (
            "two lengths",
            b"POST /in/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}".to_vec(),
            &[400],
        ),
        (
            "a length and chunks",
            b"POST /in/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"
                .to_vec(),
            &[400],
        ),
        ("a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n".to_vec(), &[400]),
    ];
    for (what, bytes, statuses) in absurd {
        let answer = send(daemon.address, &bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
        daemon.chat(&message("ana", 0));
    }
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    daemon.stop();
}

/// Connections that never get to the end of their request.
struct SlowClients {
    address: SocketAddr,
    request: Vec<u8>,
    /// Each with how much of the request it has sent.
    open: Vec<(TcpStream, usize)>,
    wanted: usize,
}

impl SlowClients {
    fn new(address: SocketAddr, wanted: usize) -> SlowClients {
        let request = request("POST", "/in/chat", &HEADERS, message("slow", 0).as_bytes());
        SlowClients { address, request, open: Vec::new(), wanted }
    }

    /// Opens up to `most` that are missing, each with its first byte.
    fn open(&mut self, most: usize) {
        for _ in 0..most.min(self.wanted - self.open.len()) {
            let Ok(mut stream) = TcpStream::connect_timeout(&self.address, PATIENCE) else { return };
            if stream.set_nonblocking(true).is_ok() && stream.write(&self.request[..1]).is_ok() {
                self.open.push((stream, 1));
            }
        }
    }

    /// One byte from each; the last is never sent. Those that were pushed out are gone.
    fn drip(&mut self) {
        let (request, last) = (&self.request, self.request.len() - 1);
        self.open.retain_mut(|(stream, sent)| {
            if *sent < last && stream.write(&request[*sent..=*sent]).is_err() {
                return false;
            }
            *sent = (*sent + 1).min(last);
            true
        });
    }

    /// Drips and comes back until it is told to stop; says how often it was pushed out.
    fn annoy(mut self, stop: &Receiver<()>, back_at_once: usize) -> usize {
        let mut pushed_out = 0;
        while stop.recv_timeout(Duration::from_millis(250)) == Err(RecvTimeoutError::Timeout) {
            let before = self.open.len();
            self.drip();
            pushed_out += before - self.open.len();
            self.open(back_at_once);
        }
        pushed_out
    }
}

/// Room for both ends of this test.
fn raise_open_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).expect("this test needs 4096 open files (ulimit -Hn)");
    }
}

/// Posts as a platform does: now a new connection, now a kept one. Every post must be answered with 200.
fn post_honestly(daemon: &Daemon, name: &str, posts: usize) {
    for number in 0..posts {
        let body = message(name, number);
        let answer = if number % 2 == 0 {
            post(daemon.address, "/in/chat", &HEADERS, body.as_bytes())
        } else {
            let mut client = Client::connect(daemon.address).expect("the daemon accepts");
            let first = client.post("/in/chat", &HEADERS, body.as_bytes());
            first.and_then(|_| client.post("/in/chat", &HEADERS, body.as_bytes()))
        };
        let answer = answer.unwrap_or_else(|error| panic!("honest post {number} of {name}: {error}"));
        assert_eq!(answer.status, 200, "honest post {number} of {name}: {answer:?}");
    }
}

#[test]
fn two_thousand_slow_connections_do_not_lock_out_honest_ones() {
    const SLOW: usize = 2000;
    const HONEST: usize = 8;
    const POSTS: usize = 100;
    raise_open_files(4096);
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start_with(&[], Some(1024));
    let mut slow = SlowClients::new(daemon.address, SLOW);
    slow.open(SLOW);
    assert_eq!(slow.open.len(), SLOW, "all of them get a connection");
    let (stop, stopped) = channel();
    std::thread::scope(|scope| {
        let annoying = scope.spawn(move || slow.annoy(&stopped, 100));
        let names: Vec<String> = (0..HONEST).map(|number| format!("h{number}")).collect();
        std::thread::scope(|scope| {
            for name in &names {
                let daemon = &daemon;
                scope.spawn(move || post_honestly(daemon, name, POSTS));
            }
        });
        drop(stop);
        let pushed_out = annoying.join().expect("the slow ones do not panic");
        println!("slow connections pushed out: {pushed_out}");
    });
    let all = HONEST * POSTS;
    let arrived = |state: &deskspool::sandbox::State| state.ticket_count() + state.note_count() == all;
    assert!(desk.wait_until(2 * PATIENCE, arrived), "what was answered is delivered");
    daemon.stop();
}

#[test]
fn two_hundred_connections_with_64_descriptors_do_not_end_it() {
    raise_open_files(4096);
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start_with(&[], Some(64));
    let mut slow = SlowClients::new(daemon.address, 200);
    slow.open(200);
    slow.drip();
    daemon.chat(&message("ana", 0));
    drop(slow);
    for number in 1..20 {
        daemon.chat(&message("ana", number));
    }
    let arrived = |state: &deskspool::sandbox::State| state.ticket_count() + state.note_count() == 20;
    assert!(desk.wait_until(PATIENCE, arrived), "what was answered is delivered");
    assert_eq!(world.run(&["status"]).code, 0);
    daemon.stop();
}
