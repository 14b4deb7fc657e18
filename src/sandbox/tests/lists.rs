//! Finding tickets: the list, its filters and pages, and the search.

use super::{Client, Options, start};
use crate::sandbox::{Knobs, UnknownRequester};
use serde_json::{Value, json};
use std::time::Duration;

/// The subjects of a list.
fn subjects(client: &Client, query: &str) -> Vec<String> {
    let reply = client.get(&format!("/api/v2/tickets{query}"));
    let rows = reply.json();
    let rows = rows.as_array().unwrap_or_else(|| panic!("{query}: {reply:?}"));
    rows.iter().map(|row| row["subject"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn filters_pick_tickets() {
    let (desk, client, clock) = start(Options::default());
    client.ticket("ana@acme.example", "a1");
    clock.advance(Duration::from_secs(60));
    client.ticket("luis@acme.example", "l1");
    clock.advance(Duration::from_secs(60));
    client.ticket("ana@acme.example", "a2");
    let external = json!({"unique_external_id": "x:1", "subject": "x1", "description": "d"});
    client.post("/api/v2/tickets", &external);
    client.put("/api/v2/tickets/2", &json!({"responder_id": 51_000_000_002_u64}));
    let ana = desk.contacts()[0].id;
    let check = |query: &str, expect: &[&str]| assert_eq!(subjects(&client, query), expect, "{query}");
    check("", &["x1", "a2", "l1", "a1"]);
    check("?email=ANA@acme.example", &["a2", "a1"]);
    check(&format!("?requester_id={ana}&order_type=asc"), &["a1", "a2"]);
    check("?unique_external_id=x:1", &["x1"]);
    check(&format!("?requester_id={ana}&email=luis@acme.example"), &[]);
    check("?filter=new_and_my_open", &["x1", "a2", "a1"]);
    check("?filter=watching", &[]);
    check("?updated_since=2026-11-21T08:02:14Z&order_by=updated_at", &["x1", "a2", "l1"]);
    check("?updated_since=2026-11-21T10:03:13%2B02:00", &["x1", "a2", "l1"]);
    check("?order_by=status&order_type=asc&per_page=1", &["a1"]);
    check("?company_id=51000000801", &[]);
}

#[test]
fn wrong_queries_are_refused() {
    let (_desk, client, _) = start(Options::default());
    let check = |query: &str, expect: &[&str]| {
        assert_eq!(client.get(&format!("/api/v2/tickets{query}")).errors(), expect, "{query}");
    };
    check("?status=2", &["status invalid_field"]);
    check("?page=301", &["page invalid_value"]);
    check("?page=0&per_page=101", &["page datatype_mismatch", "per_page invalid_value"]);
    check("?order_by=id", &["order_by invalid_value"]);
    check("?filter=open", &["filter invalid_value"]);
    check("?include=tags", &["include invalid_value"]);
    check("?updated_since=now", &["updated_since invalid_value"]);
    check("?requester_id=ana", &["requester_id datatype_mismatch"]);
}

#[test]
fn nobody_is_an_error_or_an_empty_list() {
    let (desk, client, _) = start(Options::default());
    for query in ["email=no@acme.example", "unique_external_id=x", "requester_id=7"] {
        let name = query.split('=').next().unwrap();
        let reply = client.get(&format!("/api/v2/tickets?{query}"));
        assert_eq!(reply.errors(), [format!("{name} invalid_value")]);
        assert!(reply.body.contains(&format!("There is no contact matching the given {name}")));
    }
    desk.set_knobs(Knobs { unknown_requester_filter: UnknownRequester::Empty, ..Knobs::default() });
    assert_eq!(client.get("/api/v2/tickets?email=no@acme.example").json(), json!([]));
}

#[test]
fn pages_lead_to_the_next_one() {
    let (desk, client, _) = start(Options::default());
    for number in 1..=5 {
        client.ticket("ana@acme.example", &format!("t{number}"));
    }
    let mut path = "/api/v2/tickets?email=ana%40acme.example&per_page=2&order_type=asc".to_owned();
    let mut seen = Vec::new();
    loop {
        let reply = client.get(&path);
        seen.push(reply.json().as_array().unwrap().len());
        let Some(link) = reply.header("Link") else { break };
        let next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
        path = next.strip_prefix(&desk.url()).unwrap().to_owned();
    }
    assert_eq!(seen, [2, 2, 1]);
    assert!(path.contains("page=3") && path.contains("email=ana%40acme.example"), "{path}");
    assert_eq!(subjects(&client, "?page=9"), [""; 0]);
    for number in 6..=31 {
        client.ticket("ana@acme.example", &format!("t{number}"));
    }
    assert_eq!(subjects(&client, "").len(), 30, "the default page");
}

#[test]
fn spam_deleted_and_old_tickets_are_hidden() {
    let (desk, client, clock) = start(Options::default());
    client.ticket("ana@acme.example", "old");
    clock.advance(Duration::from_secs(31 * 86_400));
    for subject in ["spam", "gone", "new"] {
        client.ticket("ana@acme.example", subject);
    }
    desk.mark_ticket(2, true, false);
    client.delete("/api/v2/tickets/3");
    let check = |query: &str, expect: &[&str]| assert_eq!(subjects(&client, query), expect, "{query}");
    check("", &["new"]);
    check("?email=ana@acme.example", &["new"]);
    check("?updated_since=2026-01-01", &["new", "old"]);
    check("?filter=spam", &["spam"]);
    check("?filter=deleted", &["gone"]);
}

#[test]
fn rows_show_what_is_asked_for() {
    let (desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    let row = |query: &str| client.get(&format!("/api/v2/tickets{query}")).json()[0].clone();
    let plain = row("");
    assert_eq!(
        (&plain["tags"], plain.get("description"), plain.get("attachments")),
        (&json!(["a"]), None, None)
    );
    assert!(plain["custom_fields"].is_object());
    let full = row("?include=description,requester,stats");
    assert_eq!(
        (&full["description_text"], &full["requester"]["email"]),
        (&json!("x"), &json!("ana@acme.example"))
    );
    assert!(full["stats"].is_object());
    desk.set_knobs(Knobs { list_includes_tags: false, ..Knobs::default() });
    assert_eq!(row("").get("tags"), None);
    assert_eq!(
        client.get("/api/v2/tickets/1").json()["tags"],
        json!(["a"]),
        "the ticket itself always shows them"
    );
}

#[test]
fn the_list_can_be_late() {
    let (desk, client, clock) = start(Options::default());
    desk.set_knobs(Knobs { list_delay_s: 5, ..Knobs::default() });
    client.ticket("ana@acme.example", "a");
    assert_eq!(subjects(&client, "?email=ana@acme.example"), [""; 0]);
    clock.advance(Duration::from_secs(5));
    assert_eq!(subjects(&client, "?email=ana@acme.example"), ["a"]);
}

fn search(client: &Client, query: &str) -> Vec<Value> {
    let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let reply = client.get(&format!("/api/v2/search/tickets?query={encoded}"));
    let json = reply.json();
    let results = json["results"].as_array().unwrap_or_else(|| panic!("{query}: {reply:?}"));
    assert_eq!(json["total"], json!(results.len()));
    results.iter().map(|ticket| ticket["id"].clone()).collect()
}

#[test]
fn the_search_is_late_and_knows_its_language() {
    let (_desk, client, clock) = start(Options::default());
    client.ticket("ana@acme.example", "ds-a");
    client.ticket("ana@acme.example", "ds-b");
    client.put(
        "/api/v2/tickets/2",
        &json!({"priority": 4, "status": 4, "custom_fields": {"cf_external_ref": "e 1"}}),
    );
    assert!(search(&client, "\"tag:'ds-a'\"").is_empty(), "not indexed yet");
    clock.advance(Duration::from_secs(180));
    let check = |query: &str, expect: &[u64]| {
        let expect: Vec<Value> = expect.iter().map(|id| json!(id)).collect();
        assert_eq!(search(&client, query), expect, "{query}");
    };
    check("\"tag:'ds-a'\"", &[1]);
    check("\"priority:>3 OR status:2\"", &[2, 1]);
    check("\"priority:4 AND status:2\"", &[]);
    check("\"(tag:'ds-a' OR tag:'ds-b') AND status:4\"", &[2]);
    check("\"cf_external_ref:'e 1'\"", &[2]);
    check("\"type:null AND created_at:>'2026-11-21'\"", &[2, 1]);
    check("\"created_at:<'2026-11-20'\"", &[]);
}

#[test]
fn the_search_refuses_what_it_cannot_search() {
    let (_desk, client, _) = start(Options::default());
    let check = |query: &str, expect: &str| {
        assert_eq!(client.get(&format!("/api/v2/search/tickets{query}")).errors(), [expect], "{query}");
    };
    check("", "query missing_field");
    check("?query=tag:a", "query invalid_value");
    check("?query=%22tag:%22", "query invalid_value");
    check("?query=%22(tag:a%22", "query invalid_value");
    check("?query=%22email:'a'%22", "email invalid_field");
    check("?query=%22requester_id:1%22", "requester_id invalid_field");
    check("?query=%22tag:a%22&page=11", "page invalid_value");
    check("?query=%22tag:a%22&per_page=11", "per_page invalid_field");
}
