//! Notes, replies, conversations.

use super::{Options, start};
use serde_json::{Value, json};

#[test]
fn a_note_is_private_unless_it_says_otherwise() {
    let (desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    let reply = client.post("/api/v2/tickets/1/notes", &json!({"body": "<b>one</b>"}));
    let json = reply.json();
    assert_eq!((reply.status, &json["ticket_id"], &json["source"]), (201, &json!(1), &json!(2)));
    assert_eq!((&json["private"], &json["body_text"]), (&json!(true), &json!("one")));
    let ana = desk.contacts()[0].id;
    let body = json!({"body": "two", "private": false, "incoming": true, "user_id": ana, "notify_emails": ["boss@acme.example"]});
    assert_eq!(client.post("/api/v2/tickets/1/notes", &body).status, 201);
    let notes = &desk.tickets()[0].notes;
    assert_eq!((notes[0].private, notes[0].incoming, notes[0].user_id), (true, false, Some(51_000_000_001)));
    assert_eq!((notes[1].private, notes[1].incoming, notes[1].user_id), (false, true, Some(ana)));
    assert_eq!(notes[1].notify_emails, ["boss@acme.example"]);
}

#[test]
fn notes_and_replies_are_checked() {
    let (desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    let check = |kind: &str, body: Value, expect: &[&str]| {
        let reply = client.post(&format!("/api/v2/tickets/1/{kind}"), &body);
        assert_eq!(
            (reply.status, reply.errors()),
            (400, expect.iter().map(|one| (*one).to_owned()).collect()),
            "{body}"
        );
    };
    check("notes", json!({}), &["body missing_field"]);
    check("notes", json!({"body": ""}), &["body invalid_value"]);
    check("notes", json!({"body": "x", "private": "true"}), &["private datatype_mismatch"]);
    check("notes", json!({"body": "x", "user_id": 5}), &["user_id invalid_value"]);
    check("notes", json!({"body": "x", "notify_emails": ["boss"]}), &["notify_emails invalid_value"]);
    check("notes", json!({"body": 1, "html": "x"}), &["body datatype_mismatch", "html invalid_field"]);
    check("reply", json!({"body": "x", "private": true}), &["private invalid_field"]);
    check("reply", json!({"body": "x", "from_email": "me"}), &["from_email invalid_value"]);
    assert_eq!(client.post("/api/v2/tickets/2/notes", &json!({"body": "x"})).status, 404);
    assert!(desk.tickets()[0].notes.is_empty());
}

#[test]
fn a_reply_goes_to_the_requester() {
    let (desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    let reply = client.post("/api/v2/tickets/1/reply", &json!({"body": "Hola Ana"}));
    let json = reply.json();
    assert_eq!(
        (reply.status, &json["source"], &json["replied_to"]),
        (201, &json!(0), &json!(["ana@acme.example"]))
    );
    assert!(desk.tickets()[0].notes[0].reply);
}

#[test]
fn conversations_come_oldest_first_in_pages() {
    let (desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    for number in 1..=33 {
        client.post("/api/v2/tickets/1/notes", &json!({"body": format!("n{number}")}));
    }
    let bodies = |path: &str, pointer: &str| -> Vec<String> {
        let json = client.get(path).json();
        let list = json.pointer(pointer).unwrap().as_array().unwrap().clone();
        list.iter().map(|note| note["body_text"].as_str().unwrap().to_owned()).collect()
    };
    let first = bodies("/api/v2/tickets/1/conversations", "");
    assert_eq!((first.len(), first[0].as_str(), first[29].as_str()), (30, "n1", "n30"));
    assert_eq!(bodies("/api/v2/tickets/1/conversations?page=2", ""), ["n31", "n32", "n33"]);
    assert_eq!(bodies("/api/v2/tickets/1/conversations?per_page=100", "").len(), 33);
    let embedded = bodies("/api/v2/tickets/1?include=conversations", "/conversations");
    assert_eq!((embedded.len(), embedded[0].as_str()), (10, "n1"));
    assert_eq!(client.get("/api/v2/tickets/2/conversations").status, 404);
    assert!(desk.wait_until(std::time::Duration::ZERO, |state| state.note_count() == 33));
}

#[test]
fn a_note_can_be_changed_and_removed() {
    let (desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    let note = client.post("/api/v2/tickets/1/notes", &json!({"body": "one"})).json()["id"].clone();
    let reply = client.post("/api/v2/tickets/1/reply", &json!({"body": "sent"})).json()["id"].clone();
    let path = format!("/api/v2/conversations/{note}");
    assert_eq!(client.put(&path, &json!({"body": "two"})).json()["body_text"], json!("two"));
    assert_eq!(client.put(&format!("/api/v2/conversations/{reply}"), &json!({"body": "x"})).status, 405);
    assert_eq!((client.delete(&path).status, client.delete(&path).status), (204, 404));
    assert_eq!(desk.tickets()[0].notes.len(), 1);
}

#[test]
fn a_ticket_brings_what_is_included() {
    let (_desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    let json = client.get("/api/v2/tickets/1?include=requester,company,stats").json();
    assert_eq!((&json["requester"]["name"], &json["company"]), (&json!("ana"), &json!({})));
    assert!(json["stats"].is_object() && json.get("conversations").is_none());
    assert_eq!(client.get("/api/v2/tickets/1?include=all").errors(), ["include invalid_value"]);
}
