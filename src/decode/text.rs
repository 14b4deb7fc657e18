//! Bytes to text: BOMs, declared charsets, and bytes that are no UTF-8 whatever was declared.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use std::borrow::Cow;

/// The charset that a content type names, if it is one that browsers know.
pub(super) fn charset(content_type: &str) -> Option<&'static Encoding> {
    let (_, value) = parameter(content_type, "charset")?;
    Encoding::for_label_no_replacement(value.as_bytes())
}

/// A parameter of a header value like `text/plain; charset="utf-8"`: where its value begins, and the value.
pub(super) fn parameter<'a>(value: &'a str, name: &str) -> Option<(usize, &'a str)> {
    let mut at = value.find(';')? + 1;
    while at < value.len() {
        let rest = &value[at..];
        let end = parameter_end(rest);
        let named = |(key, _): &(&str, &str)| key.trim().eq_ignore_ascii_case(name);
        if let Some((_, text)) = rest[..end].split_once('=').filter(named) {
            let text = text.trim();
            let bare = text.strip_prefix('"').map_or(text, |text| text.strip_suffix('"').unwrap_or(text));
            return Some((at, bare));
        }
        at += end + 1;
    }
    None
}

/// Up to the next semicolon that is not inside quotes.
fn parameter_end(text: &str) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// Whether the first character that is no blank opens an object or a list.
pub(super) fn begins_like_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    body.trim_ascii_start().first().is_some_and(|byte| matches!(byte, b'{' | b'['))
}

/// Never fails: what cannot be read becomes U+FFFD.
pub(super) fn to_text<'a>(body: &'a [u8], declared: Option<&'static Encoding>) -> Cow<'a, str> {
    if let Some((encoding, length)) = Encoding::for_bom(body) {
        let body = &body[length..];
        return if encoding == UTF_8 { without_bom(body, declared) } else { decoded(body, encoding) };
    }
    if let Some(encoding) = wide(body) {
        return decoded(body, encoding);
    }
    without_bom(body, declared)
}

fn without_bom<'a>(body: &'a [u8], declared: Option<&'static Encoding>) -> Cow<'a, str> {
    let is_wide = |encoding: &&Encoding| *encoding == UTF_16LE || *encoding == UTF_16BE;
    // UTF-16 without any zero byte is a header that lies; the other charsets that are not a superset of ASCII
    // (ISO-2022-JP) look like ASCII and must be believed.
    let declared = declared.filter(|encoding| !is_wide(encoding) || body.contains(&0));
    if let Some(encoding) = declared.filter(|encoding| !encoding.is_ascii_compatible()) {
        return decoded(body, encoding);
    }
    if let Ok(text) = std::str::from_utf8(body) {
        return Cow::Borrowed(text);
    }
    if let Some(encoding) = declared.filter(|encoding| *encoding != UTF_8) {
        return decoded(body, encoding);
    }
    if let Some(text) = surrogates_in_utf8(body) {
        return Cow::Owned(text);
    }
    // Text with no valid multi-byte sequence at all was not meant as UTF-8; a single damaged character in
    // real UTF-8 must not turn the rest into mojibake.
    if body.utf8_chunks().all(|chunk| chunk.valid().is_ascii()) {
        return decoded(body, WINDOWS_1252);
    }
    String::from_utf8_lossy(body)
}

fn decoded<'a>(body: &'a [u8], encoding: &'static Encoding) -> Cow<'a, str> {
    encoding.decode_without_bom_handling(body).0
}

/// UTF-16 that says so nowhere: JSON and forms begin with an ASCII character, which has a zero beside it.
fn wide(body: &[u8]) -> Option<&'static Encoding> {
    match body {
        [first, 0, second, 0, ..] if *first != 0 && *second != 0 => Some(UTF_16LE),
        [0, first, 0, second, ..] if *first != 0 && *second != 0 => Some(UTF_16BE),
        _ => None,
    }
}

/// Java and old databases write an emoji as two surrogates of three bytes each (CESU-8).
fn surrogates_in_utf8(body: &[u8]) -> Option<String> {
    let surrogate = |at: usize| match body.get(at..at + 3) {
        Some([0xed, middle @ 0xa0..=0xbf, last @ 0x80..=0xbf]) => {
            Some(0xd000 | u16::from(middle & 63) << 6 | u16::from(last & 63))
        }
        _ => None,
    };
    let (mut text, mut start, mut at, mut is_found) = (String::new(), 0, 0, false);
    while at < body.len() {
        let (Some(high), Some(low)) = (surrogate(at), surrogate(at + 3)) else {
            at += 1;
            continue;
        };
        let Some(Ok(character)) = char::decode_utf16([high, low]).next() else {
            at += 3;
            continue;
        };
        text.push_str(&String::from_utf8_lossy(&body[start..at]));
        text.push(character);
        (at, start, is_found) = (at + 6, at + 6, true);
    }
    text.push_str(&String::from_utf8_lossy(&body[start..]));
    is_found.then_some(text)
}
