//! Requests as Freshdesk documents them: bodies, and the one identifier a requester goes by.
//!
//! **Invariants:** only documented members that are set are sent, numbers as numbers. Exactly one unique
//! identifier is sent, because precedence among several is undocumented, and a search uses the same one; a phone
//! number, which need not be unique, goes with it.
//! Every write carries its marker.

use super::write::{NoteFields, Requester, TicketFields, UpdateFields};
use serde_json::{Map, Value, json};

/// Freshdesk's limit; the marker is one of them.
const TAGS_MAX: usize = 30;

/// How Freshdesk is told who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identifier<'a> {
    /// Before all others, because agents want the contact that already has this address.
    Email(&'a str),
    /// Before the phone, because tickets can be listed by it.
    ExternalId(&'a str),
    /// Not unique among contacts.
    Phone(&'a str),
}

impl<'a> Identifier<'a> {
    /// The one to use, or none.
    pub(super) fn of(requester: &'a Requester) -> Option<Identifier<'a>> {
        let set = |text: &'a Option<String>| text.as_deref().filter(|text| !text.is_empty());
        set(&requester.email)
            .map(Identifier::Email)
            .or(set(&requester.external_id).map(Identifier::ExternalId))
            .or(set(&requester.phone).map(Identifier::Phone))
    }

    /// Freshdesk's name for it, in bodies and in filters.
    pub(super) fn field(self) -> &'static str {
        match self {
            Identifier::Email(_) => "email",
            Identifier::ExternalId(_) => "unique_external_id",
            Identifier::Phone(_) => "phone",
        }
    }

    /// Its value.
    pub(super) fn value(self) -> &'a str {
        match self {
            Identifier::Email(value) | Identifier::ExternalId(value) | Identifier::Phone(value) => value,
        }
    }
}

/// The body of `POST /tickets`; `None` when nobody asks.
pub(super) fn ticket(fields: &TicketFields, marker: &str, marker_field: Option<&str>) -> Option<Value> {
    let identifier = Identifier::of(&fields.requester)?;
    let mut body = Map::new();
    body.insert("subject".to_owned(), json!(fields.subject));
    body.insert("description".to_owned(), json!(fields.description));
    body.insert(identifier.field().to_owned(), json!(identifier.value()));
    // Beside another identifier it is what the new contact gets, and finds nobody; it need not be unique.
    if let (Some(phone), false) = (&fields.requester.phone, matches!(identifier, Identifier::Phone(_))) {
        body.insert("phone".to_owned(), json!(phone));
    }
    if let Some(name) = requester_name(&fields.requester, identifier) {
        body.insert("name".to_owned(), json!(name));
    }
    let numbers = [
        ("status", fields.status),
        ("priority", fields.priority),
        ("source", fields.source),
        ("group_id", fields.group_id),
        ("product_id", fields.product_id),
        ("responder_id", fields.responder_id),
        ("company_id", fields.company_id),
        ("email_config_id", fields.email_config_id),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            body.insert(name.to_owned(), json!(number));
        }
    }
    if let Some(ticket_type) = &fields.ticket_type {
        body.insert("type".to_owned(), json!(ticket_type));
    }
    if !fields.cc_emails.is_empty() {
        body.insert("cc_emails".to_owned(), json!(fields.cc_emails));
    }
    insert_marked(&mut body, fields, marker, marker_field);
    Some(Value::Object(body))
}

/// A contact known by phone alone must have a name: without one it goes by its number.
fn requester_name<'a>(requester: &'a Requester, identifier: Identifier<'a>) -> Option<&'a str> {
    let name = requester.name.as_deref().filter(|name| !name.is_empty());
    match identifier {
        Identifier::Phone(phone) => name.or(Some(phone)),
        Identifier::Email(_) | Identifier::ExternalId(_) => name,
    }
}

fn insert_marked(
    body: &mut Map<String, Value>,
    fields: &TicketFields,
    marker: &str,
    marker_field: Option<&str>,
) {
    let (mut tags, mut custom) = (fields.tags.clone(), fields.custom_fields.clone());
    match marker_field {
        Some(field) => {
            custom.insert(field.to_owned(), json!(marker));
        }
        None => {
            tags.truncate(TAGS_MAX - 1);
            tags.push(marker.to_owned());
        }
    }
    if !tags.is_empty() {
        body.insert("tags".to_owned(), json!(tags));
    }
    if !custom.is_empty() {
        body.insert("custom_fields".to_owned(), Value::Object(custom));
    }
}

/// The body of `POST /tickets/{id}/notes` or `/reply`. The marker is a visible line, because Freshdesk's
/// sanitiser may take hidden markup away. Each of several notes keeps its own, by which it is looked for.
pub(super) fn note(note: &NoteFields, marker: &str) -> Value {
    let marked = |body: &str, marker: &str| {
        format!("{body}<div style=\"color:#888;font-size:11px\">ref {marker}</div>")
    };
    let others = note.merged.iter().map(|(body, marker)| marked(body, marker));
    let body = std::iter::once(marked(&note.body, marker)).chain(others).collect::<Vec<_>>().join("<br>\n");
    if note.reply {
        return json!({ "body": body });
    }
    let mut request = json!({ "body": body, "private": note.private });
    if !note.notify_emails.is_empty() {
        request["notify_emails"] = json!(note.notify_emails);
    }
    request
}

/// The body of `PUT /tickets/{id}`, its tags excepted.
pub(super) fn update(update: &UpdateFields) -> Map<String, Value> {
    let mut body = Map::new();
    let numbers = [
        ("status", update.status),
        ("priority", update.priority),
        ("group_id", update.group_id),
        ("product_id", update.product_id),
        ("responder_id", update.responder_id),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            body.insert(name.to_owned(), json!(number));
        }
    }
    if let Some(ticket_type) = &update.ticket_type {
        body.insert("type".to_owned(), json!(ticket_type));
    }
    if !update.custom_fields.is_empty() {
        body.insert("custom_fields".to_owned(), Value::Object(update.custom_fields.clone()));
    }
    body
}

/// An update for people: which tags the ticket will have is known only when it is asked.
pub(super) fn update_preview(fields: &UpdateFields) -> Value {
    let mut body = update(fields);
    for (name, tags) in [("tags_add", &fields.tags_add), ("tags_remove", &fields.tags_remove)] {
        if !tags.is_empty() {
            body.insert(name.to_owned(), json!(tags));
        }
    }
    Value::Object(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requester(email: &str, external_id: &str, phone: &str, name: &str) -> Requester {
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Requester { name: set(name), email: set(email), phone: set(phone), external_id: set(external_id) }
    }

    fn fields(requester: Requester) -> TicketFields {
        let (subject, description) = ("Hi".to_owned(), "<p>x</p>".to_owned());
        TicketFields { requester, subject, description, ..TicketFields::default() }
    }

    #[test]
    fn one_identifier_is_sent_and_the_phone_goes_along() {
        let check = |requester: Requester, expect: &str| {
            let told = ticket(&fields(requester), "ds-1", None).map(|body| body.to_string());
            let expect = format!(r#"{{"subject":"Hi","description":"<p>x</p>",{expect},"tags":["ds-1"]}}"#);
            assert_eq!(told, Some(expect));
        };
        check(requester("a@b.c", "sp:1", "+57", "Ana"), r#""email":"a@b.c","phone":"+57","name":"Ana""#);
        check(requester("a@b.c", "", "", ""), r#""email":"a@b.c""#);
        check(requester("", "sp:1", "+57", ""), r#""unique_external_id":"sp:1","phone":"+57""#);
        check(requester("", "", "+57", "Ana"), r#""phone":"+57","name":"Ana""#);
        check(requester("", "", "+57", ""), r#""phone":"+57","name":"+57""#);
        let blank = Requester { email: Some(String::new()), ..Requester::default() };
        assert_eq!(ticket(&fields(blank), "ds-1", None), None);
    }

    #[test]
    fn what_is_set_is_sent_under_its_documented_name() {
        let mut full = fields(requester("a@b.c", "", "", ""));
        full.status = Some(2);
        full.priority = Some(1);
        full.source = Some(7);
        full.ticket_type = Some("Incident".to_owned());
        full.group_id = Some(51_000_123_456);
        full.product_id = Some(3);
        full.responder_id = Some(4);
        full.company_id = Some(5);
        full.email_config_id = Some(6);
        full.tags = vec!["bot".to_owned()];
        full.cc_emails = vec!["boss@b.c".to_owned()];
        full.custom_fields.insert("cf_n".to_owned(), json!(2));
        let expect = concat!(
            r#"{"subject":"Hi","description":"<p>x</p>","email":"a@b.c","status":2,"priority":1,"source":7,"#,
            r#""group_id":51000123456,"product_id":3,"responder_id":4,"company_id":5,"email_config_id":6,"#,
            r#""type":"Incident","cc_emails":["boss@b.c"],"tags":["bot"],"#,
            r#""custom_fields":{"cf_n":2,"cf_ref":"ds-1"}}"#,
        );
        assert_eq!(ticket(&full, "ds-1", Some("cf_ref")).unwrap().to_string(), expect);
    }

    #[test]
    fn the_marker_keeps_its_place_among_thirty_tags() {
        let mut crowded = fields(requester("a@b.c", "", "", ""));
        crowded.tags = (0..40).map(|n| n.to_string()).collect();
        let body = ticket(&crowded, "ds-1", None).unwrap();
        let tags = body["tags"].as_array().unwrap();
        assert_eq!((tags.len(), &tags[28], &tags[29]), (30, &json!("28"), &json!("ds-1")));
    }

    #[test]
    fn a_note_ends_with_its_marker() {
        let mut fields = NoteFields { body: "<p>x</p>".to_owned(), private: true, ..NoteFields::default() };
        let line = r#"<div style=\"color:#888;font-size:11px\">ref ds-1</div>"#;
        let expect = format!(r#"{{"body":"<p>x</p>{line}","private":true}}"#);
        assert_eq!(note(&fields, "ds-1").to_string(), expect);
        fields.private = false;
        fields.notify_emails.push("boss@b.c".to_owned());
        let expect = format!(r#"{{"body":"<p>x</p>{line}","private":false,"notify_emails":["boss@b.c"]}}"#);
        assert_eq!(note(&fields, "ds-1").to_string(), expect);
    }
}
