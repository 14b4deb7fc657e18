//! `name=value&…`, as browsers and scripts write it.

use super::fields::{FIELDS_MAX, Fields};
use super::{BodyKind, DecodeError, Decoded, json, text};
use encoding_rs::Encoding;
use std::borrow::Cow;

/// `name=value` without blanks, the name of the characters that names are made of.
pub(super) fn looks_like_one(content: &str) -> bool {
    let Some((name, _)) = content.split_once('=') else { return false };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.[]%+*".contains(c);
    !name.is_empty() && name.chars().all(is_name) && !content.contains(char::is_whitespace)
}

/// Understands a form; `charset` is what its header says.
pub(super) fn decode(content: &str, charset: Option<&'static Encoding>) -> Result<Decoded, DecodeError> {
    if let Some(decoded) = percent_encoded_json(content) {
        return Ok(decoded);
    }
    if !content.contains('=') {
        return Err(DecodeError::Unknown("its header says form, but it has no fields"));
    }
    let mut pairs = Vec::new();
    for pair in content.split('&').filter(|pair| !pair.is_empty()) {
        if pairs.len() == FIELDS_MAX {
            return Err(DecodeError::TooManyFields);
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((bytes(name), bytes(value)));
    }
    // A form may say itself how it was written (HTML, "_charset_").
    let named = pairs.iter().find(|(name, _)| name.as_ref() == b"_charset_");
    let charset = named.and_then(|(_, label)| Encoding::for_label_no_replacement(label)).or(charset);
    let mut fields = Fields::default();
    for (name, value) in &pairs {
        fields.add(text::to_text(name, charset).into_owned(), text::to_text(value, charset).into_owned());
    }
    Ok(fields.finish())
}

/// The bytes that were percent-encoded; a `%` that encodes nothing stands for itself.
fn bytes(encoded: &str) -> Cow<'_, [u8]> {
    if !encoded.contains('+') {
        return percent_encoding::percent_decode_str(encoded).into();
    }
    let spaced = encoded.replace('+', " ");
    Cow::Owned(percent_encoding::percent_decode_str(&spaced).collect())
}

/// The whole body is one percent-encoded JSON text, perhaps as a lone key (`%5B…%5D=`). It is decoded as a
/// whole, because some encoders leave the `=` and `&` inside it as they are.
fn percent_encoded_json(content: &str) -> Option<Decoded> {
    let head = content.get(..3)?.to_ascii_lowercase();
    if head != "%5b" && head != "%7b" {
        return None;
    }
    let decoded = bytes(content);
    let decoded = String::from_utf8_lossy(&decoded);
    let value = json::container(decoded.trim_end_matches('='))?;
    Some(Decoded { value, how: BodyKind::JsonInForm })
}
