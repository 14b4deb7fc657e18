//! Bytes to text: the BOM, the declared one-byte charsets, and bytes that are no UTF-8 whatever was declared.

use std::borrow::Cow;

/// What windows-1252 puts where ISO-8859-1 has control characters nobody uses (bytes 0x80 to 0x9f).
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Never fails: what cannot be read becomes U+FFFD.
pub(super) fn to_text<'a>(body: &'a [u8], content_type: &str) -> Cow<'a, str> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Ok(text) = std::str::from_utf8(body) {
        return Cow::Borrowed(text);
    }
    let is_declared = ["iso-8859-1", "latin1", "windows-1252"].iter().any(|name| content_type.contains(name));
    // Text with no valid multi-byte sequence at all was not meant as UTF-8; a single damaged character in
    // real UTF-8 must not turn the rest into mojibake.
    if is_declared || body.utf8_chunks().all(|chunk| chunk.valid().is_ascii()) {
        return Cow::Owned(body.iter().map(|byte| from_windows_1252(*byte)).collect());
    }
    String::from_utf8_lossy(body)
}

fn from_windows_1252(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        other => char::from(other),
    }
}
