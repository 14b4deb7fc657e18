//! Who asks: finding the contact that a ticket names, or making it.

use super::answer::Errors;
use super::knobs::Knobs;
use super::state::State;
use super::store::UNIQUE;
use super::validate::given;
use serde_json::{Map, Value};

/// Members of a ticket that name somebody.
const NAMES: [&str; 6] =
    ["requester_id", "email", "phone", "twitter_id", "unique_external_id", "facebook_id"];
/// Those by which a contact is made when there is none.
const MAKES: [&str; 4] = ["email", "unique_external_id", "phone", "twitter_id"];

/// Whether `fields` name a requester at all.
pub(crate) fn is_named(fields: &Map<String, Value>) -> bool {
    NAMES.iter().any(|name| text_or_number(fields, name))
}

/// Refuses a new ticket without a requester, and a requester who is not there.
pub(crate) fn check(state: &State, fields: &Map<String, Value>, errors: &mut Errors) {
    if !is_named(fields) && !NAMES.iter().any(|name| errors.has(name)) {
        let list = NAMES.join(", ");
        let message = format!("One of the following attributes is mandatory: {list}");
        errors.add("requester_id", "missing_field", message);
    }
    check_values(state, fields, errors);
}

/// Refuses a requester who is not there, and a phone without a name.
pub(crate) fn check_values(state: &State, fields: &Map<String, Value>, errors: &mut Errors) {
    let only_phone = text_or_number(fields, "phone") && !text_or_number(fields, "email");
    if only_phone && !text_or_number(fields, "name") && !errors.has("name") {
        errors.add("name", "missing_field", "It should be a/an String");
    }
    let id = given(fields, "requester_id", errors).and_then(Value::as_u64);
    if id.is_some_and(|id| !is_somebody(state, id)) {
        errors.add("requester_id", "invalid_value", no_contact("requester_id"));
    }
    if given(fields, "facebook_id", errors).is_some() {
        errors.add("facebook_id", "invalid_value", no_contact("facebook_id"));
    }
}

/// Whether `id` is a contact's or an agent's.
pub(crate) fn is_somebody(state: &State, id: u64) -> bool {
    state.store.contacts.contains_key(&id) || state.form.agent(id).is_some()
}

/// "There is no contact matching the given …".
pub(crate) fn no_contact(name: &str) -> String {
    format!("There is no contact matching the given {name}")
}

/// The requester of checked `fields`, made when necessary, and whether he is blocked or deleted.
pub(crate) fn resolve(state: &mut State, fields: &Map<String, Value>) -> (u64, bool) {
    let order = order(&state.knobs);
    let id = order.iter().find_map(|name| find(state, name, fields)).unwrap_or_else(|| make(state, fields));
    let contact = state.store.contacts.get(&id);
    (id, contact.is_some_and(|contact| contact.blocked || contact.deleted))
}

/// The knob's order, and after it what the knob leaves out.
fn order(knobs: &Knobs) -> Vec<&'static str> {
    let said = knobs.identifier_order.iter().filter_map(|said| NAMES.into_iter().find(|name| name == said));
    let mut order: Vec<&'static str> = said.collect();
    for name in NAMES {
        if !order.contains(&name) {
            order.push(name);
        }
    }
    order
}

/// Whom the member `name` names; nothing when it is absent or names nobody yet.
fn find(state: &State, name: &'static str, fields: &Map<String, Value>) -> Option<u64> {
    let value = fields.get(name)?;
    match name {
        "requester_id" => value.as_u64(),
        "email" => {
            let email = value.as_str()?;
            let agent = state.form.agent_by_email(email).map(|agent| agent.id);
            agent.or_else(|| state.store.contact_by("email", email))
        }
        "phone" => {
            let phone = value.as_str()?;
            state.store.contact_by("phone", phone).or_else(|| state.store.contact_by("mobile", phone))
        }
        _ => state.store.contact_by(name, value.as_str()?),
    }
}

fn make(state: &mut State, fields: &Map<String, Value>) -> u64 {
    let mut contact = Map::new();
    for name in MAKES {
        let value = fields.get(name).and_then(Value::as_str).filter(|value| !value.is_empty());
        if let Some(value) = value {
            contact.insert(name.to_owned(), Value::from(value));
        }
    }
    let shown = fields.get("name").and_then(Value::as_str).filter(|name| !name.trim().is_empty());
    let identifier = MAKES.iter().find_map(|name| contact.get(*name)).and_then(Value::as_str);
    let derived = identifier.map(|text| text.split('@').next().unwrap_or(text));
    let name = shown.or(derived).unwrap_or("Unknown").to_owned();
    contact.insert("name".to_owned(), Value::from(name));
    let now = state.now();
    state.store.insert_contact(contact, now)
}

/// Who has one of the unique identifiers in `fields` already, `except` himself.
pub(crate) fn duplicates(state: &State, fields: &Map<String, Value>, except: Option<u64>) -> Errors {
    let mut errors = Errors::default();
    for name in UNIQUE {
        if let Some(owner) = find(state, name, fields).filter(|owner| Some(*owner) != except) {
            errors.add_duplicate(name, owner);
        }
    }
    errors
}

fn text_or_number(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).is_some_and(|value| match value {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        _ => true,
    })
}
