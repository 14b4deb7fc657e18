//! Secrets and customers stay out of the log, of `status` and of the reasons in `queue`.

use crate::harness::http::post;
use crate::harness::{PATIENCE, World, sandbox};
use deskspool::sandbox::{Effect, Fault, FaultBody};

const SECRETS: [&str; 4] = ["canary-secret-k7", "canary-token-k7", "canary-wrong-k7", "canary-api-key-k7"];
const CUSTOMER: [&str; 6] = [
    "canary.mail",
    "Canaria Quietly",
    "canary text of a customer",
    "+573009998877",
    "canary subject line",
    "canary-broken-body",
];

/// Everything that can be said about requests of any kind, said once.
fn provoke(variables: &[(&str, &str)]) {
    let desk = sandbox();
    desk.set_key(SECRETS[3]);
    let mut world = World::new(&desk);
    world.set("freshdesk", "api_key", &format!("{:?}", SECRETS[3]));
    world.source("chat", &format!("preset = \"generic@1\"\nsecret = {:?}", SECRETS[0]));
    let refused = "ticket = { type = \"Nothing we have\" }";
    world.source("broken", &format!("preset = \"generic@1\"\nsecret = {:?}\n{refused}", SECRETS[0]));
    world.source("pulse", &format!("preset = \"sendpulse@1\"\nsecret = {:?}", SECRETS[1]));
    let daemon = world.start_with(variables, None);
    let event = |id: &str| {
        serde_json::json!({
            "event_id": id, "conversation_id": "thread-1", "name": CUSTOMER[1], "phone": CUSTOMER[3],
            "email": format!("{}@example.com", CUSTOMER[0]), "text": CUSTOMER[2], "subject": CUSTOMER[4],
        })
        .to_string()
    };
    let ask = |target: &str, authorization: &str, body: &str| {
        let headers = [("Authorization", authorization), ("Content-Type", "application/json")];
        post(daemon.address, target, &headers, body.as_bytes()).expect("the daemon answers").status
    };
    // One envelope meets an error that quotes, one is lost and looked for, one is refused for good.
    let error = |status| Effect::Status { status, body: FaultBody::Json, retry_after: None, commit: false };
    desk.add_fault(Fault::new(error(400)).on("POST", "/api/v2/tickets/*/notes").times(1));
    desk.add_fault(Fault::new(Effect::CommitThenReset).on("POST", "/api/v2/tickets").times(1));
    assert_eq!(ask("/in/chat", SECRETS[0], &event("e1")), 200);
    assert_eq!(ask("/in/chat", SECRETS[0], &event("e1")), 200);
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    assert_eq!(ask("/in/chat", SECRETS[0], &event("e2")), 200);
    assert_eq!(ask("/in/chat", SECRETS[0], &event("e3")), 200);
    assert_eq!(ask("/in/chat", SECRETS[2], &event("e4")), 401);
    assert_eq!(ask(&format!("/in/pulse?token={}", SECRETS[2]), "", "[]"), 401);
    assert_eq!(ask(&format!("/in/pulse?token={}", SECRETS[1]), "", "[]"), 200);
    assert_eq!(ask(&format!("/in/nobody?token={}", SECRETS[1]), "", "[]"), 404);
    assert_eq!(ask("/in/chat", SECRETS[0], &format!("{{\"{}\": ", CUSTOMER[5])), 200);
    assert_eq!(ask("/in/broken", SECRETS[0], &event("e5")), 200);
    daemon.eventually("three dead letters and two delivered", || {
        (world.queue("dead").len() == 3 && world.queue("delivered").len() == 2).then_some(())
    });
    desk.set_down(true).expect("its port can be closed");
    assert_eq!(ask("/in/chat", SECRETS[0], &event("e6")), 200);
    daemon.wait_for("freshdesk still fails");
    assert_eq!(world.run(&["reload"]).code, 0);
    let waiting = world.queue("queued,deferred,in-flight,dead");
    let reasons: String = waiting.iter().map(|row| format!("{}\n", row["last_error"])).collect();
    let status = world.run(&["status"]).out + &world.run(&["status", "--json"]).out;
    let log = daemon.log.clone();
    daemon.stop();
    let said = [("the log", log.all().join("\n")), ("status", status), ("a reason", reasons)];
    for (where_to, text) in said {
        let without_case = text.to_lowercase();
        for canary in SECRETS.iter().chain(&CUSTOMER) {
            let line = without_case.lines().find(|line| line.contains(&canary.to_lowercase()));
            assert_eq!(line, None, "{canary:?} is in {where_to} with {variables:?}");
        }
    }
}

#[test]
fn nothing_of_customers_or_secrets_is_logged() {
    provoke(&[]);
}

#[test]
fn nothing_of_customers_or_secrets_is_logged_at_debug() {
    provoke(&[("DESKSPOOL_LOG", "debug")]);
}

#[test]
fn nothing_of_customers_or_secrets_is_logged_at_trace() {
    provoke(&[("DESKSPOOL_LOG", "trace")]);
}
