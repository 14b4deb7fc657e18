//! Notes and replies.

use super::answer::{Answer, Errors};
use super::list::Query;
use super::multipart::Input;
use super::requesters;
use super::state::State;
use super::store::Conversation;
use super::tickets;
use super::validate::{self, Kind, Spec, given};
use super::view;
use serde_json::{Map, Value, json};

const NOTE: [Spec; 7] = [
    ("body", Kind::Text),
    ("structured_body", Kind::Object),
    ("private", Kind::Flag),
    ("incoming", Kind::Flag),
    ("notify_emails", Kind::Emails),
    ("user_id", Kind::Id),
    ("attachments", Kind::Files),
];
const REPLY: [Spec; 7] = [
    ("body", Kind::Text),
    ("structured_body", Kind::Object),
    ("from_email", Kind::Email),
    ("user_id", Kind::Id),
    ("cc_emails", Kind::Emails),
    ("bcc_emails", Kind::Emails),
    ("attachments", Kind::Files),
];

/// `POST /tickets/{id}/notes`.
pub(crate) fn note(state: &mut State, ticket: u64, mut input: Input) -> Result<Answer, Answer> {
    check(state, ticket, &mut input, &NOTE)?;
    let flag = |name: &str, default: bool| input.fields.get(name).and_then(Value::as_bool).unwrap_or(default);
    let mut fields = said(state, &input.fields);
    let source = 2;
    let to = input.fields.get("notify_emails").filter(|list| !list.is_null()).cloned();
    fields.insert("incoming".to_owned(), json!(flag("incoming", false)));
    fields.insert("private".to_owned(), json!(flag("private", true)));
    fields.insert("support_email".to_owned(), Value::Null);
    fields.insert("source".to_owned(), json!(source));
    fields.insert("to_emails".to_owned(), to.unwrap_or_else(|| json!([])));
    Ok(add(state, ticket, &input, fields))
}

/// `POST /tickets/{id}/reply`.
pub(crate) fn reply(state: &mut State, ticket: u64, mut input: Input) -> Result<Answer, Answer> {
    check(state, ticket, &mut input, &REPLY)?;
    let mut fields = said(state, &input.fields);
    let requester_id = state.store.tickets.get(&ticket).map_or(0, |ticket| ticket.requester_id);
    let requester = view::requester(state, requester_id);
    fields.insert("incoming".to_owned(), json!(false));
    fields.insert("private".to_owned(), json!(false));
    fields.insert("source".to_owned(), json!(0));
    fields.insert("replied_to".to_owned(), json!(requester.email.as_slice()));
    fields.insert("to_emails".to_owned(), json!(requester.email.as_slice()));
    for name in ["from_email", "cc_emails", "bcc_emails"] {
        let empty = if name == "from_email" { Value::Null } else { json!([]) };
        let value = input.fields.get(name).filter(|value| !value.is_null()).cloned();
        fields.insert(name.to_owned(), value.unwrap_or(empty));
    }
    Ok(add(state, ticket, &input, fields))
}

/// `GET /tickets/{id}/conversations`, oldest first.
pub(crate) fn list(state: &State, ticket: u64, query: &Query<'_>) -> Result<Answer, Answer> {
    let mut errors = Errors::default();
    query.check_names(&["page", "per_page"], &mut errors);
    let page = query.page(&mut errors);
    errors.finish(400)?;
    let found = state.store.tickets.get(&ticket).ok_or_else(|| Answer::empty(404))?;
    let json = |one: &Conversation| view::conversation_json(state, ticket, one);
    Ok(query.answer(page, &found.conversations, json))
}

/// `PUT /conversations/{id}`: the body of a note; replies were sent and stay.
pub(crate) fn update(state: &mut State, id: u64, mut input: Input) -> Result<Answer, Answer> {
    let ticket = *state.store.conversation_tickets.get(&id).ok_or_else(|| Answer::empty(404))?;
    let mut errors = Errors::default();
    validate::shapes(&mut input, &[("body", Kind::Text), ("attachments", Kind::Files)], &mut errors);
    check_body(&input.fields, &mut errors);
    errors.finish(400)?;
    let fields = said(state, &input.fields);
    let (files, now) = (tickets::keep(state, &input.files), state.now());
    let found = state.store.tickets.get_mut(&ticket);
    let conversations = found.into_iter().flat_map(|ticket| &mut ticket.conversations);
    let note = conversations.into_iter().find(|one| one.id == id).ok_or_else(|| Answer::empty(404))?;
    if note.fields.get("source").and_then(Value::as_u64) != Some(2) {
        return Err(Answer::method_not_allowed("PUT", &["DELETE"]));
    }
    for name in ["body", "body_text"] {
        note.fields.insert(name.to_owned(), fields.get(name).cloned().unwrap_or_default());
    }
    note.attachments.extend(files);
    note.updated_at = now;
    let note = note.clone();
    Ok(Answer::json(200, &view::conversation_json(state, ticket, &note)))
}

/// `DELETE /conversations/{id}`.
pub(crate) fn delete(state: &mut State, id: u64) -> Result<Answer, Answer> {
    let ticket = state.store.conversation_tickets.remove(&id).ok_or_else(|| Answer::empty(404))?;
    if let Some(ticket) = state.store.tickets.get_mut(&ticket) {
        ticket.conversations.retain(|one| one.id != id);
    }
    Ok(Answer::empty(204))
}

fn check(state: &State, ticket: u64, input: &mut Input, specs: &[Spec]) -> Result<(), Answer> {
    let bytes = tickets::changeable(state, ticket, "POST")?.attachment_bytes();
    let mut errors = Errors::default();
    validate::shapes(input, specs, &mut errors);
    check_body(&input.fields, &mut errors);
    let knobs = &state.knobs;
    validate::text(&mut input.fields, ("body", knobs.description_limit), knobs, &mut errors);
    let is_known = |id: u64| requesters::is_somebody(state, id);
    validate::existing("user_id", &input.fields, is_known, &mut errors);
    tickets::check_files(state, &input.files, bytes, &mut errors);
    errors.finish(400)
}

fn check_body(fields: &Map<String, Value>, errors: &mut Errors) {
    if errors.has("body") || given(fields, "structured_body", errors).is_some() {
        return;
    }
    match fields.get("body").and_then(Value::as_str) {
        None => errors.add("body", "missing_field", "It should be a/an String"),
        Some(text) if text.trim().is_empty() => {
            errors.add("body", "invalid_value", "It should not be blank as this is a mandatory field");
        }
        Some(_) => {}
    }
}

/// What was said, and by whom.
fn said(state: &State, given: &Map<String, Value>) -> Map<String, Value> {
    let body = given.get("body").and_then(Value::as_str).unwrap_or_default();
    let (html, text) = tickets::rich_text(state, body);
    let me = state.form.agents.first().map(|agent| agent.id);
    let user = given.get("user_id").and_then(Value::as_u64).or(me);
    let mut fields = Map::new();
    fields.insert("body".to_owned(), Value::from(html));
    fields.insert("body_text".to_owned(), Value::from(text));
    fields.insert("user_id".to_owned(), json!(user));
    if let Some(structured) = given.get("structured_body").filter(|value| !value.is_null()) {
        fields.insert("structured_body".to_owned(), structured.clone());
    }
    fields
}

fn add(state: &mut State, ticket: u64, input: &Input, fields: Map<String, Value>) -> Answer {
    let id = state.store.next_id();
    let (attachments, now) = (tickets::keep(state, &input.files), state.now());
    let conversation = Conversation { id, fields, attachments, created_at: now, updated_at: now };
    let json = view::conversation_json(state, ticket, &conversation);
    state.store.conversation_tickets.insert(id, ticket);
    if let Some(ticket) = state.store.tickets.get_mut(&ticket) {
        ticket.conversations.push(conversation);
        ticket.updated_at = now;
    }
    Answer::json(201, &json)
}
