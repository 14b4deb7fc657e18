//! JSON that is nearly JSON: half a surrogate pair, and control characters that stand raw inside text.

/// The text with its lone surrogates replaced and its raw control characters escaped; `None` when there is
/// nothing to mend. One pass, no look-back.
pub(super) fn repair(text: &str) -> Option<String> {
    let mut mended = String::with_capacity(text.len() + 16);
    let (mut rest, mut is_inside) = (text, false);
    while let Some(c) = rest.chars().next() {
        match c {
            '\\' => {
                let taken = escape(rest, &mut mended);
                rest = &rest[taken..];
                continue;
            }
            '"' => is_inside = !is_inside,
            control if is_inside && control < ' ' => {
                mended.push_str(&format!("\\u{:04x}", u32::from(control)));
                rest = &rest[1..];
                continue;
            }
            _ => {}
        }
        mended.push(c);
        rest = &rest[c.len_utf8()..];
    }
    (mended != text).then_some(mended)
}

/// Copies the escape that `rest` begins with; returns how many bytes of `rest` it took.
fn escape(rest: &str, mended: &mut String) -> usize {
    let length = match code_unit(rest) {
        None => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
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

/// The number in a leading `\uXXXX`.
fn code_unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok()
}
