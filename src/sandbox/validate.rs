//! Field by field: which keys a call may bring, of which type, and with which values.
//!
//! **Invariants:** all errors of a request are reported together; a field with the wrong type gets that one error
//! and no other. Texts are never taken for numbers in JSON; in forms, where all is text, they are.

use super::answer::Errors;
use super::form::{CustomField, CustomKind, Form};
use super::knobs::{FourByte, Knobs};
use super::moment;
use super::multipart::Input;
use serde_json::{Map, Value, json};

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Id,
    Number,
    Text,
    Email,
    Flag,
    Moment,
    Texts,
    Emails,
    Ids,
    Object,
    Objects,
    Files,
}

/// A key and its type.
pub(crate) type Spec = (&'static str, Kind);

/// Refuses unknown keys and wrong types; turns the texts of a form into what they stand for.
pub(crate) fn shapes(input: &mut Input, specs: &[Spec], errors: &mut Errors) {
    let lenient = input.lenient;
    for (name, value) in &mut input.fields {
        let Some((_, kind)) = specs.iter().find(|(known, _)| known == name) else {
            errors.add_unexpected(name);
            continue;
        };
        if lenient {
            coerce(value, *kind);
        }
        if !value.is_null() {
            shape(name, value, *kind, errors);
        }
    }
    if !input.files.is_empty() && !specs.iter().any(|(name, _)| *name == "attachments") {
        errors.add_unexpected("attachments");
    }
}

fn shape(name: &str, value: &Value, kind: Kind, errors: &mut Errors) {
    let elements = || value.as_array().map(Vec::as_slice).unwrap_or_default();
    match kind {
        Kind::Files => {
            let text = "It should contain elements of type valid file format only";
            errors.add(name, "datatype_mismatch", text);
        }
        _ if !fits(value, kind) => errors.add(name, "datatype_mismatch", mismatch(value, kind)),
        Kind::Email if !is_email(value.as_str().unwrap_or_default()) => {
            errors.add(name, "invalid_value", "It should be in the 'valid email address' format");
        }
        Kind::Emails if !elements().iter().all(|one| one.as_str().is_some_and(is_email)) => {
            let text = "It should contain elements that are in the 'valid email address' format";
            errors.add(name, "invalid_value", text);
        }
        Kind::Texts if !elements().iter().all(Value::is_string) => {
            errors.add(name, "datatype_mismatch", "It should contain elements of type String only");
        }
        Kind::Ids if !elements().iter().all(|one| fits(one, Kind::Id)) => {
            errors.add(name, "datatype_mismatch", "It should contain elements of type Positive Integer only");
        }
        Kind::Moment if value.as_str().and_then(moment::parse).is_none() => {
            errors.add(name, "invalid_value", "It should be in the 'combined date and time ISO8601' format");
        }
        _ => {}
    }
}

fn fits(value: &Value, kind: Kind) -> bool {
    match kind {
        Kind::Id => value.as_u64().is_some_and(|id| id > 0),
        Kind::Number => value.as_i64().is_some(),
        Kind::Text | Kind::Email | Kind::Moment => value.is_string(),
        Kind::Flag => value.is_boolean(),
        Kind::Texts | Kind::Emails | Kind::Ids | Kind::Objects => value.is_array(),
        Kind::Object => value.is_object(),
        Kind::Files => false,
    }
}

fn mismatch(value: &Value, kind: Kind) -> String {
    let wanted = match kind {
        Kind::Id => "Positive Integer",
        Kind::Number => "Integer",
        Kind::Text | Kind::Email => "String",
        Kind::Flag => "Boolean",
        Kind::Moment => "DateTime",
        Kind::Texts | Kind::Emails | Kind::Ids | Kind::Objects | Kind::Files => "Array",
        Kind::Object => "key/value pair",
    };
    format!("Value set is of type {}.It should be a/an {wanted}", type_name(value))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "Null",
        Value::Bool(_) => "Boolean",
        Value::Number(number) if number.is_f64() => "Float",
        Value::Number(_) => "Integer",
        Value::String(_) => "String",
        Value::Array(_) => "Array",
        Value::Object(_) => "key/value pair",
    }
}

/// What the text of a form stands for, when it stands for something else.
fn coerce(value: &mut Value, kind: Kind) {
    match (kind, &mut *value) {
        (Kind::Ids, Value::Array(elements)) => elements.iter_mut().for_each(|one| coerce(one, Kind::Id)),
        (Kind::Id | Kind::Number, Value::String(text)) => {
            if let Ok(number) = text.parse::<i64>() {
                *value = json!(number);
            }
        }
        (Kind::Flag, Value::String(text)) if text == "true" || text == "false" => {
            *value = json!(text == "true")
        }
        _ => {}
    }
}

/// One `@`, something before it, a name with a dot behind it, no blanks.
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "@,;<>()[]\\\"".contains(c);
    let labels = || domain.split('.');
    !local.is_empty()
        && text.len() <= 255
        && !text.contains("..")
        && !local.contains(forbidden)
        && !domain.contains(forbidden)
        && labels().count() > 1
        && labels().all(|label| !label.is_empty())
}

/// A value that is there and of the right type.
pub(crate) fn given<'a>(fields: &'a Map<String, Value>, name: &str, errors: &Errors) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null() && !errors.has(name))
}

/// Refuses a number that is none of the choices.
pub(crate) fn choice(fields: &Map<String, Value>, name: &str, allowed: &[u64], errors: &mut Errors) {
    let Some(value) = given(fields, name, errors) else { return };
    if !value.as_u64().is_some_and(|number| allowed.contains(&number)) {
        let list: Vec<String> = allowed.iter().map(u64::to_string).collect();
        errors.add(name, "invalid_value", one_of(&list));
    }
}

/// Refuses a word that is none of the choices.
pub(crate) fn word(fields: &Map<String, Value>, name: &str, allowed: &[String], errors: &mut Errors) {
    let Some(value) = given(fields, name, errors) else { return };
    if !allowed.iter().any(|word| value == word.as_str()) {
        errors.add(name, "invalid_value", one_of(allowed));
    }
}

/// Refuses the number of something that is not there.
pub(crate) fn existing(
    name: &str,
    fields: &Map<String, Value>,
    known: impl Fn(u64) -> bool,
    errors: &mut Errors,
) {
    let Some(value) = given(fields, name, errors) else { return };
    if !value.as_u64().is_some_and(known) {
        let noun = name.trim_end_matches("_id").replace('_', " ");
        errors.add(name, "invalid_value", format!("There is no {noun} matching the given {name}"));
    }
}

fn one_of(choices: &[String]) -> String {
    format!("It should be one of these values: '{}'", choices.join(","))
}

/// Refuses a text of more than `limit` characters (0 is no limit), and characters that the account cannot store.
pub(crate) fn text(
    fields: &mut Map<String, Value>,
    (name, limit): (&str, usize),
    knobs: &Knobs,
    errors: &mut Errors,
) {
    if errors.has(name) {
        return;
    }
    let Some(Value::String(text)) = fields.get_mut(name) else { return };
    let length = text.chars().count();
    if limit > 0 && length > limit {
        let message = format!("Has {length} characters, it can have maximum of {limit} characters");
        errors.add(name, "invalid_value", message);
    } else if text.chars().any(|c| c.len_utf8() == 4) {
        match knobs.four_byte {
            FourByte::Keep => {}
            FourByte::Replace => *text = text.replace(|c: char| c.len_utf8() == 4, "?"),
            FourByte::Reject => {
                errors.add(name, "invalid_value", "It contains characters that cannot be stored")
            }
        }
    }
}

/// Refuses tags that are too long, too many, or two in one.
pub(crate) fn tags(fields: &Map<String, Value>, knobs: &Knobs, errors: &mut Errors) {
    let Some(Value::Array(tags)) = given(fields, "tags", errors) else { return };
    let too_long = |tag: &str| tag.chars().count() > knobs.tag_limit;
    if tags.iter().filter_map(Value::as_str).any(too_long) {
        let limit = knobs.tag_limit;
        let message = format!("It should only contain elements that have maximum of {limit} characters");
        errors.add("tags", "invalid_value", message);
    } else if tags.len() > knobs.tags_max {
        errors.add("tags", "invalid_value", format!("It can have maximum of {} elements", knobs.tags_max));
    } else if !knobs.tags_allow_comma && tags.iter().filter_map(Value::as_str).any(|tag| tag.contains(',')) {
        errors.add("tags", "invalid_value", "It should not contain elements with ','");
    }
}

/// Refuses unknown custom fields, wrong types and values that are no choice.
pub(crate) fn custom_fields(input: &mut Input, form: &Form, errors: &mut Errors) {
    let lenient = input.lenient;
    let Some(Value::Object(fields)) = input.fields.get_mut("custom_fields") else { return };
    for (name, value) in fields {
        let path = format!("custom_fields.{name}");
        match form.custom_fields.iter().find(|field| field.name == *name) {
            None => errors.add_unexpected(&path),
            Some(field) => {
                if lenient {
                    coerce_custom(value, field.kind);
                }
                custom_field(&path, value, field, errors);
            }
        }
    }
}

fn custom_field(path: &str, value: &Value, field: &CustomField, errors: &mut Errors) {
    let text = value.as_str();
    let (fits, wanted) = match field.kind {
        _ if value.is_null() => return,
        CustomKind::Text | CustomKind::Paragraph | CustomKind::Dropdown => (text.is_some(), "String"),
        CustomKind::Number => (value.as_i64().is_some(), "Integer"),
        CustomKind::Decimal => (value.is_number(), "Number"),
        CustomKind::Checkbox => (value.is_boolean(), "Boolean"),
        CustomKind::Date => (text.is_some(), "Date"),
    };
    if !fits {
        let message = format!("Value set is of type {}.It should be a/an {wanted}", type_name(value));
        errors.add(path, "datatype_mismatch", message);
        return;
    }
    let length = text.unwrap_or_default().chars().count();
    match (field.kind, text) {
        (CustomKind::Dropdown, Some(text)) if !field.choices.iter().any(|choice| choice == text) => {
            errors.add(path, "invalid_value", one_of(&field.choices));
        }
        (CustomKind::Date, Some(text)) if !moment::is_date(text) => {
            errors.add(path, "invalid_value", "It should be in the 'YYYY-MM-DD' format");
        }
        (CustomKind::Text, _) if length > 255 => {
            let message = format!("Has {length} characters, it can have maximum of 255 characters");
            errors.add(path, "invalid_value", message);
        }
        _ => {}
    }
}

fn coerce_custom(value: &mut Value, kind: CustomKind) {
    match kind {
        CustomKind::Number => coerce(value, Kind::Number),
        CustomKind::Checkbox => coerce(value, Kind::Flag),
        CustomKind::Decimal => {
            let number = value.as_str().and_then(|text| text.parse::<f64>().ok());
            if let Some(number) = number.and_then(serde_json::Number::from_f64) {
                *value = Value::Number(number);
            }
        }
        _ => {}
    }
}

/// Refuses a ticket (as it would be after the call) that lacks what the form requires.
pub(crate) fn required(ticket: &Map<String, Value>, form: &Form, errors: &mut Errors) {
    let closing =
        ticket.get("status").and_then(Value::as_u64).is_some_and(|status| status == 4 || status == 5);
    let on_closure = form.required_for_closure.iter().filter(|_| closing);
    for name in form.required_for_agents.iter().chain(on_closure) {
        lacks(name, ticket.get(name), required_message(name, form), errors);
    }
    let values = ticket.get("custom_fields");
    for field in &form.custom_fields {
        if field.required_for_agents || (closing && field.required_for_closure) {
            let path = format!("custom_fields.{}", field.name);
            let value = values.and_then(|values| values.get(&field.name));
            lacks(&path, value, custom_message(field), errors);
        }
    }
}

fn lacks(name: &str, value: Option<&Value>, message: String, errors: &mut Errors) {
    if errors.has(name) {
        return;
    }
    match value {
        None | Some(Value::Null) => errors.add(name, "missing_field", message),
        Some(Value::String(text)) if text.trim().is_empty() => {
            errors.add(name, "invalid_value", "It should not be blank as this is a mandatory field");
        }
        Some(_) => {}
    }
}

fn required_message(name: &str, form: &Form) -> String {
    match name {
        "type" => one_of(&form.ticket_types),
        "subject" | "description" => "It should be a/an String".to_owned(),
        _ => "It should be a/an Positive Integer".to_owned(),
    }
}

fn custom_message(field: &CustomField) -> String {
    let wanted = match field.kind {
        CustomKind::Dropdown => return one_of(&field.choices),
        CustomKind::Text | CustomKind::Paragraph => "String",
        CustomKind::Number => "Integer",
        CustomKind::Decimal => "Number",
        CustomKind::Checkbox => "Boolean",
        CustomKind::Date => "Date",
    };
    format!("It should be a/an {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_text() {
        let check = |text: &str, expect: bool| assert_eq!(is_email(text), expect, "{text}");
        check("ana@acme.example", true);
        check("ana+1@mail.acme.example", true);
        check("ana", false);
        check("ana@acme", false);
        check("ana@@acme.example", false);
        check("ana ruiz@acme.example", false);
        check("@acme.example", false);
        check("ana@acme.", false);
        check("ana@.example", false);
    }
}
