//! The control path, on the API's port and on its own.

use super::{Client, Options, start};
use serde_json::json;

#[test]
fn faults_and_knobs_are_scripted_over_http() {
    let (desk, client, _) = start(Options::default());
    let fault = json!({"effect": "status", "status": 503, "times": 1});
    assert_eq!(client.post("/_sandbox/faults", &fault).json(), json!({"faults": 1}));
    assert_eq!(client.get("/api/v2/agents/me").status, 503);
    assert_eq!(client.get("/api/v2/agents/me").status, 200);
    assert_eq!(client.get("/_sandbox/faults").json(), json!([{"effect": "status", "seen": 2, "hits": 1}]));
    assert_eq!(client.delete("/_sandbox/faults").status, 204);
    assert_eq!(client.get("/_sandbox/faults").json(), json!([]));
    let refused = client.post("/_sandbox/faults", &json!({"effect": "explode"}));
    assert!(refused.status == 400 && refused.body.contains("commit_then_reset"), "{refused:?}");
    assert_eq!(client.post("/_sandbox/knobs", &json!({"list_delay_s": 9})).json()["list_delay_s"], json!(9));
    assert_eq!(client.get("/_sandbox/knobs").json()["list_delay_s"], json!(9));
    assert_eq!(client.post("/_sandbox/knobs", &json!({"x": 9})).status, 400);
    assert_eq!(client.post("/_sandbox/key", &json!({"key": "other"})).status, 204);
    assert_eq!(client.get("/api/v2/agents/me").status, 401);
    assert_eq!(client.get("/_sandbox/nothing").status, 404);
    assert!(desk.requests().iter().all(|call| call.path.starts_with("/api/")), "only the API is logged");
}

#[test]
fn state_and_requests_can_be_read() {
    let (desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    client.post("/api/v2/tickets/1/notes?x=1", &json!({"body": "n"}));
    let state = client.get("/_sandbox/state").json();
    assert_eq!(state["tickets"][0]["notes"][0]["body_text"], json!("n"));
    assert_eq!(state["tickets"][0]["requester"]["email"], json!("ana@acme.example"));
    assert_eq!(state["contacts"][0]["name"], json!("ana"));
    let log = client.get("/_sandbox/requests").json();
    let expect = json!({
        "at_ms": super::NOW.0, "method": "POST", "path": "/api/v2/tickets/1/notes", "status": 201, "fault": null,
    });
    assert_eq!(log[1], expect);
    let contact = desk.contacts()[0].id;
    assert_eq!(client.post("/_sandbox/tickets/1", &json!({"spam": true, "deleted": true})).status, 204);
    assert_eq!(client.post(&format!("/_sandbox/contacts/{contact}"), &json!({"blocked": true})).status, 204);
    let (ticket, contact) = (&desk.tickets()[0], &desk.contacts()[0]);
    assert!(ticket.spam && ticket.deleted && contact.blocked && !contact.deleted);
    assert_eq!(client.post("/_sandbox/tickets/1", &json!({"solved": true})).status, 400);
    assert_eq!(client.post("/_sandbox/tickets/9", &json!({"spam": true})).status, 404);
}

#[test]
fn the_control_port_stays_up() {
    let (desk, client, _) = start(Options { control_port: Some(0), ..Options::default() });
    let control = Client { address: desk.control_address().unwrap() };
    assert_eq!(client.post("/_sandbox/down", &json!({"down": true})).status, 409, "it would cut itself off");
    assert_eq!(control.post("/_sandbox/down", &json!({"down": true})).status, 204);
    assert!(client.try_call("GET", "/api/v2/agents/me", None).is_err());
    assert!(control.get("/").body.contains("API is down"));
    assert_eq!(control.get("/api/v2/agents/me").status, 404, "it is no API");
    assert_eq!(control.post("/_sandbox/down", &json!({"down": false})).status, 204);
    assert_eq!(client.get("/api/v2/agents/me").status, 200);
    assert_eq!(control.post("/_sandbox/down", &json!({})).status, 400);
}

#[test]
fn pages_of_the_internet_cannot_reach_it() {
    let (_desk, client, _) = start(Options::default());
    for path in ["/", "/_sandbox/state"] {
        let text = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        assert_eq!(client.raw(text.as_bytes()).unwrap().status, 421, "{path}");
    }
}
