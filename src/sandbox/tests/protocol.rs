//! Keys, media types, methods, framing.

use super::client::{AUTHORIZATION, read_reply, request};
use super::{Options, start};
use serde_json::json;
use std::io::Write;

#[test]
fn the_key_is_the_user_and_any_password_will_do() {
    let (desk, client, _) = start(Options::default());
    let check = |authorization: &str, expect: u16| {
        let text = format!("GET /api/v2/agents/me HTTP/1.1\r\nHost: x\r\n{authorization}\r\n");
        let reply = client.raw(text.as_bytes()).unwrap();
        assert_eq!(reply.status, expect, "{authorization}");
        if expect == 401 {
            let body = json!({"code": "invalid_credentials", "message": "You have to be logged in to perform this action."});
            assert_eq!(reply.json(), body);
        }
    };
    check(AUTHORIZATION, 200);
    check("Authorization: basic c2FuZGJveC1rZXk6c2VjcmV0\r\n", 200);
    check("", 401);
    check("Authorization: Basic b3RoZXItLS1rZXk6WA==\r\n", 401);
    check("Authorization: Basic ?\r\n", 401);
    check("Authorization: Bearer sandbox-key\r\n", 401);
    desk.set_key("rotated");
    check(AUTHORIZATION, 401);
    check("Authorization: Basic cm90YXRlZDpY\r\n", 200);
}

#[test]
fn the_probe_says_whose_key_it_is() {
    let (_desk, client, _) = start(Options::default());
    let me = client.get("/api/v2/agents/me").json();
    assert_eq!((&me["contact"]["name"], &me["ticket_scope"]), (&json!("Integrations"), &json!(1)));
}

#[test]
fn media_types_methods_and_places_are_checked() {
    let (_desk, client, _) = start(Options::default());
    let check = |method: &str, path: &str, headers: &str, body: &str, expect: (u16, &str)| {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}{headers}Content-Length: {length}\r\n"
        );
        let reply = client.raw(format!("{head}\r\n{body}").as_bytes()).unwrap();
        assert_eq!((reply.status, reply.body.contains(expect.1)), (expect.0, true), "{reply:?}");
    };
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    check("POST", "/api/v2/tickets", "Content-Type: text/plain\r\n", "{}", (415, "invalid_content_type"));
    check("POST", "/api/v2/tickets", json, "{", (400, "invalid_json"));
    check("POST", "/api/v2/tickets", json, "[]", (400, "invalid_json"));
    check("GET", "/api/v2/tickets", "Accept: text/html\r\n", "", (406, "invalid_accept"));
    check("GET", "/api/v2/tickets", "Accept: text/html, */*;q=0.5\r\n", "", (200, "[]"));
    check("GET", "/api/v2/tickets", json, "{}", (400, "no_content_required"));
    let text = "PUT method is not allowed. It should be one of these method(s): GET,POST";
    check("PUT", "/api/v2/tickets", json, "{}", (405, text));
    check("GET", "/api/v2/tickets/1/notes", "", "", (405, "It should be one of these method(s): POST"));
    check("GET", "/api/v2/nothing", "", "", (404, ""));
    check("GET", "/api/v1/tickets", "", "", (404, ""));
}

#[test]
fn not_found_has_no_body() {
    let (_desk, client, _) = start(Options::default());
    for path in ["/api/v2/tickets/77", "/api/v2/contacts/77", "/api/v2/nothing"] {
        let reply = client.get(path);
        assert_eq!(
            (reply.status, reply.body.as_str(), reply.header("Content-Type")),
            (404, "", None),
            "{path}"
        );
    }
}

#[test]
fn answers_carry_the_headers_seen_live() {
    let (_desk, client, _) = start(Options::default());
    let reply = client.get("/api/v2/ticket_fields");
    assert_eq!(reply.header("Content-Type"), Some("application/json; charset=utf-8"));
    assert_eq!(reply.header("Transfer-Encoding"), Some("chunked"));
    assert_eq!(reply.header("X-Freshdesk-Api-Version"), Some("latest=v2; requested=v2"));
    let ids = [reply.header("X-Request-ID").unwrap().to_owned()];
    assert_ne!(client.get("/api/v2/groups").header("X-Request-ID"), Some(ids[0].as_str()));
}

#[test]
fn a_connection_carries_many_calls() {
    let (_desk, client, _) = start(Options::default());
    let mut stream = client.connect().unwrap();
    for expect in 1..=3 {
        let body = json!({"email": "ana@acme.example", "subject": "s", "description": "d"});
        stream.write_all(&request("POST", "/api/v2/tickets", Some(&body))).unwrap();
        assert_eq!(read_reply(&mut stream).unwrap().json()["id"], json!(expect));
    }
}

#[test]
fn bodies_may_come_in_chunks_and_after_a_hundred() {
    let (desk, client, _) = start(Options::default());
    let head = format!(
        "POST /api/v2/tickets HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}Content-Type: application/json\r\n"
    );
    let (one, two) = (r#"{"email":"ana@acme.example","#, r#""subject":"s","description":"d"}"#);
    let chunks = format!("{:x}\r\n{one}\r\n{:X};x=y\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    let reply = client.raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}").as_bytes()).unwrap();
    assert_eq!(reply.status, 201);
    let mut stream = client.connect().unwrap();
    let length = one.len() + two.len();
    let head = format!("{head}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream).unwrap().status, 100);
    stream.write_all(format!("{one}{two}").as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream).unwrap().status, 201);
    assert_eq!(desk.tickets().len(), 2);
}

#[test]
fn doubtful_framing_ends_the_connection() {
    let (desk, client, _) = start(Options { body_max_bytes: 1000, ..Options::default() });
    let check = |headers: &str, expect: u16| {
        let head = format!("POST /api/v2/tickets HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}");
        let reply = client.raw(format!("{head}{headers}\r\n").as_bytes()).unwrap();
        assert_eq!((reply.status, reply.header("Connection")), (expect, Some("close")), "{headers}");
    };
    check("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400);
    check("Content-Length: 1\r\nContent-Length: 1\r\n", 400);
    check("Content-Length: +1\r\n", 400);
    check("Content-Length: 1001\r\n", 413);
    check("Content-Length: 99999999999999999999999\r\n", 413);
    check(&format!("X: {}\r\n", "x".repeat(20_000)), 431);
    let reply = client.raw(b"\x16\x03\x01 nonsense\r\n\r\n").unwrap();
    assert_eq!(reply.status, 400);
    assert!(desk.requests().is_empty());
}

#[test]
fn connections_are_bounded() {
    let (desk, client, _) = start(Options { connections_max: 2, ..Options::default() });
    let held = [client.connect().unwrap(), client.connect().unwrap()];
    assert!(desk.wait_until(std::time::Duration::from_secs(20), |state| state.connections == 2));
    assert!(client.try_call("GET", "/api/v2/agents/me", None).is_err());
    drop(held);
    assert!(desk.wait_until(std::time::Duration::from_secs(20), |state| state.connections == 0));
    assert_eq!(client.get("/api/v2/agents/me").status, 200);
}

#[test]
fn stopping_ends_everything() {
    let (mut desk, client, _) = start(Options::default());
    let mut idle = client.connect().unwrap();
    idle.write_all(b"GET /api").unwrap();
    assert!(desk.wait_until(std::time::Duration::from_secs(20), |state| state.connections == 1));
    desk.stop();
    assert!(read_reply(&mut idle).is_err());
    assert!(client.connect().is_err());
    assert!(desk.wait_until(std::time::Duration::ZERO, |state| state.connections == 0));
}
