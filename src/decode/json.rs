//! Text to JSON: one value, or several, or one with a footer behind it.

use super::repair;
use super::{BodyKind, DecodeError, Decoded};
use serde_json::Value;

/// More values than this are no event of anybody's: in memory each is many times its two bytes of text.
pub(super) const VALUES_MAX: usize = 100_000;

/// Understands text that is JSON, or nearly.
pub(super) fn decode(text: &str) -> Result<Decoded, DecodeError> {
    check_count(text)?;
    let first_error = match read(text) {
        Ok(decoded) => return Ok(unquoted(decoded)),
        Err(error) => error,
    };
    // The first error is the one told: its line and column are those of the body as it was sent.
    let repaired = repair::repair(text).and_then(|text| read(&text).ok());
    repaired.map(unquoted).ok_or_else(|| DecodeError::NotJson(reason(&first_error)))
}

/// A container that is all of the text, if it is one.
pub(super) fn container(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    decode(text).ok().map(|decoded| decoded.value)
}

/// A value has at least one byte and its comma, colon or bracket.
fn check_count(text: &str) -> Result<(), DecodeError> {
    if text.len() <= VALUES_MAX {
        return Ok(());
    }
    let (mut count, mut is_inside, mut is_escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_inside => is_escaped = true,
            b'"' => is_inside = !is_inside,
            b',' | b'{' | b'[' if !is_inside => count += 1,
            _ => {}
        }
    }
    if count > VALUES_MAX { Err(DecodeError::TooManyValues) } else { Ok(()) }
}

/// JSON that was written as JSON once more: the text of a lone text.
fn unquoted(decoded: Decoded) -> Decoded {
    let Value::String(inner) = &decoded.value else { return decoded };
    if !inner.trim_start().starts_with(['{', '[']) {
        return decoded;
    }
    read(inner).ok().filter(|inner| !inner.value.is_string()).unwrap_or(decoded)
}

fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("recursion limit exceeded") {
        Some(place) => format!("nested deeper than 127 levels{place}"),
        None => text,
    }
}

fn read(text: &str) -> Result<Decoded, serde_json::Error> {
    let text = text.trim_end_matches(|c: char| c.is_whitespace() || c == '\0');
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let Some(first) = values.next().transpose()? else {
        return serde_json::from_str(text).map(|value| Decoded { value, how: BodyKind::Json });
    };
    let rest = text[values.byte_offset()..].trim_start();
    let is_container = first.is_object() || first.is_array();
    if is_container && rest.starts_with(['{', '[']) {
        return lines(first, values);
    }
    // What follows a complete object and is no JSON is a footer of the sender's web server.
    if rest.is_empty() || is_container {
        return Ok(Decoded { value: first, how: BodyKind::Json });
    }
    serde_json::from_str(text).map(|value| Decoded { value, how: BodyKind::Json })
}

/// All of them or none: half a batch would be a silent loss.
fn lines(
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
