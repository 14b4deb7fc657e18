//! `multipart/form-data`: fields, and files of which name, type and length are kept.

use super::fields::{FIELDS_MAX, Fields};
use super::{DecodeError, Decoded, json, text};
use encoding_rs::Encoding;
use serde_json::json;
use std::borrow::Cow;

/// RFC 2046 allows 70 characters; nobody needs more, and searching costs as many steps for each byte.
const BOUNDARY_BYTES_MAX: usize = 100;

/// Header lines of one part, all together.
const HEAD_BYTES_MAX: usize = 4096;

/// What stands between the parts, when this is multipart: the body is asked whether the header is right.
pub(super) fn boundary(body: &[u8], content_type: &str) -> Option<Vec<u8>> {
    let is_multipart = content_type.get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/"));
    let named = text::parameter(content_type, "boundary").filter(|_| is_multipart);
    let named = named.map(|(_, name)| name.as_bytes());
    let fits = |name: &&[u8]| !name.is_empty() && name.len() <= BOUNDARY_BYTES_MAX;
    let stands = |name: &&[u8]| find(body, &[b"--", *name].concat()).is_some();
    if let Some(name) = named.filter(fits).filter(stands) {
        return Some(name.to_vec());
    }
    let line = body.trim_ascii_start().strip_prefix(b"--")?;
    let end = line.iter().take(BOUNDARY_BYTES_MAX + 2).position(|byte| *byte == b'\n')?;
    let found = line[..end].trim_ascii_end();
    let head = line[end..line.len().min(end + HEAD_BYTES_MAX)].to_ascii_lowercase();
    let disposition = b"content-disposition:";
    let is_form = head.windows(disposition.len()).any(|window| window == disposition);
    (!found.is_empty() && is_form).then(|| found.to_vec())
}

/// Understands the parts between the boundaries. A part that never ends is taken to the end of the body: how
/// long the body is the gate has seen to.
pub(super) fn decode(
    body: &[u8],
    boundary: &[u8],
    charset: Option<&'static Encoding>,
) -> Result<Decoded, DecodeError> {
    let delimiter = [b"--", boundary].concat();
    let mut fields = Fields::default();
    let mut rest = find(body, &delimiter).map(|at| &body[at + delimiter.len()..]);
    while let Some(after) = rest.filter(|after| !after.starts_with(b"--")) {
        let end = line_starts(after, &delimiter);
        let part = &after[..end.unwrap_or(after.len())];
        if fields.len() == FIELDS_MAX {
            return Err(DecodeError::TooManyFields);
        }
        add_part(&mut fields, part, charset);
        rest = end.map(|at| &after[at + delimiter.len()..]);
    }
    if fields.len() == 0 {
        return Err(DecodeError::Unknown("its header says multipart, but it has no parts"));
    }
    Ok(fields.finish())
}

/// One part: the end of the boundary's line, its headers, an empty line, its content and a line end.
fn add_part(fields: &mut Fields, part: &[u8], charset: Option<&'static Encoding>) {
    let Some(start) = part.iter().position(|byte| *byte == b'\n') else { return };
    let (head, content) = split_head(&part[start + 1..]);
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    let head = text::to_text(head, charset);
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
    };
    let (_, disposition) = header("content-disposition").unwrap_or_default();
    let (_, kind) = header("content-type").unwrap_or_default();
    let kind = kind.trim();
    let name = parameter(disposition, "name").unwrap_or_default();
    let charset = text::charset(kind).or(charset);
    match parameter(disposition, "filename") {
        Some(file) if !is_json(kind) => {
            // An empty file is a field for a file that nobody chose.
            if !(file.is_empty() && content.is_empty()) {
                let told = json!({ "filename": file, "content_type": kind, "bytes": content.len() });
                fields.add_value(name, told);
            }
        }
        _ => {
            let text = text::to_text(content, charset).into_owned();
            match json::container(&text).filter(|_| is_json(kind) && fields.len() > 0) {
                Some(value) => fields.add_value(name, value),
                None => fields.add(name, text),
            }
        }
    }
}

fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// Up to the first empty line, and behind it; without one, all is content of a part without headers.
fn split_head(part: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while let Some(length) = part[at..].iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n') {
        let line = part[at..at + length].trim_ascii();
        at += length + 1;
        if line.is_empty() {
            return (&part[..at], &part[at..]);
        }
        if at > HEAD_BYTES_MAX {
            break;
        }
    }
    (&[], part)
}

/// `name="a\"b"`, `name*=UTF-8''a%20b`: the extended form is the one meant.
fn parameter(disposition: &str, name: &str) -> Option<String> {
    if let Some((_, extended)) = text::parameter(disposition, &format!("{name}*")) {
        let mut parts = extended.splitn(3, '\'');
        if let (Some(label), Some(_), Some(encoded)) = (parts.next(), parts.next(), parts.next()) {
            let bytes: Cow<'_, [u8]> = percent_encoding::percent_decode_str(encoded).into();
            return Some(
                text::to_text(&bytes, Encoding::for_label_no_replacement(label.as_bytes())).into_owned(),
            );
        }
    }
    let (_, value) = text::parameter(disposition, name)?;
    // Browsers write a quote as %22, curl as \".
    Some(value.replace("\\\"", "\"").replace("%22", "\""))
}

/// Where a line is the delimiter, or the last one, which has two dashes more.
fn line_starts(haystack: &[u8], delimiter: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += haystack[at..].iter().position(|byte| *byte == b'\n')? + 1;
        if begins_with(&haystack[at..], delimiter) {
            return Some(at);
        }
    }
}

fn find(haystack: &[u8], delimiter: &[u8]) -> Option<usize> {
    if begins_with(haystack, delimiter) { Some(0) } else { line_starts(haystack, delimiter) }
}

/// One boundary may begin like another.
fn begins_with(haystack: &[u8], delimiter: &[u8]) -> bool {
    haystack
        .strip_prefix(delimiter)
        .is_some_and(|rest| rest.starts_with(b"--") || rest.first().is_none_or(u8::is_ascii_whitespace))
}
