//! JSON as templates see it, and values as agents read them.
//!
//! `null` is undefined to a template: `event.x is defined` and `default` then mean what an admin expects.
//! Numbers are numbers while a machine number holds their digits, and their exact digits as text beyond.

use super::plain::is_placeholder;
use minijinja::value::{Value, ValueKind};
use serde_json::{Number, Value as Json};

/// Transcripts and blocks of details longer than this are cut, visibly.
const TEXT_MAX_BYTES: usize = 200 * 1024;

/// Names under which a turn of a transcript says who speaks.
const SPEAKERS: [&str; 8] = ["role", "sender", "author", "speaker", "from", "name", "user", "type"];
/// Names under which a turn, a tag or an attachment has its text.
const TEXTS: [&str; 10] =
    ["text", "message", "content", "body", "value", "payload", "name", "title", "label", "url"];

/// JSON for a template.
pub(super) fn to_template(json: &Json) -> Value {
    match json {
        Json::Null => Value::UNDEFINED,
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(digits) => number(digits),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(elements) => elements.iter().map(to_template).collect(),
        Json::Object(members) => {
            Value::from_pairs(members.iter().map(|(name, member)| (name.as_str(), to_template(member))))
        }
    }
}

fn number(number: &Number) -> Value {
    let digits = number.to_string();
    if let Ok(integer) = digits.parse::<i64>() {
        return Value::from(integer);
    }
    if let Ok(integer) = digits.parse::<i128>() {
        return Value::from(integer);
    }
    // A double holds 15 significant digits; with more, or out of its range, the text is the number.
    let significant =
        digits.split(['e', 'E']).next().unwrap_or_default().chars().filter(char::is_ascii_digit);
    match digits.parse::<f64>() {
        Ok(decimal)
            if decimal.is_finite() && significant.count() <= 15 && digits.contains(['.', 'e', 'E']) =>
        {
            Value::from(decimal)
        }
        _ => Value::from(digits),
    }
}

/// Is there anything in it that a person would read?
pub(super) fn is_blank(json: &Json) -> bool {
    match json {
        Json::Null => true,
        Json::String(text) => is_placeholder(text),
        Json::Array(elements) => elements.iter().all(is_blank),
        Json::Object(members) => members.values().all(is_blank),
        Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Any value as text with line breaks: a transcript one line per turn with its speaker, an object one line
/// per member, JSON that arrived as text likewise; placeholders and blanks are nothing.
pub(super) fn to_text(value: &Value) -> String {
    let mut text = String::new();
    write_text(value, 0, &mut text);
    cut_text(text)
}

fn cut_text(mut text: String) -> String {
    if text.len() <= TEXT_MAX_BYTES {
        return text;
    }
    let whole = text.len() / 1024;
    let mut end = TEXT_MAX_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(text[..end].rfind('\n').filter(|newline| end - newline < 4096).unwrap_or(end));
    text.push_str(&format!("\n[cut here: the first {} of {whole} KiB]", TEXT_MAX_BYTES / 1024));
    text
}

fn write_text(value: &Value, depth: usize, text: &mut String) {
    if depth > 12 || text.len() > 2 * TEXT_MAX_BYTES {
        return;
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => {}
        ValueKind::Seq | ValueKind::Iterable => {
            for element in value.try_iter().into_iter().flatten() {
                write_line(&element, depth, text);
            }
        }
        ValueKind::Map => write_map(value, depth, text),
        ValueKind::String => write_string(value, depth, text),
        _ => text.push_str(&printed(value)),
    }
}

/// On a line of its own.
fn write_line(value: &Value, depth: usize, text: &mut String) {
    let mut line = String::new();
    write_text(value, depth + 1, &mut line);
    push_line(&line, text);
}

fn push_line(line: &str, text: &mut String) {
    if line.trim().is_empty() {
        return;
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line.trim_end());
}

fn write_string(value: &Value, depth: usize, text: &mut String) {
    let string = value.as_str().unwrap_or_default();
    if is_placeholder(string) {
        return;
    }
    if depth < 3 && string.trim_start().starts_with(['[', '{']) {
        // A transcript that was turned to text on its way.
        if let Ok(json @ (Json::Array(_) | Json::Object(_))) = serde_json::from_str::<Json>(string.trim()) {
            return write_text(&to_template(&json), depth + 3, text);
        }
    }
    text.push_str(string);
}

fn write_map(map: &Value, depth: usize, text: &mut String) {
    if let Some((speaker, said)) = turn(map) {
        let mut line = String::new();
        write_text(&said, depth + 1, &mut line);
        match speaker {
            Some(speaker) if !line.trim().is_empty() => {
                push_line(&format!("{speaker}: {}", line.trim()), text)
            }
            _ => push_line(&line, text),
        }
        return;
    }
    for name in map.try_iter().into_iter().flatten() {
        let mut line = String::new();
        write_text(&member(map, &name), depth + 1, &mut line);
        if !line.trim().is_empty() {
            push_line(&format!("{name}: {line}"), text);
        }
    }
}

/// Speaker and text, when the map is a turn of a conversation or an object around one text.
fn turn(map: &Value) -> Option<(Option<String>, Value)> {
    let said = TEXTS.iter().map(|name| attribute(map, name)).find(|value| value.is_true())?;
    let speaker = SPEAKERS.iter().map(|name| attribute(map, name)).find_map(|value| {
        let name = if value.kind() == ValueKind::Map { attribute(&value, "name") } else { value };
        let name = name.as_str().map(str::trim).filter(|name| !is_placeholder(name))?;
        (said.as_str() != Some(name)).then(|| name.to_owned())
    });
    let is_whole = map.len().is_some_and(|members| members == 1);
    (speaker.is_some() || is_whole).then_some((speaker.filter(|speaker| speaker != "text"), said))
}

/// A value as it is printed: nothing for what is missing, `true` and `false` as JSON writes them, what holds
/// others as readable text.
pub(super) fn printed(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => String::new(),
        ValueKind::Bool => value.is_true().to_string(),
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => to_text(value),
        _ => value.to_string(),
    }
}

/// A member, undefined when there is none.
pub(super) fn attribute(map: &Value, name: &str) -> Value {
    map.get_attr(name).unwrap_or(Value::UNDEFINED)
}

/// A member by any key.
pub(super) fn member(map: &Value, key: &Value) -> Value {
    map.get_item(key).unwrap_or(Value::UNDEFINED)
}

/// Scalars of a list however deep, an element that is an object by its name: tags, choices.
pub(super) fn words(value: &Value, words: &mut Vec<String>) {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => {}
        ValueKind::Seq | ValueKind::Iterable => {
            for element in value.try_iter().into_iter().flatten().take(1000) {
                self::words(&element, words);
            }
        }
        ValueKind::Map => {
            let name = ["name", "title", "label", "value", "text"].iter().map(|name| attribute(value, name));
            if let Some(name) = name.into_iter().find(|value| value.as_str().is_some()) {
                self::words(&name, words);
            }
        }
        _ => {
            let word = printed(value);
            if !is_placeholder(&word) {
                words.push(word.trim().to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn numbers_keep_their_digits() {
        let check = |digits: &str, expect: &str, is_number: bool| {
            let value = to_template(&json(digits));
            assert_eq!((value.to_string().as_str(), value.is_number()), (expect, is_number));
        };
        check("42", "42", true);
        check("-9223372036854775809", "-9223372036854775809", true);
        check("123456789012345678901234567890", "123456789012345678901234567890", true);
        check("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890", false);
        check("49.5", "49.5", true);
        check("1.0000000000000000000001", "1.0000000000000000000001", false);
        check("1e400", "1e+400", false);
    }

    #[test]
    fn transcripts_read_like_conversations() {
        let check = |text: &str, expect: &str| assert_eq!(to_text(&to_template(&json(text))), expect);
        check(r#"[{"role":"user","text":"hi"},{"role":"bot","text":"hello"}]"#, "user: hi\nbot: hello");
        check(r#"[{"sender":{"name":"Ana"},"message":{"text":"hi"}}]"#, "Ana: hi");
        check(r#""[{\"role\":\"user\",\"text\":\"hi\"}]""#, "user: hi");
        check(r#"["one","two",null,"{{x}}"]"#, "one\ntwo");
        check(r#"{"order":5,"paid":true,"note":null}"#, "order: 5\npaid: true");
        check(r#"{"body":"only text"}"#, "only text");
        check(r#""[sic] plain""#, "[sic] plain");
        check("null", "");
    }

    #[test]
    fn long_texts_are_cut_visibly() {
        let line = "línea\n".repeat(60_000);
        let text = to_text(&Value::from(line));
        assert!(text.len() < TEXT_MAX_BYTES + 100);
        assert!(
            text.ends_with("línea\n[cut here: the first 200 of 410 KiB]"),
            "{}",
            &text[text.len() - 60..]
        );
    }

    #[test]
    fn words_are_the_scalars() {
        let mut found = Vec::new();
        words(&to_template(&json(r#"["a",7,null,true,["c"],{"name":"d"}," e ",""]"#)), &mut found);
        assert_eq!(found, ["a", "7", "true", "c", "d", "e"]);
    }
}
