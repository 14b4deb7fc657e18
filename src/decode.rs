//! Bytes to JSON: what a request's body says, whatever its header claims.
//!
//! Senders lie about their content type more often than about their content (SendPulse documents a form and
//! posts a JSON array), so the body is sniffed first and the header believed second. Repairs what can be
//! repaired without guessing: a BOM, bytes that are not UTF-8, half an emoji, control characters inside
//! text, a footer behind the JSON. Numbers keep every digit they came with.
//!
//! Never decides what an event means, and never quotes the body in an error.

mod repair;
mod text;

use serde_json::{Map, Value};
use thiserror::Error;

/// More form fields than this is no form a person filled in.
const FORM_FIELDS_MAX: usize = 1000;

/// A body that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// What it says. Objects keep the order of their members; of equal names the last wins.
    pub value: Value,
    /// How it was written.
    pub how: BodyKind,
}

/// How a body was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// One JSON value.
    Json,
    /// Several JSON values, one after the other; the decoded value is their array.
    JsonLines,
    /// `name=value&…`; the decoded value is an object, repeated names are arrays.
    Form,
    /// A form whose only content is JSON; the decoded value is that JSON.
    JsonInForm,
    /// Nothing, or blanks: the decoded value is an array without elements.
    Empty,
}

/// Why a body was not understood: one line for admins, without any of the body's text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// It began like JSON, or its header said so, but it is not.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// Neither JSON nor a form.
    #[error("neither JSON nor a form: {0}")]
    Unknown(&'static str),
    /// More than a person fills in.
    #[error("form of more than {FORM_FIELDS_MAX} fields")]
    TooManyFields,
}

/// Understands a body. `content_type` is the header's value, if the request had one.
pub fn decode(body: &[u8], content_type: Option<&str>) -> Result<Decoded, DecodeError> {
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    if body.starts_with(&[0x1f, 0x8b]) {
        return Err(DecodeError::Unknown("the body is compressed (gzip)"));
    }
    if content_type.contains("multipart/") {
        return Err(DecodeError::Unknown("the body is multipart"));
    }
    let text = text::to_text(body, &content_type);
    let content = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    if content.is_empty() {
        return Ok(Decoded { value: Value::Array(Vec::new()), how: BodyKind::Empty });
    }
    if content.starts_with(['{', '[']) {
        return json(&text);
    }
    if content_type.contains("x-www-form-urlencoded") {
        return form(content);
    }
    match json(&text) {
        Ok(scalar) if content_type.contains("json") || content.starts_with('"') => Ok(scalar),
        _ if looks_like_a_form(content) => form(content),
        Ok(scalar) => Ok(scalar),
        Err(error) if content_type.contains("json") => Err(error),
        Err(_) if content.starts_with('<') => Err(DecodeError::Unknown("it begins like XML or HTML")),
        Err(_) => Err(DecodeError::Unknown("it begins like plain text")),
    }
}

fn json(text: &str) -> Result<Decoded, DecodeError> {
    let first_error = match read_json(text) {
        Ok(decoded) => return Ok(decoded),
        Err(error) => error,
    };
    // The first error is the one told: its line and column are those of the body as it was sent.
    let repaired = repair::repair(text).and_then(|text| read_json(&text).ok());
    repaired.ok_or_else(|| DecodeError::NotJson(reason(&first_error)))
}

fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("recursion limit exceeded") {
        Some(place) => format!("nested deeper than 127 levels{place}"),
        None => text,
    }
}

fn read_json(text: &str) -> Result<Decoded, serde_json::Error> {
    let text = text.trim_end_matches(|c: char| c.is_whitespace() || c == '\0');
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let Some(first) = values.next().transpose()? else {
        return serde_json::from_str(text).map(|value| Decoded { value, how: BodyKind::Json });
    };
    let rest = text[values.byte_offset()..].trim_start();
    let is_container = first.is_object() || first.is_array();
    if is_container && rest.starts_with(['{', '[']) {
        return json_lines(first, values);
    }
    // What follows a complete object and is no JSON is a footer of the sender's web server.
    if rest.is_empty() || is_container {
        return Ok(Decoded { value: first, how: BodyKind::Json });
    }
    serde_json::from_str(text).map(|value| Decoded { value, how: BodyKind::Json })
}

/// All of them or none: half a batch would be a silent loss.
fn json_lines(
    first: Value,
    rest: impl Iterator<Item = Result<Value, serde_json::Error>>,
) -> Result<Decoded, serde_json::Error> {
    let mut all = Vec::new();
    for value in std::iter::once(Ok(first)).chain(rest) {
        match value? {
            Value::Array(elements) => all.extend(elements),
            other => all.push(other),
        }
    }
    Ok(Decoded { value: Value::Array(all), how: BodyKind::JsonLines })
}

/// `name=value` without blanks, the name of the characters that names are made of.
fn looks_like_a_form(content: &str) -> bool {
    let Some((name, _)) = content.split_once('=') else { return false };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.[]%+*".contains(c);
    !name.is_empty() && name.chars().all(is_name) && !content.contains(char::is_whitespace)
}

fn form(content: &str) -> Result<Decoded, DecodeError> {
    if let Some(decoded) = percent_encoded_json(content) {
        return Ok(decoded);
    }
    if !content.contains('=') {
        return Err(DecodeError::Unknown("its header says form, but it has no fields"));
    }
    let fields: Vec<(String, String)> =
        form_urlencoded::parse(content.as_bytes()).into_owned().take(FORM_FIELDS_MAX + 1).collect();
    if fields.len() > FORM_FIELDS_MAX {
        return Err(DecodeError::TooManyFields);
    }
    if let Some(decoded) = json_in_a_field(&fields) {
        return Ok(decoded);
    }
    let mut object = Map::new();
    for (name, value) in fields {
        add_field(&mut object, name, Value::String(value));
    }
    Ok(Decoded { value: Value::Object(object), how: BodyKind::Form })
}

/// The whole body is one percent-encoded JSON text, perhaps as a lone key (`%5B…%5D=`). It is decoded as a
/// whole, because some encoders leave the `=` and `&` inside it as they are.
fn percent_encoded_json(content: &str) -> Option<Decoded> {
    let head = content.get(..3)?.to_ascii_lowercase();
    if head != "%5b" && head != "%7b" {
        return None;
    }
    let spaced = content.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy();
    in_form(decoded.trim_end_matches('='))
}

fn json_in_a_field(fields: &[(String, String)]) -> Option<Decoded> {
    if let [(key, value)] = fields {
        return if value.trim().is_empty() { in_form(key) } else { in_form(value) };
    }
    let named = fields.iter().find(|(name, _)| matches!(name.as_str(), "payload" | "data" | "json"))?;
    in_form(&named.1)
}

fn in_form(text: &str) -> Option<Decoded> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    json(text).ok().map(|decoded| Decoded { value: decoded.value, how: BodyKind::JsonInForm })
}

fn add_field(object: &mut Map<String, Value>, name: String, value: Value) {
    match object.get_mut(&name) {
        None => {
            object.insert(name, value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(first) => {
            let values = vec![first.take(), value];
            *first = Value::Array(values);
        }
    }
}

#[cfg(test)]
mod tests;
