//! One ticket: validation, requesters, forms, updates.

use super::client::{AUTHORIZATION, Reply};
use super::{Options, start};
use crate::sandbox::{BlockedRequester, Form, FourByte, Knobs};
use serde_json::{Value, json};
use std::time::Duration;

/// A good ticket with `changes`; a null takes a member away.
fn ticket(changes: &Value) -> Value {
    let mut body =
        json!({"email": "ana@acme.example", "subject": "Hola", "description": "<p>¿Dónde está?</p>"});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn a_created_ticket_is_answered_in_full() {
    let (desk, client, _) = start(Options::default());
    let reply = client.post("/api/v2/tickets", &ticket(&json!({"name": "Ana", "tags": ["a"]})));
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("Location"), Some(format!("{}/api/v2/tickets/1", desk.url()).as_str()));
    let json = reply.json();
    let check = |pointer: &str, expect: Value| assert_eq!(json.pointer(pointer), Some(&expect), "{pointer}");
    check("/id", json!(1));
    check("/status", json!(2));
    check("/priority", json!(1));
    check("/source", json!(2));
    check("/type", Value::Null);
    check("/due_by", Value::Null);
    check("/spam", json!(false));
    check("/tags", json!(["a"]));
    check("/description", json!("<div><p>¿Dónde está?</p></div>"));
    check("/description_text", json!("¿Dónde está?"));
    check("/custom_fields/cf_external_ref", Value::Null);
    check("/created_at", json!("2026-11-21T08:01:13Z"));
    check("/attachments", json!([]));
    assert_eq!(desk.contacts()[0].name.as_deref(), Some("Ana"));
}

#[test]
fn the_level_engine_fills_due_times_later() {
    let (_desk, client, clock) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    clock.advance(Duration::from_secs(3));
    assert_eq!(client.get("/api/v2/tickets/1").json()["fr_due_by"], json!("2026-11-22T08:01:13Z"));
}

#[test]
fn each_field_is_checked() {
    let (desk, client, _) = start(Options::default());
    let check = |changes: Value, expect: &[&str]| {
        let reply = client.post("/api/v2/tickets", &ticket(&changes));
        assert_eq!(
            (reply.status, reply.errors()),
            (400, expect.iter().map(|one| (*one).to_owned()).collect()),
            "{changes}"
        );
    };
    check(json!({"status": "2"}), &["status datatype_mismatch"]);
    check(json!({"status": 2.5}), &["status datatype_mismatch"]);
    check(json!({"status": 99}), &["status invalid_value"]);
    check(json!({"priority": 5}), &["priority invalid_value"]);
    check(json!({"source": 15}), &["source invalid_value"]);
    check(json!({"type": "Chat"}), &["type invalid_value"]);
    check(json!({"type": 1}), &["type datatype_mismatch"]);
    check(json!({"group_id": 1}), &["group_id invalid_value"]);
    check(json!({"group_id": "51000123456"}), &["group_id datatype_mismatch"]);
    check(json!({"product_id": 1}), &["product_id invalid_value"]);
    check(json!({"responder_id": 1}), &["responder_id invalid_value"]);
    check(json!({"company_id": 1}), &["company_id invalid_value"]);
    check(json!({"email_config_id": 1}), &["email_config_id invalid_value"]);
    check(json!({"parent_id": 1}), &["parent_id invalid_value"]);
    check(json!({"subject": null}), &["subject missing_field"]);
    check(json!({"subject": " "}), &["subject invalid_value"]);
    check(json!({"subject": "x".repeat(256)}), &["subject invalid_value"]);
    check(json!({"subject": 5}), &["subject datatype_mismatch"]);
    check(json!({"description": null}), &["description missing_field"]);
    check(json!({"description": ""}), &["description invalid_value"]);
    check(json!({"description_html": "x"}), &["description_html invalid_field"]);
    check(json!({"assigned_to": 1}), &["assigned_to invalid_field"]);
    check(json!({"email": "ana"}), &["email invalid_value"]);
    check(json!({"email": 1}), &["email datatype_mismatch"]);
    check(json!({"email": null}), &["requester_id missing_field"]);
    check(json!({"email": null, "requester_id": 7}), &["requester_id invalid_value"]);
    check(json!({"email": null, "facebook_id": "f"}), &["facebook_id invalid_value"]);
    check(json!({"email": null, "phone": "+34600111222"}), &["name missing_field"]);
    check(json!({"email": null, "phone": 34_600_111_222_u64, "name": "Eva"}), &["phone datatype_mismatch"]);
    check(json!({"tags": "a"}), &["tags datatype_mismatch"]);
    check(json!({"tags": [1]}), &["tags datatype_mismatch"]);
    check(json!({"tags": ["x".repeat(33)]}), &["tags invalid_value"]);
    check(json!({"tags": ["a,b"]}), &["tags invalid_value"]);
    check(json!({"tags": vec!["a"; 31]}), &["tags invalid_value"]);
    check(json!({"cc_emails": ["x"]}), &["cc_emails invalid_value"]);
    check(json!({"due_by": "soon"}), &["due_by invalid_value"]);
    check(json!({"related_ticket_ids": ["1"]}), &["related_ticket_ids datatype_mismatch"]);
    check(json!({"attachments": ["x"]}), &["attachments datatype_mismatch"]);
    check(json!({"custom_fields": []}), &["custom_fields datatype_mismatch"]);
    check(json!({"custom_fields": {"External ref": "x"}}), &["custom_fields.External ref invalid_field"]);
    check(
        json!({"custom_fields": {"cf_external_ref": 1}}),
        &["custom_fields.cf_external_ref datatype_mismatch"],
    );
    check(json!({"custom_fields": {"cf_channel": "Fax"}}), &["custom_fields.cf_channel invalid_value"]);
    check(json!({"custom_fields": {"cf_vip": "true"}}), &["custom_fields.cf_vip datatype_mismatch"]);
    check(json!({"custom_fields": {"cf_score": "9"}}), &["custom_fields.cf_score datatype_mismatch"]);
    check(
        json!({"custom_fields": {"cf_follow_up": "21/11/2026"}}),
        &["custom_fields.cf_follow_up invalid_value"],
    );
    assert_eq!((desk.tickets().len(), desk.contacts().len()), (0, 0));
}

#[test]
fn all_errors_come_together() {
    let (_desk, client, _) = start(Options::default());
    let reply = client.post("/api/v2/tickets", &json!({"status": "open", "x": 1, "tags": ["a,b"]}));
    let expect = [
        "status datatype_mismatch",
        "x invalid_field",
        "tags invalid_value",
        "requester_id missing_field",
        "subject missing_field",
        "description missing_field",
    ];
    assert_eq!(reply.errors(), expect);
    let json = reply.json();
    assert_eq!(json["description"], json!("Validation failed"));
    assert_eq!(json["errors"][0]["message"], json!("Value set is of type String.It should be a/an Integer"));
}

#[test]
fn good_values_of_every_kind_are_kept() {
    let (desk, client, _) = start(Options::default());
    let custom = json!({"cf_external_ref": "e1", "cf_channel": "Web", "cf_vip": true, "cf_score": 9, "cf_follow_up": "2026-12-01"});
    let body = ticket(&json!({
        "status": 6, "priority": 4, "source": 7, "type": "Incident", "group_id": 51_000_123_456_u64,
        "responder_id": 51_000_000_002_u64, "product_id": 51_000_000_701_u64, "custom_fields": custom,
        "tags": ["deskspool", "ds-aebagbaf"], "cc_emails": ["boss@acme.example"], "due_by": "2026-12-01T10:00:00+02:00",
    }));
    let reply = client.post("/api/v2/tickets", &body);
    assert_eq!((reply.status, &reply.json()["due_by"]), (201, &json!("2026-12-01T08:00:00Z")), "{reply:?}");
    let kept = &desk.tickets()[0];
    assert_eq!((kept.status, kept.priority, kept.source), (6, 4, 7));
    assert_eq!((kept.ticket_type.as_deref(), kept.group_id), (Some("Incident"), Some(51_000_123_456)));
    assert_eq!(Value::Object(kept.custom_fields.clone()), custom);
    assert_eq!(kept.tags, ["deskspool", "ds-aebagbaf"]);
    assert_eq!(kept.cc_emails, ["boss@acme.example"]);
}

#[test]
fn requesters_are_found_or_made() {
    let (desk, client, _) = start(Options::default());
    let make = |who: Value| {
        let mut body = ticket(&who);
        body["email"] = who.get("email").cloned().unwrap_or(Value::Null);
        let reply = client.post("/api/v2/tickets", &body);
        reply.json()["requester_id"].as_u64().unwrap_or_else(|| panic!("{reply:?}"))
    };
    let ana = make(json!({"email": "Ana@acme.example"}));
    let luis = make(json!({"phone": "+573001112233", "name": "Luis"}));
    let eva = make(json!({"unique_external_id": "sendpulse:1", "name": "Eva"}));
    let tom = make(json!({"twitter_id": "tom"}));
    assert_eq!(desk.contacts().len(), 4);
    assert_eq!(make(json!({"email": "ana@ACME.example"})), ana);
    assert_eq!(make(json!({"phone": "+573001112233", "name": "Other"})), luis);
    assert_eq!(make(json!({"unique_external_id": "sendpulse:1"})), eva);
    assert_eq!(make(json!({"twitter_id": "tom"})), tom);
    assert_eq!(make(json!({"requester_id": eva})), eva);
    assert_eq!(make(json!({"email": "marta@acme.example"})), 51_000_000_002, "an agent asks");
    assert_eq!(desk.contacts().len(), 4);
    assert_eq!(desk.contacts()[0].name.as_deref(), Some("Ana"), "named after the address");
    let requester = &desk.tickets()[2].requester;
    assert_eq!(requester.unique_external_id.as_deref(), Some("sendpulse:1"));
}

#[test]
fn a_knob_says_which_identifier_decides() {
    let (desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    let both = ticket(&json!({"unique_external_id": "x:1"}));
    assert_eq!(client.post("/api/v2/tickets", &both).json()["requester_id"], json!(desk.contacts()[0].id));
    desk.set_knobs(Knobs { identifier_order: vec!["unique_external_id".to_owned()], ..Knobs::default() });
    client.post("/api/v2/tickets", &ticket(&json!({"email": null, "unique_external_id": "x:1"})));
    assert_eq!(client.post("/api/v2/tickets", &both).json()["requester_id"], json!(desk.contacts()[1].id));
}

#[test]
fn what_the_form_requires_is_required() {
    let form = Form {
        required_for_agents: vec!["subject".into(), "description".into(), "type".into()],
        ..Form::default()
    };
    let mut form = Form { required_for_closure: vec!["group_id".into()], ..form };
    form.custom_fields[2].required_for_agents = true;
    form.custom_fields[0].required_for_closure = true;
    let (desk, client, _) = start(Options { form, ..Options::default() });
    let reply = client.post("/api/v2/tickets", &ticket(&json!({})));
    assert_eq!(reply.errors(), ["type missing_field", "custom_fields.cf_channel missing_field"]);
    assert!(reply.body.contains("It should be one of these values: 'WhatsApp,Telegram,Instagram,Web'"));
    let open = ticket(&json!({"type": "Question", "custom_fields": {"cf_channel": "Web"}}));
    assert_eq!(client.post("/api/v2/tickets", &open).status, 201);
    let closing = client.put("/api/v2/tickets/1", &json!({"status": 4}));
    assert_eq!(closing.errors(), ["group_id missing_field", "custom_fields.cf_external_ref missing_field"]);
    let untouched = client.put("/api/v2/tickets/1", &json!({"type": null}));
    assert_eq!(untouched.errors(), ["type missing_field"]);
    desk.set_knobs(Knobs { enforce_required_on_update: false, ..Knobs::default() });
    assert_eq!(client.put("/api/v2/tickets/1", &json!({"status": 4})).status, 200);
}

#[test]
fn updates_replace_what_they_name() {
    let (desk, client, clock) = start(Options::default());
    let first = ticket(&json!({"tags": ["a", "b"], "custom_fields": {"cf_external_ref": "e1"}}));
    client.post("/api/v2/tickets", &first);
    clock.advance(Duration::from_secs(90));
    let changes = json!({"status": 3, "tags": ["c"], "custom_fields": {"cf_vip": true}});
    let reply = client.put("/api/v2/tickets/1", &changes);
    assert_eq!((reply.status, &reply.json()["updated_at"]), (200, &json!("2026-11-21T08:02:43Z")));
    let kept = &desk.tickets()[0];
    assert_eq!(
        (kept.status, kept.tags.as_slice(), kept.subject.as_str()),
        (3, ["c".to_owned()].as_slice(), "Hola")
    );
    assert_eq!(Value::Object(kept.custom_fields.clone()), json!({"cf_external_ref": "e1", "cf_vip": true}));
    let refused = client.put("/api/v2/tickets/1", &json!({"cc_emails": ["a@b.example"], "status": "4"}));
    assert_eq!(refused.errors(), ["cc_emails invalid_field", "status datatype_mismatch"]);
    assert_eq!(client.put("/api/v2/tickets/9", &json!({})).status, 404);
}

#[test]
fn spam_and_deleted_tickets_cannot_be_changed() {
    let (desk, client, _) = start(Options::default());
    for tag in ["a", "b"] {
        client.ticket("ana@acme.example", tag);
    }
    assert!(desk.mark_ticket(1, true, false));
    assert_eq!(client.delete("/api/v2/tickets/2").status, 204);
    for id in [1, 2] {
        assert_eq!(client.put(&format!("/api/v2/tickets/{id}"), &json!({"status": 3})).status, 405);
        assert_eq!(client.post(&format!("/api/v2/tickets/{id}/notes"), &json!({"body": "x"})).status, 405);
    }
    assert_eq!(client.get("/api/v2/tickets/2").json()["deleted"], json!(true));
    desk.set_knobs(Knobs { deleted_ticket_forbidden: true, ..Knobs::default() });
    assert_eq!(client.get("/api/v2/tickets/2").status, 403);
    assert_eq!(client.put("/api/v2/tickets/2/restore", &json!({})).status, 204);
    assert_eq!(client.put("/api/v2/tickets/2", &json!({"status": 3})).status, 200);
}

#[test]
fn a_blocked_requester_makes_spam_or_nothing() {
    let (desk, client, _) = start(Options::default());
    client.ticket("ana@acme.example", "a");
    assert!(desk.mark_contact(desk.contacts()[0].id, true, false));
    client.ticket("ana@acme.example", "b");
    assert!(desk.tickets()[1].spam);
    desk.set_knobs(Knobs { blocked_requester: BlockedRequester::Reject, ..Knobs::default() });
    let reply = client.post("/api/v2/tickets", &ticket(&json!({})));
    assert_eq!((reply.status, desk.tickets().len()), (400, 2));
}

#[test]
fn markup_is_sanitised_and_emoji_follow_the_knob() {
    let (desk, client, _) = start(Options::default());
    let body = ticket(&json!({"description": "a<script>b</script><b onclick=x>c</b>\n 🙂", "subject": "🙂"}));
    assert_eq!(
        client.post("/api/v2/tickets", &body).json()["description"],
        json!("<div>a<b>c</b>\n 🙂</div>")
    );
    assert_eq!(desk.tickets()[0].description_text, "ac 🙂");
    desk.set_knobs(Knobs {
        four_byte: FourByte::Replace,
        text_collapses_whitespace: false,
        ..Knobs::default()
    });
    client.post("/api/v2/tickets", &body);
    assert_eq!(
        (desk.tickets()[1].subject.as_str(), desk.tickets()[1].description_text.as_str()),
        ("?", "ac\n ?")
    );
    desk.set_knobs(Knobs { four_byte: FourByte::Reject, description_limit: 5, ..Knobs::default() });
    let reply = client.post("/api/v2/tickets", &body);
    assert_eq!(reply.errors(), ["subject invalid_value", "description invalid_value"]);
}

fn form(client: &super::Client, path: &str, parts: &[(&str, &str)]) -> Reply {
    let mut body = String::new();
    for (head, content) in parts {
        body.push_str(&format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n"));
    }
    body.push_str("--b--\r\n");
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}Content-Length: {length}\r\n");
    client
        .raw(format!("{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n{body}").as_bytes())
        .unwrap()
}

#[test]
fn forms_bring_files() {
    let (desk, client, _) = start(Options::default());
    let file = "name=\"attachments[]\"; filename=\"a.txt\"\r\nContent-Type: text/plain";
    let parts = [
        ("name=\"email\"", "ana@acme.example"),
        ("name=\"subject\"", "Hola"),
        ("name=\"description\"", "d"),
        ("name=\"status\"", "3"),
        ("name=\"tags[]\"", "a"),
        ("name=\"custom_fields[cf_score]\"", "9"),
        ("name=\"custom_fields[cf_vip]\"", "true"),
        (file, "hello"),
    ];
    let reply = form(&client, "/api/v2/tickets", &parts);
    assert_eq!((reply.status, &reply.json()["attachments"][0]["size"]), (201, &json!(5)), "{reply:?}");
    let note = form(
        &client,
        "/api/v2/tickets/1/notes",
        &[("name=\"body\"", "n"), ("name=\"private\"", "false"), (file, "x")],
    );
    assert_eq!(note.status, 201, "{note:?}");
    let kept = &desk.tickets()[0];
    assert_eq!(
        (kept.status, kept.tags.as_slice(), &kept.custom_fields["cf_score"]),
        (3, ["a".to_owned()].as_slice(), &json!(9))
    );
    assert_eq!((kept.attachments[0].name.as_str(), kept.attachments[0].size_bytes), ("a.txt", 5));
    assert_eq!((kept.notes[0].private, kept.notes[0].attachments.len()), (false, 1));
}

#[test]
fn forms_fail_as_the_real_ones_do() {
    let (desk, client, _) = start(Options::default());
    desk.set_knobs(Knobs { attachment_limit_bytes: 8, ..Knobs::default() });
    let good =
        [("name=\"email\"", "ana@acme.example"), ("name=\"subject\"", "s"), ("name=\"description\"", "d")];
    let with = |part| form(&client, "/api/v2/tickets", &[good.as_slice(), &[part]].concat());
    assert_eq!(with(("name=\"attachments[]\"", "hello")).errors(), ["attachments datatype_mismatch"]);
    assert_eq!(with(("name=\"status\"", "open")).errors(), ["status datatype_mismatch"]);
    assert_eq!(with(("name=\"custom_fields\"", "{}")).status, 500);
    let file = "name=\"attachments[]\"; filename=\"a.txt\"\r\nContent-Type: text/plain";
    assert_eq!(with((file, "123456789")).errors(), ["attachments invalid_size"]);
    assert_eq!(with((file, "12345")).status, 201);
    let note = form(&client, "/api/v2/tickets/1/notes", &[("name=\"body\"", "n"), (file, "1234")]);
    assert_eq!(note.errors(), ["attachments invalid_size"], "the limit is for the ticket with its notes");
}
