//! Contacts: create, find, read, change, delete.

use super::answer::{Answer, Errors};
use super::list::Query;
use super::multipart::Input;
use super::requesters;
use super::state::State;
use super::store::{Contact, IDENTIFIERS};
use super::validate::{self, Kind, Spec, given};
use super::view;
use serde_json::{Map, Value, json};

const FIELDS: [Spec; 19] = [
    ("name", Kind::Text),
    ("email", Kind::Email),
    ("phone", Kind::Text),
    ("mobile", Kind::Text),
    ("twitter_id", Kind::Text),
    ("unique_external_id", Kind::Text),
    ("other_emails", Kind::Emails),
    ("company_id", Kind::Id),
    ("view_all_tickets", Kind::Flag),
    ("other_companies", Kind::Objects),
    ("address", Kind::Text),
    ("custom_fields", Kind::Object),
    ("description", Kind::Text),
    ("job_title", Kind::Text),
    ("language", Kind::Text),
    ("tags", Kind::Texts),
    ("time_zone", Kind::Text),
    ("lookup_parameter", Kind::Text),
    ("social_handler", Kind::Objects),
];

/// `POST /contacts`.
pub(crate) fn create(state: &mut State, mut input: Input) -> Result<Answer, Answer> {
    let mut errors = Errors::default();
    check(state, &mut input, &mut errors);
    check_name(&input.fields, true, &mut errors);
    let is_known_by = |name: &&str| input.fields.get(*name).is_some_and(|value| !value.is_null());
    if !IDENTIFIERS.iter().any(is_known_by) && !input.fields.contains_key("social_handler") {
        let message = "Please fill at least 1 of email, mobile, phone, twitter_id, unique_external_id fields";
        errors.add("email", "missing_field", message);
    }
    errors.finish(400)?;
    requesters::duplicates(state, &input.fields, None).finish(409)?;
    let now = state.now();
    let id = state.store.insert_contact(input.fields, now);
    let location = format!("{}/api/v2/contacts/{id}", state.base_url);
    Ok(Answer::json(201, &shown(state, id)).with("Location", location))
}

/// `GET /contacts`.
pub(crate) fn list(state: &State, query: &Query<'_>) -> Result<Answer, Answer> {
    let mut known =
        vec!["email", "phone", "mobile", "company_id", "state", "updated_since", "page", "per_page"];
    if state.knobs.contacts_filter_unique_external_id {
        known.push("unique_external_id");
    }
    let mut errors = Errors::default();
    query.check_names(&known, &mut errors);
    let page = query.page(&mut errors);
    let company = query.number("company_id", &mut errors);
    let since = query.moment("updated_since", &mut errors);
    errors.finish(400)?;
    let is_wanted = |contact: &&Contact| {
        let has = |name: &str| query.get(name).is_none_or(|value| is_value(contact, name, value));
        let in_state = match query.get("state") {
            Some("deleted") => contact.deleted,
            Some("blocked") => contact.blocked,
            Some("verified") => false,
            _ => !contact.deleted && !contact.blocked,
        };
        let company_id = contact.fields.get("company_id").and_then(Value::as_u64);
        in_state
            && ["email", "phone", "mobile", "unique_external_id"].into_iter().all(has)
            && company.is_none_or(|wanted| company_id == Some(wanted))
            && since.is_none_or(|since| contact.updated_at.unix_seconds() >= since.unix_seconds())
    };
    let rows: Vec<&Contact> = state.store.contacts.values().filter(is_wanted).collect();
    Ok(query.answer(page, &rows, |contact| Value::Object(view::contact_json(contact))))
}

/// `GET /contacts/{id}`.
pub(crate) fn read(state: &State, id: u64) -> Result<Answer, Answer> {
    let contact = state.store.contacts.get(&id).ok_or_else(|| Answer::empty(404))?;
    Ok(Answer::json(200, &Value::Object(view::contact_json(contact))))
}

/// `PUT /contacts/{id}`: 404 for agents, 405 for the deleted and the blocked.
pub(crate) fn update(state: &mut State, id: u64, mut input: Input) -> Result<Answer, Answer> {
    let contact = state.store.contacts.get(&id).ok_or_else(|| Answer::empty(404))?;
    if contact.deleted || contact.blocked {
        return Err(Answer::method_not_allowed("PUT", &["GET"]));
    }
    let mut errors = Errors::default();
    check(state, &mut input, &mut errors);
    check_name(&input.fields, false, &mut errors);
    errors.finish(400)?;
    requesters::duplicates(state, &input.fields, Some(id)).finish(409)?;
    let now = state.now();
    state.store.update_contact(id, input.fields, now);
    Ok(Answer::json(200, &shown(state, id)))
}

/// `DELETE /contacts/{id}`: it stays, marked.
pub(crate) fn delete(state: &mut State, id: u64) -> Result<Answer, Answer> {
    let now = state.now();
    let contact = state.store.contacts.get_mut(&id).filter(|contact| !contact.deleted);
    let contact = contact.ok_or_else(|| Answer::empty(404))?;
    (contact.deleted, contact.updated_at) = (true, now);
    Ok(Answer::empty(204))
}

fn check(state: &State, input: &mut Input, errors: &mut Errors) {
    validate::shapes(input, &FIELDS, errors);
    let knobs = &state.knobs;
    for name in ["name", "phone", "mobile", "twitter_id", "unique_external_id"] {
        validate::text(&mut input.fields, (name, 255), knobs, errors);
    }
    validate::tags(&input.fields, knobs, errors);
    let companies = &state.form.companies;
    let is_company = |id: u64| companies.iter().any(|company| company.id == id);
    validate::existing("company_id", &input.fields, is_company, errors);
    // The sandbox's contacts have no fields of the account's own.
    if let Some(Value::Object(fields)) = given(&input.fields, "custom_fields", errors).cloned() {
        for name in fields.keys() {
            errors.add_unexpected(&format!("custom_fields.{name}"));
        }
    }
}

fn check_name(fields: &Map<String, Value>, is_mandatory: bool, errors: &mut Errors) {
    if errors.has("name") {
        return;
    }
    match fields.get("name").map(|name| name.as_str().unwrap_or_default()) {
        None if is_mandatory => errors.add("name", "missing_field", "It should be a/an String"),
        Some(name) if name.trim().is_empty() => {
            errors.add("name", "invalid_value", "It should not be blank as this is a mandatory field");
        }
        _ => {}
    }
}

fn is_value(contact: &Contact, name: &str, wanted: &str) -> bool {
    let has = contact.text(name).unwrap_or_default();
    if name == "email" { has.eq_ignore_ascii_case(wanted) } else { has == wanted }
}

fn shown(state: &State, id: u64) -> Value {
    state
        .store
        .contacts
        .get(&id)
        .map_or_else(|| json!(null), |contact| Value::Object(view::contact_json(contact)))
}
