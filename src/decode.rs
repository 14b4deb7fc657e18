//! Bytes to JSON: what a request's body says, whatever its header claims.
//!
//! Senders lie about their content type more often than about their content (SendPulse documents a form and
//! posts a JSON array), so the body is sniffed first and the header believed second. Repairs what can be
//! repaired without guessing: a BOM, bytes that are not UTF-8, half an emoji, control characters and stray
//! backslashes inside text, a placeholder nobody filled in, a footer behind the JSON. Numbers keep every digit
//! they came with.
//!
//! Never decides what an event means, and never quotes the body in an error. Work grows with the length of the
//! body and memory with its limit, whatever the body says: `tests/untrusted.rs` counts both.
//!
//! | module | owns |
//! |---|---|
//! | `inflate` | gzip and deflate, and how much may come out |
//! | `text` | bytes to text: charsets |
//! | `json` | text to JSON: footers, several values, how many there may be |
//! | `repair` | JSON that is nearly JSON |
//! | `form`, `multipart` | the two ways a browser sends fields |
//! | `fields` | fields to an object: `a[b]`, repeated names, JSON inside a field |

mod fields;
mod form;
mod inflate;
mod json;
mod multipart;
mod repair;
mod text;

use fields::FIELDS_MAX;
use json::VALUES_MAX;
use serde_json::Value;
use thiserror::Error;

/// A body, with what its request says about it.
#[derive(Clone, Copy, Debug)]
pub struct Posted<'a> {
    /// As received.
    pub body: &'a [u8],
    /// As received; `Content-Type` and `Content-Encoding` are looked at.
    pub headers: &'a [(String, String)],
    /// How long the body may be when it is inflated.
    pub bytes_max: usize,
}

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
    /// `name=value&…` or multipart; the decoded value is an object, repeated names are arrays.
    Form,
    /// A form whose content is JSON; the decoded value is that JSON, with the other fields among its members.
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
    #[error("form of more than {FIELDS_MAX} fields")]
    TooManyFields,
    /// More than a platform has to say; kept in memory it would be many times its length.
    #[error("JSON of more than {VALUES_MAX} values")]
    TooManyValues,
    /// `Content-Encoding` names what we do not read: the sender can send it plain.
    #[error("compressed in a way we do not read: we read gzip and deflate")]
    UnknownCoding,
    /// The compressed stream is broken or ends early: sent again it may be whole.
    #[error("the {0} stream is broken or cut short")]
    Damaged(&'static str),
    /// It inflates to more than a body may have.
    #[error("inflates to more than {0} bytes")]
    TooLarge(usize),
}

/// Understands a body.
///
/// # Errors
/// [`DecodeError`] says whose fault it is; all but [`DecodeError::TooLarge`] are worth keeping for an admin.
pub fn decode(posted: &Posted<'_>) -> Result<Decoded, DecodeError> {
    let content_type = header(posted.headers, "content-type").unwrap_or_default();
    let body = inflate::inflate(posted)?;
    let kind = content_type.to_ascii_lowercase();
    if let Some(boundary) = multipart::boundary(&body, content_type) {
        return multipart::decode(&body, &boundary, text::charset(content_type));
    }
    if kind.contains("multipart/") && !text::begins_like_json(&body) {
        return Err(DecodeError::Unknown("its header says multipart, but it has no parts"));
    }
    let text = text::to_text(&body, text::charset(content_type));
    let content = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    if content.is_empty() {
        return Ok(Decoded { value: Value::Array(Vec::new()), how: BodyKind::Empty });
    }
    if content.starts_with(['{', '[']) {
        return json::decode(&text);
    }
    let charset = text::charset(content_type);
    if kind.contains("x-www-form-urlencoded") {
        return form::decode(content, charset);
    }
    match json::decode(&text) {
        Ok(scalar) if kind.contains("json") || content.starts_with('"') => Ok(scalar),
        _ if form::looks_like_one(content) => form::decode(content, charset),
        Ok(scalar) => Ok(scalar),
        Err(error) if kind.contains("json") => Err(error),
        Err(_) if content.starts_with('<') => Err(DecodeError::Unknown("it begins like XML or HTML")),
        Err(_) => Err(DecodeError::Unknown("it begins like plain text")),
    }
}

/// The first header of this name.
fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests;
