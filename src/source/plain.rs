//! Text as Freshdesk and agents can take it: no control characters, no tricks with direction, cut on a
//! character people see as one.

/// Characters that reorder what follows: a subject with one of them can show `exe.invoice` for another name.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_unwanted(c: char) -> bool {
    c.is_control() || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// One line of plain text: line breaks and runs of blanks become one blank, control and direction characters
/// vanish.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() {
            if !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
        } else if !is_unwanted(c) && !is_bidi_control(c) {
            line.push(c);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// HTML without control characters and without the two overrides; line breaks stay.
pub(super) fn clean_html(html: &str) -> String {
    let is_kept =
        |c: &char| matches!(c, '\n' | '\t') || !(is_unwanted(*c) || matches!(c, '\u{202d}' | '\u{202e}'));
    html.chars().filter(is_kept).collect()
}

/// At most `max` characters; what is cut ends in `…`, after a whole word where one ends near the limit.
pub(super) fn truncate(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let Some(room) = max.checked_sub(1) else { return String::new() };
    let mut cut = text.char_indices().nth(room).map_or(text.len(), |(offset, _)| offset);
    while cut > 0 && joins_the_previous(text, cut) {
        cut = text[..cut].char_indices().next_back().map_or(0, |(offset, _)| offset);
    }
    let kept = &text[..cut];
    let ends_a_word = text[cut..].starts_with(char::is_whitespace);
    let word_end =
        kept.rfind(char::is_whitespace).filter(|end| !ends_a_word && cut - end <= 24 && *end > cut / 2);
    format!("{}…", kept[..word_end.unwrap_or(cut)].trim_end())
}

/// Would a cut here divide what people see as one character (an accent, an emoji made of several)?
fn joins_the_previous(text: &str, at: usize) -> bool {
    let joins = |c: char| matches!(c, '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}');
    text[at..].chars().next().is_some_and(joins) || text[..at].ends_with('\u{200d}')
}

/// Text that a sender's own template engine or language left where a value should be.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    if text.is_empty() || matches!(text, "undefined" | "null" | "(null)" | "[object Object]") {
        return true;
    }
    let mut rest = text;
    while let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("${")) {
        let close = if rest.starts_with("{{") { "}}" } else { "}" };
        let Some((_, tail)) = after.split_once(close) else { return false };
        rest = tail.trim_start();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_one_line() {
        let check = |text: &str, expect: &str| assert_eq!(one_line(text), expect, "{text:?}");
        check("line one\r\nline two\r\n", "line one line two");
        check("a\0b\u{8} \u{1b}[31mred", "ab [31mred");
        check("שלום \u{202e}exe\u{202c}", "שלום exe");
        check("  \t\n", "");
        check("👩🏽‍💻 ok", "👩🏽‍💻 ok");
    }

    #[test]
    fn truncation_shows_and_divides_nothing() {
        let check = |text: &str, max: usize, expect: &str| assert_eq!(truncate(text, max), expect, "{text}");
        check("short", 5, "short");
        check("shorter", 5, "shor…");
        check("the quick brown fox", 16, "the quick brown…");
        check("the quick brown fox", 14, "the quick…");
        check("ab👩🏽‍💻cd", 5, "ab…");
        check("cafe\u{301}s", 5, "caf…");
        check("abc", 0, "");
        assert_eq!(truncate(&"Ñandú ".repeat(400), 255).chars().count(), 252);
    }

    #[test]
    fn placeholders_are_no_values() {
        let check = |text: &str, expect: bool| assert_eq!(is_placeholder(text), expect, "{text}");
        check("{{workflow.email}}", true);
        check("{{first}} {{ last }}", true);
        check("${user.name}", true);
        check("undefined", true);
        check(" ", true);
        check("Ana {{x}}", false);
        check("{{ env.KEY }} and more", false);
        check("{{", false);
        check("nullable", false);
    }
}
