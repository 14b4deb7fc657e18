//! Contacts: uniqueness, filters, and whom they cannot be changed into.

use super::{Options, start};
use crate::sandbox::Knobs;
use serde_json::{Value, json};

#[test]
fn duplicates_are_named() {
    let (desk, client, _) = start(Options::default());
    let body = json!({"name": "Ana", "email": "ana@acme.example", "unique_external_id": "x:1", "phone": "1"});
    let reply = client.post("/api/v2/contacts", &body);
    let id = reply.json()["id"].clone();
    assert_eq!(reply.header("Location"), Some(format!("{}/api/v2/contacts/{id}", desk.url()).as_str()));
    let check = |body: Value, expect: (&str, &Value)| {
        let reply = client.post("/api/v2/contacts", &body);
        assert_eq!((reply.status, reply.errors()), (409, vec![format!("{} duplicate_value", expect.0)]));
        assert_eq!(&reply.json()["errors"][0]["additional_info"]["user_id"], expect.1);
    };
    check(json!({"name": "B", "email": "Ana@acme.example"}), ("email", &id));
    check(json!({"name": "B", "unique_external_id": "x:1"}), ("unique_external_id", &id));
    check(json!({"name": "B", "email": "marta@acme.example"}), ("email", &json!(51_000_000_002_u64)));
    assert_eq!(client.put("/api/v2/contacts/51000000002", &json!({"name": "B"})).status, 404, "an agent");
    assert_eq!(
        client.post("/api/v2/contacts", &json!({"name": "B", "phone": "1"})).status,
        201,
        "phones repeat"
    );
}

#[test]
fn contacts_are_checked() {
    let (_desk, client, _) = start(Options::default());
    let check = |body: Value, expect: &[&str]| {
        assert_eq!(client.post("/api/v2/contacts", &body).errors(), expect, "{body}");
    };
    check(json!({"email": "ana@acme.example"}), &["name missing_field"]);
    check(json!({"name": "", "email": "ana@acme.example"}), &["name invalid_value"]);
    check(json!({"name": "Ana"}), &["email missing_field"]);
    check(json!({"name": "Ana", "email": "ana"}), &["email invalid_value"]);
    check(json!({"name": "Ana", "phone": 34}), &["phone datatype_mismatch"]);
    check(json!({"name": "Ana", "phone": "1", "vip": true}), &["vip invalid_field"]);
    check(
        json!({"name": "Ana", "phone": "1", "custom_fields": {"vip": true}}),
        &["custom_fields.vip invalid_field"],
    );
}

#[test]
fn filters_find_contacts() {
    let (desk, client, _) = start(Options::default());
    for (name, mail, phone) in [
        ("Ana", "ana@acme.example", "+341"),
        ("Eva", "eva@acme.example", "+341"),
        ("Gil", "gil@acme.example", "+342"),
    ] {
        client.post(
            "/api/v2/contacts",
            &json!({"name": name, "email": mail, "phone": phone, "unique_external_id": name}),
        );
    }
    let names = |query: &str| -> Vec<String> {
        let json = client.get(&format!("/api/v2/contacts{query}")).json();
        json.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(""), ["Ana", "Eva", "Gil"]);
    assert_eq!(names("?email=EVA@acme.example"), ["Eva"]);
    assert_eq!(names("?phone=%2B341"), ["Ana", "Eva"]);
    assert_eq!(names("?phone=%2B341&email=eva@acme.example"), ["Eva"]);
    assert_eq!(names("?mobile=1"), [""; 0]);
    assert_eq!(names("?unique_external_id=Gil"), ["Gil"]);
    assert_eq!(names("?unique_external_id=Nobody"), [""; 0]);
    assert_eq!(names("?per_page=1&page=2"), ["Eva"]);
    desk.set_knobs(Knobs { contacts_filter_unique_external_id: false, ..Knobs::default() });
    let refused = client.get("/api/v2/contacts?unique_external_id=Gil");
    assert_eq!(refused.errors(), ["unique_external_id invalid_field"]);
}

#[test]
fn deleted_contacts_stay_and_cannot_be_changed() {
    let (desk, client, _) = start(Options::default());
    let body = json!({"name": "Ana", "email": "ana@acme.example"});
    let id = client.post("/api/v2/contacts", &body).json()["id"].as_u64().unwrap();
    let path = format!("/api/v2/contacts/{id}");
    let changed = client.put(&path, &json!({"email": "ana2@acme.example"}));
    assert_eq!((changed.status, &changed.json()["email"]), (200, &json!("ana2@acme.example")));
    assert_eq!(client.get("/api/v2/contacts?email=ana@acme.example").json(), json!([]));
    let eva = client.post("/api/v2/contacts", &json!({"name": "Eva", "email": "ana@acme.example"}));
    assert_eq!(eva.status, 201, "the old address is free");
    assert_eq!(client.put(&path, &json!({"email": "ana@acme.example"})).status, 409);
    assert_eq!((client.delete(&path).status, client.delete(&path).status), (204, 404));
    assert_eq!(client.put(&path, &json!({"name": "B"})).status, 405);
    assert_eq!(client.get(&path).json()["deleted"], json!(true));
    assert_eq!(client.get("/api/v2/contacts?state=deleted").json()[0]["id"], json!(id));
    let again = client.post("/api/v2/contacts", &json!({"name": "Ana", "email": "ana2@acme.example"}));
    assert_eq!(again.json()["errors"][0]["additional_info"]["user_id"], json!(id));
    desk.mark_contact(id, true, false);
    assert_eq!(client.put(&path, &json!({"name": "B"})).status, 405);
}
