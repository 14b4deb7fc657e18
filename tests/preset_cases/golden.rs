//! `plan.json`: the exact outcome of a case, so that a change to what agents read shows in its commit.

use super::Case;
use super::world::{Done, Effect, Results};
use deskspool::freshdesk::write::{
    Attachment, ContactFields, NoteFields, Requester, TicketFields, UpdateFields, WhenClosed, Write,
};
use serde_json::{Map, Value, json};

/// Longer texts are abbreviated to their ends and their length.
const TEXT_MAX_CHARS: usize = 6000;

/// What differs from the golden; writes it instead with `UPDATE_GOLDEN=1`.
pub fn check(case: &Case, results: &Results) -> Option<String> {
    let is = format!("{:#}\n", to_json(results));
    let path = case.dir.join("plan.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&case.dir).expect("the directory can be made");
        std::fs::write(&path, is).expect("the golden can be written");
        return None;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(is.lines()).find(|(golden, is)| golden != is);
    match differs {
        Some((golden, is)) => Some(format!("plan.json says {golden}\n           but now is {is}")),
        None if golden != is => Some("plan.json has another length (UPDATE_GOLDEN=1 rewrites it)".to_owned()),
        None => None,
    }
}

fn to_json(results: &Results) -> Value {
    match results {
        Results::Refused(reason) => json!({ "refused": reason }),
        Results::NotUnderstood(reason) => json!({ "not_understood": reason }),
        Results::Events { done, .. } => json!({ "events": done.iter().map(event).collect::<Vec<_>>() }),
    }
}

fn event(done: &Done) -> Value {
    let mut event = Map::new();
    event.insert("kind".to_owned(), json!(done.draft.kind));
    event.insert("event_id".to_owned(), json!(done.draft.event_id));
    event.insert("conversation".to_owned(), json!(done.draft.conversation));
    let (key, value) = match &done.effect {
        Effect::Duplicate => ("duplicate", json!(true)),
        Effect::Ignored(reason) => ("ignored", json!(reason)),
        Effect::Dead(reason) => ("dead", json!(reason)),
        Effect::Writes(writes) => ("writes", json!(writes.iter().map(write).collect::<Vec<_>>())),
    };
    event.insert(key.to_owned(), value);
    Value::Object(event)
}

fn write(write: &Write) -> Value {
    match write {
        Write::CreateTicket(ticket) => json!({ "create_ticket": self::ticket(ticket) }),
        Write::AddNote(note) => json!({ "add_note": self::note(note) }),
        Write::UpdateTicket(update) => json!({ "update_ticket": self::update(update) }),
        Write::PutContact(contact) => json!({ "put_contact": self::contact(contact) }),
    }
}

/// Members that are not sent are left out.
fn members(all: Value) -> Value {
    let Value::Object(all) = all else { return all };
    let is_sent = |value: &Value| !(value.is_null() || value == &json!([]) || value == &json!({}));
    Value::Object(all.into_iter().filter(|(_, value)| is_sent(value)).collect())
}

fn requester(requester: &Requester) -> Value {
    let Requester { name, email, phone, external_id } = requester;
    members(json!({ "name": name, "email": email, "phone": phone, "external_id": external_id }))
}

fn ticket(ticket: &TicketFields) -> Value {
    members(json!({
        "requester": requester(&ticket.requester),
        "subject": ticket.subject,
        "description": lines(&ticket.description),
        "status": ticket.status,
        "priority": ticket.priority,
        "source": ticket.source,
        "type": ticket.ticket_type,
        "group_id": ticket.group_id,
        "product_id": ticket.product_id,
        "responder_id": ticket.responder_id,
        "company_id": ticket.company_id,
        "email_config_id": ticket.email_config_id,
        "tags": ticket.tags,
        "custom_fields": ticket.custom_fields,
        "cc_emails": ticket.cc_emails,
        "attachments": attachments(&ticket.attachments),
    }))
}

fn update(update: &UpdateFields) -> Value {
    members(json!({
        "status": update.status,
        "priority": update.priority,
        "type": update.ticket_type,
        "group_id": update.group_id,
        "product_id": update.product_id,
        "responder_id": update.responder_id,
        "tags_add": update.tags_add,
        "tags_remove": update.tags_remove,
        "custom_fields": update.custom_fields,
    }))
}

fn contact(contact: &ContactFields) -> Value {
    members(json!({
        "requester": requester(&contact.requester),
        "mobile": contact.mobile,
        "job_title": contact.job_title,
        "address": contact.address,
        "description": contact.description,
        "tags_add": contact.tags_add,
        "custom_fields": contact.custom_fields,
        "overwrite": contact.overwrite.then_some(true),
    }))
}

fn attachments(attachments: &[Attachment]) -> Value {
    attachments.iter().map(|file| json!(format!("{}, {} bytes", file.name, file.bytes.len()))).collect()
}

fn note(note: &NoteFields) -> Value {
    members(json!({
        "body": lines(&note.body),
        "private": note.private,
        "notify_emails": note.notify_emails,
        "reply": note.reply.then_some(true),
        "attachments": attachments(&note.attachments),
        "when_closed": match note.when_closed {
            WhenClosed::Leave => None,
            WhenClosed::Reopen => Some("reopen"),
            WhenClosed::NewTicket(_) => Some("new ticket"),
        },
    }))
}

/// One JSON text per line of HTML: a difference is then a line.
fn lines(html: &str) -> Value {
    let count = html.chars().count();
    if count <= TEXT_MAX_CHARS {
        return json!(html.lines().collect::<Vec<_>>());
    }
    let head: String = html.chars().take(300).collect();
    let tail: String = html.chars().skip(count - 600).collect();
    json!({
        "begins": head.lines().collect::<Vec<_>>(),
        "ends": tail.lines().collect::<Vec<_>>(),
        "chars": count,
    })
}
