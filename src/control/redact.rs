//! `privacy.redact`: what the verbs and the page do not show, though they could.
//!
//! The values behind the chosen names are looked up in the event and in what the mapping finds, and hidden wherever
//! they stand: in the event, in the ticket it would make, in listings. Where the event is not held any more, what
//! looks like an address or a number is.

use super::view::{EnvelopeView, Row};
use crate::freshdesk::write::Requester;
use crate::status::Seen;
use serde_json::Value;

/// Stands for what is not shown.
pub const HIDDEN: &str = "[hidden]";
/// A shorter value would be found everywhere.
const VALUE_CHARS_MIN: usize = 2;
/// Digits in a row, or with signs that people write between them, from which on they are a phone number.
const PHONE_DIGITS_MIN: usize = 7;

/// What is hidden of one event.
pub struct Redaction<'a> {
    words: &'a [String],
    /// Longest first, so that a part never leaves the rest standing.
    values: Vec<String>,
}

impl<'a> Redaction<'a> {
    /// What `words` choose of an event and of who asks in it; none when nothing is to be hidden.
    pub(super) fn of(
        words: &'a [String],
        event: Option<&Value>,
        requester: Option<&Requester>,
    ) -> Option<Redaction<'a>> {
        if words.is_empty() {
            return None;
        }
        let mut values = Vec::new();
        if let Some(requester) = requester {
            let fields = [
                ("name", &requester.name),
                ("email", &requester.email),
                ("phone", &requester.phone),
                ("external_id", &requester.external_id),
            ];
            let chosen = fields.into_iter().filter(|(word, _)| words.iter().any(|other| other == word));
            values.extend(chosen.filter_map(|(_, value)| value.clone()));
            let digits = requester.phone.as_ref().filter(|_| words.iter().any(|word| word == "phone"));
            values.extend(digits.map(|phone| phone.trim_start_matches('+').to_owned()));
        }
        if let Some(event) = event {
            collect(event, "", words, &mut values);
        }
        let mut values: Vec<String> =
            values.iter().flat_map(|value| value.lines()).map(|line| line.trim().to_owned()).collect();
        values.retain(|value| value.chars().count() >= VALUE_CHARS_MIN);
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Some(Redaction { words, values })
    }

    /// The same where only the calls are known that would be made: who asks is in their bodies.
    pub fn of_calls(words: &'a [String], event: Option<&Value>, bodies: &[&Value]) -> Option<Redaction<'a>> {
        let asks = |key: &str| {
            let mut values = bodies.iter().filter_map(|body| body.get(key)?.as_str());
            values.next().map(str::to_owned)
        };
        let (name, email, phone) = (asks("name"), asks("email"), asks("phone"));
        let requester = Requester { name, email, phone, external_id: asks("unique_external_id") };
        Redaction::of(words, event, Some(&requester))
    }

    pub(super) fn row(&self, row: &mut Row) {
        row.conversation = self.text(&row.conversation);
        row.event = self.plain(&row.event);
        row.requester = row.requester.take().map(|requester| self.text(&requester));
        row.last_error = row.last_error.take().map(|error| self.plain(&error));
    }

    pub(super) fn seen(&self, line: &mut Seen) {
        line.conversation = self.text(&line.conversation);
        line.event = self.text(&line.event);
        line.reason = self.plain(&line.reason);
    }

    pub(super) fn view(&self, view: &mut EnvelopeView) {
        self.row(&mut view.row);
        view.will_do.iter_mut().for_each(|line| *line = self.text(line));
        view.writes.iter_mut().for_each(|write| self.json(write));
        view.tries.iter_mut().for_each(|one| one.reason = self.plain(&one.reason));
        view.body = view.body.take().map(|body| match serde_json::from_str::<Value>(&body) {
            Ok(mut event) => {
                self.json(&mut event);
                event.to_string()
            }
            // Nobody can say where in it what is.
            Err(_) => HIDDEN.to_owned(),
        });
    }

    /// Without the values that are known.
    fn plain(&self, text: &str) -> String {
        let hide = |text: String, value: &String| {
            let escaped = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            text.replace(value.as_str(), HIDDEN).replace(&escaped, HIDDEN)
        };
        self.values.iter().fold(text.to_owned(), hide)
    }

    /// And without what looks like one of the chosen kind.
    pub fn text(&self, text: &str) -> String {
        let mut text = self.plain(text);
        if self.words.iter().any(|word| word == "email") {
            let is_address = |word: &str| word.contains('@') && word.contains('.');
            text = text
                .split_inclusive([' ', '\n', ',', ';', '<', '>', ':', '"'])
                .map(|word| {
                    let bare = word.trim_end_matches([' ', '\n', ',', ';', '<', '>', ':', '"']);
                    if is_address(bare) { word.replace(bare, HIDDEN) } else { word.to_owned() }
                })
                .collect();
        }
        if self.words.iter().any(|word| word == "phone") { without_numbers(&text) } else { text }
    }

    /// The same of all texts in a value, and without the chosen members.
    pub fn json(&self, value: &mut Value) {
        self.below(value, "");
    }

    /// Whether a member of this path is chosen: `event.contact.phone`.
    pub fn hides(&self, path: &str) -> bool {
        is_chosen(&format!(".{path}"), self.words)
    }

    fn below(&self, value: &mut Value, path: &str) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Number(number) if self.values.contains(&number.to_string()) => *value = HIDDEN.into(),
            Value::Array(list) => list.iter_mut().for_each(|one| self.below(one, path)),
            Value::Object(members) => {
                for (name, one) in members.iter_mut() {
                    let path = format!("{path}.{name}");
                    if is_chosen(&path, self.words) {
                        *one = HIDDEN.into();
                    } else {
                        self.below(one, &path);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Every text below a chosen member.
fn collect(value: &Value, path: &str, words: &[String], values: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, one) in members {
                let path = format!("{path}.{name}");
                match is_chosen(&path, words) {
                    true => leaves(one, values),
                    false => collect(one, &path, words, values),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|one| collect(one, path, words, values)),
        _ => {}
    }
}

fn leaves(value: &Value, values: &mut Vec<String>) {
    match value {
        Value::String(text) => values.push(text.clone()),
        Value::Number(number) => values.push(number.to_string()),
        Value::Array(list) => list.iter().for_each(|one| leaves(one, values)),
        Value::Object(members) => members.values().for_each(|one| leaves(one, values)),
        _ => {}
    }
}

/// Whether the path ends in one of the words, as whole steps: `phone`, `contact.address`; without case.
fn is_chosen(path: &str, words: &[String]) -> bool {
    let path = path.to_lowercase();
    words
        .iter()
        .any(|word| path.strip_suffix(&word.to_lowercase()).is_some_and(|before| before.ends_with('.')))
}

/// Digits that are long enough to be somebody's number, with the signs between them.
fn without_numbers(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_digit() || " -().+".contains(c);
    let (mut out, mut run) = (String::new(), String::new());
    let end = |run: &mut String, out: &mut String| {
        let digits = run.chars().filter(char::is_ascii_digit).count();
        let tail = run.len() - run.trim_end_matches([' ', '.', '(', '-']).len();
        let lead = run.len() - run.trim_start().len();
        match digits >= PHONE_DIGITS_MIN {
            true => out.push_str(&format!("{}{HIDDEN}{}", &run[..lead], &run[run.len() - tail..])),
            false => out.push_str(run),
        }
        run.clear();
    };
    for c in text.chars() {
        if is_part(c) {
            run.push(c);
        } else {
            end(&mut run, &mut out);
            out.push(c);
        }
    }
    end(&mut run, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn members_are_chosen_by_name_or_path() {
        let check =
            |path: &str, list: &[&str], expect| assert_eq!(is_chosen(path, &words(list)), expect, "{path}");
        check(".contact.phone", &["phone"], true);
        check(".Phone", &["phone"], true);
        check(".telephone", &["phone"], false);
        check(".contact.address", &["contact.address"], true);
        check(".shop.address", &["contact.address"], false);
    }

    #[test]
    fn numbers_and_addresses_are_hidden_where_nothing_else_is_known() {
        let hide = words(&["phone", "email"]);
        let redaction = Redaction::of(&hide, None, None).expect("something is to be hidden");
        let check = |text: &str, expect: &str| assert_eq!(redaction.text(text), expect);
        check("b1:+573001112233", "b1:[hidden]");
        check("call 300 111-2233, or ana@example.com.", "call [hidden], or [hidden]");
        check("order 5531 of 2026", "order 5531 of 2026");
        check("<ana@example.com>", "<[hidden]>");
    }

    #[test]
    fn a_value_is_hidden_wherever_it_stands() {
        let hide = words(&["name", "contact.address"]);
        let requester = Requester { name: Some("Ana & Co".to_owned()), ..Requester::default() };
        let redaction = Redaction::of(&hide, None, Some(&requester)).expect("something is to be hidden");
        assert_eq!(redaction.text("from Ana & Co"), "from [hidden]");
        assert_eq!(redaction.text("<p>Ana &amp; Co</p>"), "<p>[hidden]</p>");
        let mut event = serde_json::json!({ "contact": { "address": { "street": "Calle 1" }, "n": 7 }, "who": "Ana & Co" });
        redaction.json(&mut event);
        assert_eq!(event, serde_json::json!({ "contact": { "address": HIDDEN, "n": 7 }, "who": HIDDEN }));
        assert!(Redaction::of(&[], None, Some(&requester)).is_none());
    }
}
