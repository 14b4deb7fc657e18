//! What is changed in a contact, and what is left to agents.

use super::*;
use crate::freshdesk::write::Requester;

fn fields() -> ContactFields {
    let set = |text: &str| Some(text.to_owned());
    ContactFields {
        requester: Requester {
            name: set("Ana Ruiz"),
            email: set("ana@acme.example"),
            phone: set("+573001112233"),
            external_id: set("shop:7"),
        },
        job_title: set("Buyer"),
        tags_add: vec!["vip".to_owned()],
        custom_fields: Map::from_iter([("plan".to_owned(), json!("gold"))]),
        ..ContactFields::default()
    }
}

fn check(contact: Value, fields: &ContactFields, expect: Value) {
    assert_eq!(Value::Object(changes(&contact, fields)), expect, "{contact}");
}

#[test]
fn only_empty_fields_are_filled() {
    let contact = json!({"id": 1, "name": "Doña Ana", "email": "ana@acme.example", "phone": null, "mobile": " ",
        "unique_external_id": null, "job_title": "CEO", "tags": ["VIP", "x"], "custom_fields": {"plan": "basic"}});
    check(contact, &fields(), json!({"phone": "+573001112233", "unique_external_id": "shop:7"}));
}

#[test]
fn overwrite_replaces_what_differs() {
    let contact = json!({"id": 1, "name": "Doña Ana", "email": "ana@acme.example", "phone": "+573001112233",
        "unique_external_id": "shop:7", "job_title": "CEO", "tags": ["x"], "custom_fields": {"plan": "basic"}});
    let over = ContactFields { overwrite: true, ..fields() };
    let expect = json!({"name": "Ana Ruiz", "job_title": "Buyer", "tags": ["x", "vip"], "custom_fields": {"plan": "gold"}});
    check(contact, &over, expect);
}

#[test]
fn a_name_that_freshdesk_made_up_is_replaced() {
    let bare = ContactFields { requester: fields().requester, ..ContactFields::default() };
    let contact = |name: &str| {
        json!({"id": 1, "name": name, "email": "ana@acme.example", "phone": "+573001112233",
            "unique_external_id": "shop:7"})
    };
    for made_up in ["ana", "+573001112233", "shop:7", ""] {
        check(contact(made_up), &bare, json!({"name": "Ana Ruiz"}));
    }
    check(contact("Anita"), &bare, json!({}));
    let nameless = ContactFields { requester: Requester { name: None, ..fields().requester }, ..bare };
    check(contact("ana"), &nameless, json!({}));
}

#[test]
fn a_number_in_the_other_field_is_not_repeated() {
    let bare = ContactFields { requester: fields().requester, ..ContactFields::default() };
    let contact = json!({"name": "A", "email": "ana@acme.example", "phone": "", "mobile": "+573001112233",
        "unique_external_id": "shop:7"});
    check(contact, &bare, json!({}));
}
