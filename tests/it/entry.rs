//! Who is let in, what is answered before an event, and bodies that come compressed.

use crate::harness::events::message;
use crate::harness::http::{post, request};
use crate::harness::{Answer, Daemon, PATIENCE, World, sandbox, send};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::hmac::{self, Algorithm, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

const TAKEN: (u16, &str) = (200, "{\"ok\":true}");

fn told(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body.as_str())
}

fn ask(daemon: &Daemon, method: &str, target: &str) -> Answer {
    let raw = request(method, target, &[("Connection", "close")], b"");
    send(daemon.address, &raw).expect("the daemon answers")
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs()
}

/// What a request adds to the path of its source, and its headers.
type Proof = (String, Vec<(&'static str, String)>);

/// A scheme as it is configured, and the proof for a key, a signed time and a body.
struct Scheme {
    verify: &'static str,
    is_timed: bool,
    prove: fn(&str, u64, &str) -> Proof,
}

fn tag(algorithm: Algorithm, key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(algorithm, key), text.as_bytes())
}

fn hex(tag: hmac::Tag) -> String {
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

const SCHEMES: [Scheme; 6] = [
    Scheme {
        verify: "{ scheme = \"path\" }",
        is_timed: false,
        prove: |key, _, _| (format!("/{key}"), Vec::new()),
    },
    Scheme {
        verify: "{ scheme = \"hmac-sha1-base64\", header = \"X-Sign\" }",
        is_timed: false,
        prove: |key, _, body| {
            let signature = STANDARD.encode(tag(HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes(), body));
            (String::new(), vec![("X-Sign", signature)])
        },
    },
    Scheme {
        verify: "{ scheme = \"hmac-sha256-hex\", header = \"X-Sign\", prefix = \"sha256=\", \
                 signed = \"{X-Timestamp}.{body}\" }",
        is_timed: true,
        prove: |key, time, body| {
            let signature = hex(tag(HMAC_SHA256, key.as_bytes(), &format!("{time}.{body}")));
            (
                String::new(),
                vec![("X-Timestamp", time.to_string()), ("X-Sign", format!("sha256={signature}"))],
            )
        },
    },
    Scheme {
        verify: "{ scheme = \"standard-webhooks\", tolerance = \"10m\" }",
        is_timed: true,
        prove: |key, time, body| {
            let key = STANDARD.decode(key).unwrap_or_default();
            let signature = STANDARD.encode(tag(HMAC_SHA256, &key, &format!("m1.{time}.{body}")));
            let headers = vec![
                ("webhook-id", "m1".to_owned()),
                ("webhook-timestamp", time.to_string()),
                ("webhook-signature", format!("v1,AAAA v1,{signature}")),
            ];
            (String::new(), headers)
        },
    },
    Scheme {
        verify: "{ scheme = \"stripe\" }",
        is_timed: true,
        prove: |key, time, body| {
            let signature = hex(tag(HMAC_SHA256, key.as_bytes(), &format!("{time}.{body}")));
            (String::new(), vec![("Stripe-Signature", format!("t={time},v1=00,v1={signature}"))])
        },
    },
    Scheme {
        verify: "{ scheme = \"tidio\" }",
        is_timed: true,
        prove: |key, time, body| {
            let signature = hex(tag(HMAC_SHA256, key.as_bytes(), &format!("{time}_{body}")));
            (String::new(), vec![("X-Tidio-Signature", format!("t={time},s={signature}"))])
        },
    },
];

#[test]
fn signatures_are_good_for_their_body_their_key_and_their_time() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let key = STANDARD.encode("right one");
    for (number, scheme) in SCHEMES.iter().enumerate() {
        let secrets = format!("secret = [\"b3RoZXI=\", \"{key}\"]");
        world.source(
            &format!("s{number}"),
            &format!("preset = \"generic@1\"\n{secrets}\nverify = {}", scheme.verify),
        );
    }
    let daemon = world.start();
    for (number, scheme) in SCHEMES.iter().enumerate() {
        let body = message(&format!("c{number}"), 0);
        let ask = |(path, headers): Proof| {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            post(daemon.address, &format!("/in/s{number}{path}"), &headers, body.as_bytes()).unwrap()
        };
        let now = now_seconds();
        let stranger = STANDARD.encode("wrong one");
        let mut refused = vec![ask((String::new(), Vec::new())), ask((scheme.prove)(&stranger, now, &body))];
        if scheme.is_timed {
            refused.push(ask((scheme.prove)(&key, now - 3600, &body)));
            refused.push(ask((scheme.prove)(&key, now + 3600, &body)));
            refused.push(ask((scheme.prove)(&key, now, "{}")));
        }
        for answer in refused {
            assert_eq!(told(&answer), (401, "unauthorized\n"), "{}", scheme.verify);
        }
        assert_eq!(told(&ask((scheme.prove)(&key, now, &body))), TAKEN, "{}", scheme.verify);
    }
    assert!(
        desk.wait_until(PATIENCE, |state| state.ticket_count() == SCHEMES.len()),
        "not all tickets are there"
    );
    let secrets = [key.as_str(), &STANDARD.encode("wrong one")];
    let shown =
        [daemon.log.all().join("\n"), world.run(&["refused"]).out, world.run(&["queue", "--json"]).out];
    for secret in secrets {
        assert!(shown.iter().all(|text| !text.contains(secret)), "a secret is shown: {shown:?}");
    }
    daemon.stop();
}

#[test]
fn a_signed_form_is_signed_with_the_url_that_the_platform_calls() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.set("server", "public_url", "\"https://hooks.acme.com\"");
    world.source("sms", "preset = \"generic@1\"\nsecret = \"k\"\nverify = { scheme = \"twilio\" }");
    let daemon = world.start();
    let sign = |url: &str| {
        let signed = format!("{url}Bodyhi there!email{}", "ana@example.com");
        STANDARD.encode(tag(HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"k", &signed))
    };
    let ask = |signature: &str| {
        let headers =
            [("Content-Type", "application/x-www-form-urlencoded"), ("X-Twilio-Signature", signature)];
        post(daemon.address, "/in/sms?a=1", &headers, b"email=ana%40example.com&Body=hi+there%21").unwrap()
    };
    assert_eq!(ask(&sign("http://hooks.acme.com/in/sms?a=1")).status, 401);
    // Twilio takes what it gets for something to do.
    assert_eq!(told(&ask(&sign("https://hooks.acme.com/in/sms?a=1"))), (200, ""));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    daemon.stop();
}

#[test]
fn handshakes_are_answered_and_nothing_else_is_told() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let source = "preset = \"generic@1\"\nsecret = \"right\"";
    world.source("meta", &format!("{source}\nverify_token = [\"old-token\", \"new-token\"]"));
    world.source("graph", &format!("{source}\nverify = {{ echo = \"validationToken\", empty_post = true }}"));
    world.source("far", &format!("{source}\nallow = [\"203.0.113.0/24\"]"));
    world.source("near", &format!("{source}\nallow = [\"203.0.113.0/24\", \"127.0.0.0/8\"]"));
    let daemon = world.start();
    let hub = |token: &str| {
        format!("/in/meta?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}")
    };
    let good = ask(&daemon, "GET", &hub("new-token"));
    assert_eq!(told(&good), (200, "1158201444"));
    assert_eq!(good.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(good.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(told(&ask(&daemon, "GET", &hub("old-token"))), (200, "1158201444"));
    assert_eq!(told(&ask(&daemon, "GET", &hub("nope"))), (403, "forbidden\n"));
    assert_eq!(told(&ask(&daemon, "GET", "/in/meta")), (200, "deskspool: POST events here\n"));
    let echo = "/in/graph?validationToken=Validation%3a+T1";
    assert_eq!(told(&ask(&daemon, "POST", echo)), (200, "Validation: T1"));
    assert_eq!(told(&ask(&daemon, "GET", echo)), (200, "Validation: T1"));
    assert_eq!(ask(&daemon, "GET", "/in/graph?validationToken=%3Cb%3E%0A").status, 403);
    assert_eq!(told(&ask(&daemon, "POST", "/in/graph")), TAKEN);
    assert_eq!(told(&ask(&daemon, "POST", "/in/meta")), (401, "unauthorized\n"));
    assert_eq!(daemon.post("/in/graph", "wrong", &message("ana", 0)).status, 401);
    assert_eq!(told(&daemon.post("/in/far", "right", &message("ana", 0))), (403, "forbidden\n"));
    assert_eq!(told(&daemon.post("/in/near", "right", &message("ana", 0))), TAKEN);
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    assert_eq!(world.queue("queued,deferred,held,dead").len(), 0, "nothing else is stored");
    daemon.stop();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn compressed_bodies_are_read_and_bombs_are_not() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().set("server", "body_max", "\"100KiB\"");
    let daemon = world.start();
    let ask = |coding: &str, body: &[u8]| {
        let headers = [("Authorization", "chat-secret"), ("Content-Encoding", coding)];
        post(daemon.address, "/in/chat", &headers, body).unwrap()
    };
    let whole = gzip(message("ana", 0).as_bytes());
    assert_eq!(told(&ask("gzip", &whole)), TAKEN);
    let bomb = gzip(&vec![b' '; 5 << 20]);
    assert!(bomb.len() < 100 << 10);
    assert_eq!(told(&ask("gzip", &bomb)), (413, "the body is too large\n"));
    assert_eq!(world.queue("dead").len(), 0, "a bomb is not kept");
    assert_eq!(told(&ask("gzip", &whole[..whole.len() - 4])), (400, "the compressed body is broken\n"));
    assert_eq!(told(&ask("br", &[0x0b, 2, 0x80, 9])), (415, "send it plain, or as gzip or deflate\n"));
    let dead =
        daemon.eventually("two dead letters", || Some(world.queue("dead")).filter(|dead| dead.len() == 2));
    let mut reasons: Vec<&str> = dead.iter().filter_map(|letter| letter["last_error"].as_str()).collect();
    reasons.sort_unstable();
    let expect = [
        "compressed in a way we do not read: we read gzip and deflate",
        "the gzip stream is broken or cut short",
    ];
    assert_eq!(reasons, expect);
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    daemon.stop();
}
