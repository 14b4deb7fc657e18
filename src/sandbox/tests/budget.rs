//! The account's budget over real connections, with a clock that the test moves.

use super::client::{AUTHORIZATION, Reply};
use super::{Options, start};
use crate::sandbox::{Knobs, Plan};
use serde_json::json;
use std::time::Duration;

fn budget(reply: &Reply) -> (u16, &str, &str, &str) {
    let header = |name: &str| reply.header(name).unwrap_or("none");
    (reply.status, header("X-Ratelimit-Total"), header("X-Ratelimit-Remaining"), header("Retry-After"))
}

#[test]
fn a_spent_budget_comes_back_after_the_window() {
    let (desk, client, clock) = start(Options { plan: Plan::flat("test", 3), ..Options::default() });
    assert_eq!(budget(&client.get("/api/v2/agents/me")), (200, "3", "2", "none"));
    assert_eq!(
        budget(&client.post("/api/v2/tickets", &json!({}))),
        (400, "3", "1", "none"),
        "invalid ones count"
    );
    let wrong = "GET /api/v2/agents/me HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(budget(&client.raw(wrong.as_bytes()).unwrap()), (401, "3", "0", "none"), "refused keys count");
    clock.advance(Duration::from_millis(29_500));
    let refused =
        client.post("/api/v2/tickets", &json!({"email": "a@b.example", "subject": "s", "description": "d"}));
    assert_eq!(budget(&refused), (429, "3", "0", "31"));
    assert!(refused.json()["message"].is_string());
    assert!(desk.tickets().is_empty(), "what is refused is not done");
    clock.advance(Duration::from_millis(30_500));
    assert_eq!(budget(&client.get("/api/v2/agents/me")), (200, "3", "2", "none"));
}

#[test]
fn lists_are_scarce_on_the_growth_plan() {
    let (_desk, client, clock) = start(Options { plan: Plan::GROWTH, ..Options::default() });
    for _ in 0..20 {
        assert_eq!(client.get("/api/v2/tickets").status, 200);
    }
    assert_eq!(
        budget(&client.get("/api/v2/tickets")),
        (429, "200", "180", "60"),
        "there is budget, but not for lists"
    );
    assert_eq!(client.get("/api/v2/contacts").status, 200);
    clock.advance(Duration::from_secs(60));
    assert_eq!(client.get("/api/v2/tickets").status, 200);
}

#[test]
fn what_is_embedded_costs_more() {
    let (_desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    let cost = |path: &str| client.get(path).header("X-Ratelimit-Used-CurrentRequest").unwrap().to_owned();
    assert_eq!(cost("/api/v2/tickets"), "1");
    assert_eq!(cost("/api/v2/tickets?include=description"), "3");
    assert_eq!(cost("/api/v2/tickets?include=description,requester"), "5");
    assert_eq!(cost("/api/v2/tickets/1?include=conversations"), "2");
}

#[test]
fn knobs_say_what_is_charged() {
    let knobs =
        Knobs { used_by_others: 1, count_unauthorized: false, count_rejected_429: true, ..Knobs::default() };
    let (_desk, client, _) = start(Options { plan: Plan::flat("test", 2), knobs, ..Options::default() });
    let anonymous = AUTHORIZATION.replace("c2Fu", "c2Fv");
    let text = format!("GET /api/v2/agents/me HTTP/1.1\r\nHost: x\r\n{anonymous}\r\n");
    for _ in 0..3 {
        assert_eq!(client.raw(text.as_bytes()).unwrap().status, 401);
    }
    assert_eq!(client.get("/api/v2/agents/me").status, 200);
    assert_eq!(client.get("/api/v2/agents/me").status, 429);
}
