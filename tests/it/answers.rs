//! What platforms are told (interface.md §10).

use crate::harness::events::message;
use crate::harness::http::{post, request};
use crate::harness::{Answer, Daemon, PATIENCE, World, sandbox, send};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

const OUTGOING: &str = include_str!("../corpus/sendpulse/outgoing-lone.http");

fn told(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body.as_str())
}

const TAKEN: (u16, &str) = (200, "{\"ok\":true}");

fn ask(daemon: &Daemon, method: &str, target: &str) -> Answer {
    let headers = [("Authorization", "chat-secret"), ("Connection", "close")];
    send(daemon.address, &request(method, target, &headers, b"")).expect("the daemon answers")
}

#[test]
fn stored_duplicate_and_filtered_are_one_answer() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().source("sendpulse", "preset = \"sendpulse@1\"\nsecret = \"pulse-token\"");
    let daemon = world.start();
    let stored = daemon.post("/in/chat", "chat-secret", &message("ana", 0));
    let duplicate = daemon.post("/in/chat", "chat-secret", &message("ana", 0));
    let outgoing = OUTGOING.split_once("\r\n\r\n").unwrap().1;
    let filtered = daemon.post("/in/sendpulse?token=pulse-token", "", outgoing);
    assert_eq!(told(&stored), TAKEN);
    assert_eq!((told(&duplicate), &duplicate.headers.len()), (TAKEN, &stored.headers.len()));
    assert_eq!((told(&filtered), &filtered.headers.len()), (TAKEN, &stored.headers.len()));
    let status: serde_json::Value = serde_json::from_str(&world.run(&["status", "--json"]).out).unwrap();
    let counts = |index: usize, name: &str| status["sources"][index][name].as_u64();
    assert_eq!((counts(0, "accepted"), counts(0, "duplicate")), (Some(1), Some(1)), "{status}");
    assert_eq!((counts(1, "accepted"), counts(1, "filtered")), (Some(0), Some(1)), "{status}");
    daemon.stop();
}

#[test]
fn targets_and_methods() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().set("server", "body_max", "\"1KiB\"");
    let daemon = world.start();
    assert_eq!(told(&ask(&daemon, "GET", "/in/chat")), (200, "deskspool: POST events here\n"));
    for target in ["/in/nobody", "/", "/in/", "/in/chat/a/b", "/status"] {
        assert_eq!(ask(&daemon, "GET", target).status, 404, "{target}");
    }
    assert_eq!(daemon.post("/in/nobody", "chat-secret", "{}").status, 404);
    for method in ["PUT", "DELETE", "PATCH"] {
        let answer = ask(&daemon, method, "/in/chat");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, GET, HEAD")), "{method}");
    }
    let large = format!("{{\"text\": \"{}\"}}", "x".repeat(2000));
    assert_eq!(daemon.post("/in/chat", "chat-secret", &large).status, 413);
    assert_eq!(world.queue("queued,deferred,in-flight,held,dead,delivered"), [serde_json::Value::Null; 0]);
    daemon.stop();
}

/// What a request adds to the URL and to its headers to prove itself.
type Proof = (String, Vec<(&'static str, String)>);

/// A scheme as it is configured, and the proof for a secret and a body.
struct Scheme {
    verify: &'static str,
    prove: fn(&str, &[u8]) -> Proof,
}

fn tag(secret: &str, body: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body)
}

const SCHEMES: &[Scheme] = &[
    Scheme {
        verify: "{ scheme = \"header\", header = \"x-key\" }",
        prove: |secret, _| (String::new(), vec![("X-Key", secret.to_owned())]),
    },
    Scheme {
        verify: "{ scheme = \"bearer\" }",
        prove: |secret, _| (String::new(), vec![("Authorization", format!("Bearer {secret}"))]),
    },
    Scheme {
        verify: "{ scheme = \"basic\", user = \"hook\" }",
        prove: |secret, _| {
            let pair = STANDARD.encode(format!("hook:{secret}"));
            (String::new(), vec![("Authorization", format!("Basic {pair}"))])
        },
    },
    Scheme {
        verify: "{ scheme = \"query\", name = \"token\" }",
        prove: |secret, _| (format!("?token={secret}"), Vec::new()),
    },
    Scheme {
        verify: "{ scheme = \"hmac-sha256-hex\", header = \"x-sign\", prefix = \"sha256=\" }",
        prove: |secret, body| {
            let hex: String = tag(secret, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            (String::new(), vec![("X-Sign", format!("sha256={hex}"))])
        },
    },
    Scheme {
        verify: "{ scheme = \"hmac-sha256-base64\", header = \"x-sign\" }",
        prove: |secret, body| (String::new(), vec![("X-Sign", STANDARD.encode(tag(secret, body)))]),
    },
];

#[test]
fn every_scheme_takes_the_secret_and_nothing_else() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    for (number, scheme) in SCHEMES.iter().enumerate() {
        let lines = format!("preset = \"generic@1\"\nsecret = \"right-one\"\nverify = {}", scheme.verify);
        world.source(&format!("s{number}"), &lines);
    }
    let daemon = world.start();
    for (number, scheme) in SCHEMES.iter().enumerate() {
        let body = message(&format!("c{number}"), 0);
        let ask = |proof: &Proof| {
            let headers: Vec<_> = proof.1.iter().map(|(name, value)| (*name, value.as_str())).collect();
            post(daemon.address, &format!("/in/s{number}{}", proof.0), &headers, body.as_bytes()).unwrap()
        };
        let missing = ask(&(String::new(), Vec::new()));
        let wrong = ask(&(scheme.prove)("wrong-one", body.as_bytes()));
        let empty = ask(&(scheme.prove)("", body.as_bytes()));
        for answer in [missing, wrong, empty] {
            assert_eq!(told(&answer), (401, "unauthorized\n"), "{}", scheme.verify);
        }
        assert_eq!(told(&ask(&(scheme.prove)("right-one", body.as_bytes()))), TAKEN, "{}", scheme.verify);
    }
    let all = SCHEMES.len();
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == all), "not all that proved themselves");
    assert_eq!(world.queue("queued,deferred,held,dead").len(), 0, "nothing else is stored");
    daemon.stop();
}

#[test]
fn a_body_that_is_not_json_is_taken_and_dead() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat();
    let daemon = world.start();
    assert_eq!(told(&daemon.post("/in/chat", "chat-secret", "{\"email\": ")), TAKEN);
    let letters =
        daemon.eventually("a dead letter", || Some(world.queue("dead")).filter(|dead| dead.len() == 1));
    let why = letters[0]["last_error"].as_str().unwrap();
    assert!(why.starts_with("not JSON"), "{why}");
    let text = world.run(&["queue", "--state", "dead"]);
    assert!(text.out.contains("not JSON"), "{}", text.out);
    // Without the secret it is not even looked at.
    assert_eq!(daemon.post("/in/chat", "wrong", "{\"email\": ").status, 401);
    assert_eq!(world.queue("dead").len(), 1);
    daemon.stop();
}

fn refused_for_now(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    let seconds = answer.header("retry-after").and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{answer:?}");
}

#[test]
fn a_full_spool_says_come_again_and_takes_a_request_whole_or_not_at_all() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().set("spool", "envelopes_max", "3");
    let daemon = world.start();
    desk.set_down(true).unwrap();
    let list = |names: &[&str]| {
        let events: Vec<String> = names.iter().map(|name| message(name, 0)).collect();
        format!("[{}]", events.join(","))
    };
    daemon.chat(&list(&["a1", "a2"]));
    assert_eq!(world.queue("queued,deferred,in-flight").len(), 2, "a list is split");
    // Two do not fit, so not one of them is taken.
    refused_for_now(&daemon.post("/in/chat", "chat-secret", &list(&["b1", "b2"])));
    daemon.chat(&message("c1", 0));
    refused_for_now(&daemon.post("/in/chat", "chat-secret", &message("d1", 0)));
    let status = world.run(&["status"]);
    assert!(status.code == 1 && status.out.contains("spool full"), "{}", status.out);
    desk.set_down(false).unwrap();
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 3), "what was taken is delivered");
    // The platforms come again.
    let taken = || daemon.post("/in/chat", "chat-secret", &list(&["b1", "b2"])).status == 200;
    daemon.eventually("room again", || taken().then_some(()));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 5), "all is delivered");
    daemon.stop();
}

#[test]
fn a_disk_that_is_nearly_full_says_come_again() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().set("spool", "disk_free_min", "\"1000000GiB\"");
    let daemon = world.start();
    refused_for_now(&daemon.post("/in/chat", "chat-secret", &message("ana", 0)));
    let status = world.run(&["status"]);
    assert!(status.code == 1 && status.out.contains("disk low"), "{}", status.out);
    world.set("spool", "disk_free_min", "\"1MiB\"").write();
    assert_eq!(world.run(&["reload"]).code, 0);
    daemon.chat(&message("ana", 0));
    daemon.stop();
}
