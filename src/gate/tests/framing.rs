//! What is a request and what is not: raw bytes in, status and the fate of the connection out.

use std::net::IpAddr;

use proptest::prelude::*;

use super::room::{Room, hasty};
use crate::gate::canonical;
use crate::gate::refusal::Reason;
use crate::gate::request::{Chunked, Head, HeadScan};
use crate::gate::{Gate, GateConfig, Limits, PING_TARGET, bind};

/// Sends `raw` and expects `status`; afterwards the connection is closed, or (`stays`) serves another.
fn check(room: &Room, raw: impl AsRef<[u8]>, status: u16, stays: bool) {
    let raw = raw.as_ref();
    let shown = raw[..raw.len().min(200)].escape_ascii();
    let mut client = room.client();
    client.send(raw);
    let answer = client.answer();
    assert_eq!(answer.status, status, "{shown}");
    assert_eq!(answer.header("Connection") != Some("close"), stays, "{shown}");
    if stays {
        client.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(client.answer().body.starts_with("GET /next\n"), "{shown}");
    } else {
        assert!(client.is_closed(), "{shown}");
    }
    assert_eq!(status == 503, answer.header("Retry-After").is_some(), "{shown}");
}

#[test]
fn well_formed_requests_are_relayed() {
    let room = Room::new(Limits::default());
    let ok = |raw: &str, stays| check(&room, raw, 200, stays);
    ok("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true);
    ok("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", true);
    ok("GET / HTTP/1.1\r\nHost:\r\n\r\n", true);
    ok("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false);
    ok("GET / HTTP/1.0\r\n\r\n", false);
    ok("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true);
    ok("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", true);
    ok(
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
        true,
    );
    ok("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", true);
    ok("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", true);
    ok("PURGE / HTTP/1.1\r\nHost: x\r\n\r\n", true);
    ok("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", true);
    ok("GET / HTTP/1.1\r\nHost: x\r\nX-Name: Jos\u{e9}\r\n\r\n", true);
    ok("GET /caf\u{e9}?\u{1f600} HTTP/1.1\r\nHost: x\r\n\r\n", true);
    check(&room, "GET /empty HTTP/1.1\r\nHost: x\r\n\r\n", 204, true);
    assert_eq!(room.gate.counters().panics, 0);
}

#[test]
fn ambiguous_or_broken_requests_are_refused() {
    let room = Room::new(Limits::default());
    let headers = [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "Content-Length: -1",
        "Content-Length: abc",
        "Content-Length: 0x3",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Content-Length : 3",
        " Content-Length: 3",
        "X: a\r\n folded",
        "X: a\r\n\tfolded",
        "X: a\rY: b",
        "X: a\nY: b",
        "X: a\0b",
        "X: a\x7fb",
        "X\0: a",
        "no colon",
        ": no name",
        "X(: a",
        "J\u{f6}: a",
        "Host: y",
    ];
    for header in headers {
        check(&room, format!("POST / HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\nabc"), 400, false);
    }
    assert_eq!(room.received(), 0);
    room.assert_serves();
    let malformed = room.gate.counters().refused[Reason::Malformed as usize];
    assert_eq!(malformed, (Reason::Malformed, headers.len() as u64));
}

#[test]
fn broken_request_lines_are_refused() {
    let room = Room::new(Limits::default());
    let refused = |raw: &str, status| check(&room, raw, status, false);
    refused("GET / HTTP/1.1\r\n\r\n", 400);
    refused("GET /\r\n\r\n", 400);
    refused("GET / HTTP/1.1 extra\r\nHost: x\r\n\r\n", 400);
    refused("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused("GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused("GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused("GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused("GET / HTTP/1.1\nHost: x\n\n", 400);
    refused("G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused("GET in HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused("GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused("GET http:///in HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused("GET http://user@host/ HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400);
    refused("GET / http/1.1\r\nHost: x\r\n\r\n", 400);
    refused("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03", 400);
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    refused("CONNECT host:443 HTTP/1.1\r\nHost: host\r\n\r\n", 405);
    refused("TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405);
    refused("POST / HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 3\r\n\r\nabc", 417);
    refused(&format!("GET {PING_TARGET} HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
    refused(&format!("GET http://x{PING_TARGET}?y HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
    refused("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", 400);
    assert_eq!(room.received(), 0);
}

#[test]
fn the_killers_of_tiny_http_do_not_reach_it() {
    let room = Room::new(Limits::default());
    let refused = |raw: String, status| check(&room, raw, status, false);
    let post = "POST / HTTP/1.1\r\nHost: x\r\n";
    refused(format!("{post}Content-Length: 9223372036854775807\r\n\r\nabc"), 413);
    refused(format!("{post}Content-Length: 18446744073709551615\r\n\r\nabc"), 413);
    refused(format!("{post}Transfer-Encoding: chunked\r\n\r\n7FFFFFFFFFFFFFF\r\nabc"), 413);
    refused("GET / HTTP/2.0\r\n\r\n".to_owned(), 505);
    refused("GET / HTTP/1.2\r\nHost: x\r\n\r\n".to_owned(), 505);
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned(), 505);
    refused(format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(20_000)), 431);
    refused(format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(64)), 431);
    refused(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(20_000)), 431);
    refused(format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(9_000)), 414);
    refused(format!("GET /{}", "y".repeat(8_000_000)), 414);
    assert_eq!(room.received(), 0);
    let (open, upstreams) = (room.gate.counters().open_connections, room.gate.counters().open_upstreams);
    assert!(open <= 1 && upstreams == 0, "{open} connections and {upstreams} upstreams are left");
    check(&room, format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(63)), 200, true);
}

#[test]
fn a_body_that_is_too_large_is_refused_and_the_answer_arrives() {
    let room = Room::new(Limits { body_bytes_max: 1000, ..Limits::default() });
    let body = "x".repeat(3_000_000);
    check(&room, format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n{body}"), 413, false);
    let exact = "x".repeat(1000);
    check(&room, format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{exact}"), 200, true);
    let expects = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n";
    check(&room, expects, 413, false);
}

#[test]
fn large_bodies_arrive_whole() {
    let room = Room::new(Limits::default());
    let body: String = (0..700_000).map(|number| char::from(b'a' + (number % 23) as u8)).collect();
    let mut client = room.client();
    client.send(format!("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let echoed = client.answer().body;
    assert!(echoed.ends_with(&body), "{} bytes", echoed.len());
    let chunks: String =
        body.as_bytes().chunks(50_000).map(|c| format!("c350\r\n{}\r\n", c.escape_ascii())).collect();
    client
        .send(format!("POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"));
    let echoed = client.answer().body;
    assert!(echoed.contains("Content-Length: 700000\n") && echoed.ends_with(&body), "{} bytes", echoed.len());
    assert_eq!(room.gate.shared.budget.held_bytes(), 0);
}

#[test]
fn a_truncated_body_is_never_relayed() {
    let room = Room::new(Limits::default());
    let post = "POST / HTTP/1.1\r\nHost: x\r\n";
    let long = "x".repeat(3_000);
    for raw in [
        format!("{post}Content-Length: 5000\r\n\r\n{long}"),
        format!("{post}Content-Length: 4\r\n\r\nabc"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nBB8\r\n{long}"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nBB8\r\n{long}\r\n0\r\n"),
        format!("{post}Content-Le"),
    ] {
        let mut client = room.client_with(&raw);
        client.socket().shutdown(std::net::Shutdown::Write).unwrap();
        assert!(client.try_answer(false).is_none(), "{}", &raw[..60]);
    }
    assert_eq!((room.received(), room.gate.counters().truncated), (0, 5));
}

#[test]
fn slow_requests_are_refused_at_the_deadline() {
    let room = Room::new(hasty());
    check(&room, "GET / HTTP/1.1\r\nHost:", 408, false);
    check(&room, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", 408, false);
    check(&room, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", 408, false);
    assert!(room.client().is_closed(), "who says nothing gets no answer");
    let mut client = room.client_with("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    client.send("GET /second HTT");
    assert_eq!(client.answer().status, 408);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let room = Room::new(Limits { idle_deadline: std::time::Duration::from_millis(50), ..Limits::default() });
    let mut client = room.client_with("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert!(client.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let room = Room::new(Limits::default());
    let mut client = room.client_with(
        "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\
         POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\
         HEAD /3 HTTP/1.1\r\nHost: x\r\n\r\n\
         GET /large HTTP/1.1\r\nHost: x\r\n\r\n\
         GET /4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /never",
    );
    assert!(client.answer().body.starts_with("POST /1\n"));
    assert!(client.answer().body.ends_with("\nde"));
    let to_head = client.answer_to_head();
    assert!(to_head.header("Content-Length").is_some_and(|length| length != "0"), "{}", to_head.head);
    assert_eq!(client.answer().body.len(), 100_000);
    let last = client.answer();
    assert_eq!((last.status, last.header("Connection")), (200, Some("close")));
    assert!(client.is_closed());
}

#[test]
fn answers_are_cleaned_up() {
    let room = Room::new(Limits::default());
    let answer = room.client_with("GET / HTTP/1.1\r\nHost: x\r\n\r\n").answer();
    assert_eq!((answer.header("X-Kept"), answer.header("Server")), (Some("yes"), None));
    assert!(answer.header("Content-Length").is_some() && answer.header("Transfer-Encoding").is_none());
    let mut old = room.client_with("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(old.answer().header("Connection"), Some("keep-alive"));
}

#[test]
fn a_waiting_client_is_invited_to_send_its_body() {
    let room = Room::new(Limits::default());
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n";
    let mut client = room.client_with(head);
    assert_eq!(client.answer().status, 100);
    client.send("abc");
    let answer = client.answer();
    assert!(answer.status == 200 && answer.body.ends_with("\nabc"), "{}", answer.body);
    assert!(!answer.body.contains("Expect"), "{}", answer.body);
    client.send(format!("{head}abc"));
    assert_eq!(client.answer().status, 200, "a body that is already here needs no invitation");
}

#[test]
fn the_peer_comes_from_the_socket_or_from_a_trusted_proxy() {
    let raw = "GET / HTTP/1.1\r\nHost: x\r\nX-Deskspool-Peer: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
    let room = Room::new(Limits::default());
    let body = room.client_with(raw).answer().body;
    assert!(body.contains("X-Deskspool-Peer: 127.0.0.1\n") && !body.contains("6.6.6.6"), "{body}");
    let trusting = Gate::start(GateConfig {
        listeners: vec![bind("server.listen", "127.0.0.1:0").unwrap()],
        upstream: room.upstream(),
        limits: Limits::default(),
        trusted_proxies: vec![IpAddr::from([127, 0, 0, 1])],
        identity: None,
    });
    let trusting = trusting.unwrap();
    let mut client = super::room::Client::connect(trusting.addresses()[0]);
    client.send(raw);
    let body = client.answer().body;
    assert!(body.contains("X-Deskspool-Peer: 1.2.3.4\n"), "{body}");
}

/// Pieces of requests, so that random bytes get past the first line.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"POST / HTTP/1.1\r\nHost: x\r\n".to_vec()),
        Just(b"GET http://a/b?c HTTP/1.0\r\n".to_vec()),
        Just(b"Content-Length: 3\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"Connection: close, x\r\n".to_vec()),
        Just(b"X: y\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        "[ -~]{0,12}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// What passes the parser has one canonical form, and that form passes unchanged.
    #[test]
    fn canonical_requests_stay_as_they_are(raw in pieces()) {
        let Ok(Some(place)) = HeadScan::default().advance(&raw, 16 * 1024) else { return Ok(()) };
        let Ok(head) = Head::parse(&raw[place], 64) else { return Ok(()) };
        let write = |head: &Head<'_>| {
            let mut out = Vec::new();
            canonical::write_head(head, IpAddr::from([192, 0, 2, 7]), &mut out);
            canonical::end_head(3, &mut out);
            out
        };
        let once = write(&head);
        prop_assert!(once.is_ascii());
        prop_assert_eq!(HeadScan::default().advance(&once, 64 * 1024).unwrap(), Some(0..once.len()));
        let again = Head::parse(&once, 70).unwrap();
        prop_assert_eq!(again.framing, crate::gate::request::Framing::Length(3));
        prop_assert_eq!(write(&again).escape_ascii().to_string(), once.escape_ascii().to_string());
    }

    /// How the bytes are cut makes no difference.
    #[test]
    fn a_head_is_found_however_it_arrives(raw in pieces(), cut in 0_usize..200) {
        let whole = HeadScan::default().advance(&raw, 500);
        let mut scan = HeadScan::default();
        let first = scan.advance(&raw[..cut.min(raw.len())], 500);
        let pieced = if matches!(first, Ok(None)) { scan.advance(&raw, 500) } else { first };
        prop_assert_eq!(whole, pieced);
    }

    #[test]
    fn chunks_never_grow(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut body = Vec::new();
        if let Ok(used) = Chunked::new(1000).decode(&raw, &mut body) {
            prop_assert!(body.len() <= used && used <= raw.len());
        }
    }
}
