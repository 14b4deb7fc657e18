//! One ticket: create, read, update, delete, restore.

use super::answer::{Answer, Errors, invalid};
use super::form::PRIORITIES;
use super::knobs::BlockedRequester;
use super::list::Query;
use super::moment;
use super::multipart::{File, Input};
use super::requesters;
use super::state::State;
use super::store::{Attachment, Ticket};
use super::validate::{self, Kind, Spec};
use super::view::{self, Shown};
use crate::html;
use serde_json::{Map, Value, json};

const FIELDS: [Spec; 27] = [
    ("requester_id", Kind::Id),
    ("email", Kind::Email),
    ("phone", Kind::Text),
    ("twitter_id", Kind::Text),
    ("unique_external_id", Kind::Text),
    ("facebook_id", Kind::Text),
    ("name", Kind::Text),
    ("subject", Kind::Text),
    ("description", Kind::Text),
    ("status", Kind::Number),
    ("priority", Kind::Number),
    ("source", Kind::Number),
    ("type", Kind::Text),
    ("group_id", Kind::Id),
    ("product_id", Kind::Id),
    ("responder_id", Kind::Id),
    ("email_config_id", Kind::Id),
    ("company_id", Kind::Id),
    ("internal_agent_id", Kind::Id),
    ("internal_group_id", Kind::Id),
    ("custom_fields", Kind::Object),
    ("tags", Kind::Texts),
    ("due_by", Kind::Moment),
    ("fr_due_by", Kind::Moment),
    ("parent_id", Kind::Id),
    ("lookup_parameter", Kind::Text),
    ("attachments", Kind::Files),
];
const ONLY_ON_CREATE: [Spec; 2] = [("cc_emails", Kind::Emails), ("related_ticket_ids", Kind::Ids)];

/// Members that decide about the requester or the call and are not stored as they are.
const NOT_STORED: [&str; 9] = [
    "requester_id",
    "email",
    "phone",
    "twitter_id",
    "unique_external_id",
    "facebook_id",
    "name",
    "lookup_parameter",
    "attachments",
];

/// `POST /tickets`.
pub(crate) fn create(state: &mut State, mut input: Input) -> Result<Answer, Answer> {
    let mut errors = Errors::default();
    let specs: Vec<Spec> = FIELDS.iter().chain(&ONLY_ON_CREATE).copied().collect();
    check(state, &mut input, &specs, &mut errors);
    requesters::check(state, &input.fields, &mut errors);
    let mut whole = blank();
    store_fields(state, &mut whole, &input.fields);
    validate::required(&whole, &state.form, &mut errors);
    check_files(state, &input.files, 0, &mut errors);
    errors.finish(400)?;
    if state.store.tickets.len() >= state.knobs.tickets_max {
        return Err(Answer::coded(403, "inconsistent_state", "The sandbox holds as many tickets as it may"));
    }
    let (requester_id, is_blocked) = requesters::resolve(state, &input.fields);
    if is_blocked && state.knobs.blocked_requester == BlockedRequester::Reject {
        return Err(invalid("requester_id", "invalid_value", "The requester is blocked or deleted"));
    }
    let ticket = Ticket {
        id: 0,
        requester_id,
        fields: whole,
        attachments: keep(state, &input.files),
        conversations: Vec::new(),
        created_at: state.now(),
        updated_at: state.now(),
        created_monotonic: state.monotonic(),
        spam: is_blocked,
        deleted: false,
    };
    let id = state.store.insert_ticket(ticket);
    let location = format!("{}/api/v2/tickets/{id}", state.base_url);
    Ok(Answer::json(201, &shown(state, id)).with("Location", location))
}

/// `GET /tickets/{id}`.
pub(crate) fn read(state: &State, id: u64, query: &Query<'_>) -> Result<Answer, Answer> {
    let mut errors = Errors::default();
    query.check_names(&["include"], &mut errors);
    let include = query.include(&["conversations", "requester", "company", "stats"], &mut errors);
    errors.finish(400)?;
    let ticket = state.store.tickets.get(&id).ok_or_else(|| Answer::empty(404))?;
    if ticket.deleted && state.knobs.deleted_ticket_forbidden {
        return Err(Answer::coded(403, "access_denied", "You are not authorized to perform this action."));
    }
    let mut json = view::ticket_json(state, ticket, Shown::ALL);
    for part in include {
        json.insert(part.to_owned(), embedded(state, ticket, part));
    }
    Ok(Answer::json(200, &Value::Object(json)))
}

/// What `include` puts into a ticket.
pub(crate) fn embedded(state: &State, ticket: &Ticket, part: &str) -> Value {
    match part {
        "conversations" => {
            let oldest = ticket.conversations.iter().take(10);
            oldest.map(|one| view::conversation_json(state, ticket.id, one)).collect()
        }
        "requester" => {
            let requester = view::requester(state, ticket.requester_id);
            let mobile = state.store.contacts.get(&requester.id).and_then(|contact| contact.text("mobile"));
            json!({
                "id": requester.id, "name": requester.name, "email": requester.email,
                "mobile": mobile, "phone": requester.phone,
            })
        }
        "company" => {
            let id = ticket.number("company_id");
            let company = state.form.companies.iter().find(|company| Some(company.id) == id);
            company.map_or_else(|| json!({}), |company| json!({"id": company.id, "name": company.name}))
        }
        _ => {
            let changed = ticket.updated_at.to_string();
            let status = ticket.number("status");
            json!({
                "agent_responded_at": null, "requester_responded_at": null, "first_responded_at": null,
                "status_updated_at": changed, "reopened_at": null,
                "resolved_at": (status == Some(4)).then_some(&changed),
                "closed_at": (status == Some(5)).then_some(&changed),
                "pending_since": (status == Some(3)).then_some(&changed),
            })
        }
    }
}

/// `PUT /tickets/{id}`.
pub(crate) fn update(state: &mut State, id: u64, mut input: Input) -> Result<Answer, Answer> {
    let ticket = changeable(state, id, "PUT")?;
    let (mut whole, bytes) = (ticket.fields.clone(), ticket.attachment_bytes());
    let is_outbound = ticket.number("source") == Some(10);
    let mut errors = Errors::default();
    check(state, &mut input, &FIELDS, &mut errors);
    requesters::check_values(state, &input.fields, &mut errors);
    for name in ["subject", "description"] {
        if is_outbound && input.fields.contains_key(name) && !errors.has(name) {
            errors.add(name, "readonly_field", "It cannot be changed on an outbound ticket");
        }
    }
    store_fields(state, &mut whole, &input.fields);
    if state.knobs.enforce_required_on_update {
        validate::required(&whole, &state.form, &mut errors);
    }
    check_files(state, &input.files, bytes, &mut errors);
    errors.finish(400)?;
    if requesters::is_named(&input.fields) {
        let (requester, _) = requesters::resolve(state, &input.fields);
        state.store.set_requester(id, requester);
    }
    let (files, now) = (keep(state, &input.files), state.now());
    let ticket = state.store.tickets.get_mut(&id).expect("it was there under the same lock");
    ticket.fields = whole;
    ticket.attachments.extend(files);
    ticket.updated_at = now;
    Ok(Answer::json(200, &shown(state, id)))
}

/// `DELETE /tickets/{id}`.
pub(crate) fn delete(state: &mut State, id: u64) -> Result<Answer, Answer> {
    set_deleted(state, id, true)
}

/// `PUT /tickets/{id}/restore`.
pub(crate) fn restore(state: &mut State, id: u64) -> Result<Answer, Answer> {
    set_deleted(state, id, false)
}

fn set_deleted(state: &mut State, id: u64, deleted: bool) -> Result<Answer, Answer> {
    let now = state.now();
    let ticket = state.store.tickets.get_mut(&id).filter(|ticket| ticket.deleted != deleted);
    let ticket = ticket.ok_or_else(|| Answer::empty(404))?;
    (ticket.deleted, ticket.updated_at) = (deleted, now);
    Ok(Answer::empty(204))
}

/// The ticket, when it is neither spam nor deleted.
pub(crate) fn changeable<'a>(state: &'a State, id: u64, method: &str) -> Result<&'a Ticket, Answer> {
    let ticket = state.store.tickets.get(&id).ok_or_else(|| Answer::empty(404))?;
    match ticket.spam || ticket.deleted {
        true => Err(Answer::method_not_allowed(method, &["GET"])),
        false => Ok(ticket),
    }
}

/// Refuses files that would make a ticket with `bytes` of them too large.
pub(crate) fn check_files(state: &State, files: &[File], bytes: u64, errors: &mut Errors) {
    let limit = state.knobs.attachment_limit_bytes;
    if bytes + files.iter().map(|file| file.size_bytes).sum::<u64>() > limit {
        let message = format!("Invalid file size. It should be less than {} MB", limit / (1024 * 1024));
        errors.add("attachments", "invalid_size", message);
    }
}

/// The files under numbers of their own.
pub(crate) fn keep(state: &mut State, files: &[File]) -> Vec<Attachment> {
    let created_at = state.now();
    let mut keep = |file: &File| Attachment {
        id: state.store.next_id(),
        name: file.name.clone(),
        content_type: file.content_type.clone(),
        size_bytes: file.size_bytes,
        created_at,
    };
    files.iter().map(&mut keep).collect()
}

/// HTML as the service stores it, and its text.
pub(crate) fn rich_text(state: &State, given: &str) -> (String, String) {
    let clean = html::sanitise(given);
    let text = html::to_text(&clean, state.knobs.text_collapses_whitespace);
    let wrapped = if clean.starts_with("<div>") { clean } else { format!("<div>{clean}</div>") };
    (wrapped, text)
}

fn shown(state: &State, id: u64) -> Value {
    let ticket = state.store.tickets.get(&id).expect("it was stored under the same lock");
    Value::Object(view::ticket_json(state, ticket, Shown::ALL))
}

/// Everything but the requester and what the form requires.
fn check(state: &State, input: &mut Input, specs: &[Spec], errors: &mut Errors) {
    let (form, knobs) = (&state.form, &state.knobs);
    validate::shapes(input, specs, errors);
    validate::custom_fields(input, form, errors);
    let fields = &mut input.fields;
    validate::text(fields, ("subject", knobs.subject_limit), knobs, errors);
    validate::text(fields, ("description", knobs.description_limit), knobs, errors);
    validate::text(fields, ("name", 255), knobs, errors);
    validate::tags(fields, knobs, errors);
    let numbers = |choices: &[super::form::Named]| choices.iter().map(|choice| choice.id).collect::<Vec<_>>();
    validate::choice(fields, "status", &numbers(&form.statuses), errors);
    validate::choice(fields, "priority", &PRIORITIES.map(|(number, _)| number), errors);
    validate::choice(fields, "source", &numbers(&form.sources), errors);
    validate::word(fields, "type", &form.ticket_types, errors);
    let lookups = ["display_id", "primary_field_value"].map(str::to_owned);
    validate::word(fields, "lookup_parameter", &lookups, errors);
    for (name, known) in [
        ("group_id", &form.groups),
        ("internal_group_id", &form.groups),
        ("product_id", &form.products),
        ("company_id", &form.companies),
        ("email_config_id", &form.email_configs),
    ] {
        validate::existing(name, fields, |id| known.iter().any(|choice| choice.id == id), errors);
    }
    for name in ["responder_id", "internal_agent_id"] {
        validate::existing(name, fields, |id| form.agent(id).is_some(), errors);
    }
    validate::existing("parent_id", fields, |id| state.store.tickets.contains_key(&id), errors);
}

/// Puts what a call brought into a ticket's members.
fn store_fields(state: &State, ticket: &mut Map<String, Value>, given: &Map<String, Value>) {
    let names_mailbox = given.get("email_config_id").is_some_and(|id| !id.is_null());
    for (name, value) in given {
        match (name.as_str(), value) {
            (name, _) if NOT_STORED.contains(&name) => {}
            ("status" | "priority" | "source" | "tags" | "cc_emails" | "custom_fields", Value::Null) => {}
            ("product_id", _) if names_mailbox => {}
            ("description", Value::String(given)) => {
                let (html, text) = rich_text(state, given);
                let html = if given.trim().is_empty() { String::new() } else { html };
                ticket.insert("description".to_owned(), Value::from(html));
                ticket.insert("description_text".to_owned(), Value::from(text));
            }
            ("custom_fields", Value::Object(given)) => {
                if let Some(Value::Object(stored)) = ticket.get_mut("custom_fields") {
                    stored.extend(given.clone());
                }
            }
            ("due_by" | "fr_due_by", Value::String(text)) => {
                let utc = moment::parse(text).map(|moment| moment.to_string());
                ticket.insert(name.clone(), json!(utc));
            }
            _ => {
                ticket.insert(name.clone(), value.clone());
            }
        }
    }
}

/// A ticket before anything was said about it.
fn blank() -> Map<String, Value> {
    let blank = json!({
        "subject": null, "description": null, "description_text": null,
        "status": 2, "priority": 1, "source": 2, "type": null,
        "company_id": null, "email_config_id": null, "group_id": null, "product_id": null, "responder_id": null,
        "cc_emails": [], "fwd_emails": [], "reply_cc_emails": [], "to_emails": null,
        "fr_escalated": false, "is_escalated": false, "due_by": null, "fr_due_by": null,
        "tags": [], "custom_fields": {},
    });
    match blank {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
