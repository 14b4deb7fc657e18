//! JSON that is nearly JSON: half a surrogate pair, control characters and stray backslashes inside text, and
//! placeholders that nobody filled in.

/// The text with its lone surrogates replaced, its raw control characters and stray backslashes escaped, and a
/// bare `{{ placeholder }}` in quotes; `None` when there is nothing to mend. One pass, no look-back.
pub(super) fn repair(text: &str) -> Option<String> {
    let mut mended = String::with_capacity(text.len() + 16);
    let (mut rest, mut is_inside) = (text, false);
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '\\' => escape(rest, &mut mended),
            '{' if !is_inside => placeholder(rest, &mut mended),
            control if is_inside && control < ' ' => {
                mended.push_str(&format!("\\u{:04x}", u32::from(control)));
                1
            }
            _ => 0,
        };
        if taken > 0 {
            rest = &rest[taken..];
            continue;
        }
        is_inside ^= c == '"';
        mended.push(c);
        rest = &rest[c.len_utf8()..];
    }
    (mended != text).then_some(mended)
}

/// Copies the escape that `rest` begins with; returns how many bytes of `rest` it took.
fn escape(rest: &str, mended: &mut String) -> usize {
    let length = match code_unit(rest) {
        None => return short_escape(rest, mended),
        Some(0xd800..=0xdbff) if matches!(rest.get(6..).and_then(code_unit), Some(0xdc00..=0xdfff)) => 12,
        Some(0xd800..=0xdfff) => {
            mended.push_str("\\ufffd");
            return 6;
        }
        Some(_) => 6,
    };
    mended.push_str(&rest[..length]);
    length
}

/// A backslash before anything that needs none stands for itself (`C:\Users`), except before an apostrophe,
/// which only JavaScript escapes.
fn short_escape(rest: &str, mended: &mut String) -> usize {
    match rest.as_bytes().get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
            mended.push_str(&rest[..2]);
            2
        }
        Some(b'\'') => {
            mended.push('\'');
            2
        }
        _ => {
            mended.push_str("\\\\");
            1
        }
    }
}

/// `{{ … }}` where a value should be, as text; an object cannot begin with an object. Returns how many bytes of
/// `rest` it took: none when it is no placeholder.
fn placeholder(rest: &str, mended: &mut String) -> usize {
    let Some(inner) = rest.strip_prefix("{{") else { return 0 };
    // It ends at the next brace, so each byte is looked at once for each opening.
    let is_end = |c: char| matches!(c, '{' | '}' | '"' | '\\' | '\n');
    let Some((name, behind)) = inner.find(is_end).map(|end| inner.split_at(end)) else { return 0 };
    if !behind.starts_with("}}") {
        return 0;
    }
    mended.push_str(&format!("\"{{{{{name}}}}}\""));
    name.len() + 4
}

/// The number in a leading `\uXXXX`.
fn code_unit(text: &str) -> Option<u32> {
    let digits =
        text.strip_prefix("\\u")?.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}
