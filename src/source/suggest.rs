//! What an unknown event probably means: which member names it, which its thread, who asks. For
//! `deskspool capture`, which shows it to an admin who knows better; delivery never guesses this way.

use super::find::{Finder, Path, scalar_text};
use super::fold::fold;
use super::{phone, presets, requester};
use serde_json::Value as Json;
use std::collections::HashMap;

/// Members that are looked at; more are told by nobody at a glance.
const LEAVES_MAX: usize = 200;
const DEPTH_MAX: usize = 8;

/// Names of an event's own id, likeliest first, folded; the last two names of a path count as one too.
const EVENT_IDS: [&str; 14] = [
    "eventid",
    "messageid",
    "webhookid",
    "deliveryid",
    "msgid",
    "callid",
    "idmensaje",
    "mensajeid",
    "idmensagem",
    "mensagemid",
    "idllamada",
    "uuid",
    "guid",
    "id",
];
/// Names of a thread.
const CONVERSATIONS: [&str; 18] = [
    "conversationid",
    "chatid",
    "threadid",
    "sessionid",
    "dialogid",
    "roomid",
    "conversacionid",
    "idconversacion",
    "conversaid",
    "idconversa",
    "atendimentoid",
    "protocolo",
    "callid",
    "contactid",
    "customerid",
    "userid",
    "clienteid",
    "visitorid",
];
/// Names of what kind an event is.
const KINDS: [&str; 9] =
    ["event", "eventtype", "eventname", "kind", "type", "action", "topic", "evento", "tipo"];

/// What was found in an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Suggestion {
    /// Every member with a value: its path, and the value as JSON.
    pub leaves: Vec<(String, String)>,
    /// Lines for `[source.x]`: key and TOML value.
    pub lines: Vec<(String, String)>,
    /// What is found without a line: `name` at `customer.name`.
    pub found: Vec<(String, String)>,
}

struct Leaf<'a> {
    names: Vec<String>,
    value: &'a Json,
}

impl Leaf<'_> {
    fn path(&self) -> String {
        self.names.join(".")
    }

    /// `event.chat.id`, `event['chat-id']`.
    fn expression(&self) -> String {
        let mut text = "event".to_owned();
        for name in &self.names {
            let is_index = name.chars().all(|c| c.is_ascii_digit());
            let is_word = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !is_index;
            match (is_word, is_index) {
                (true, _) => text.push_str(&format!(".{name}")),
                (_, true) => text.push_str(&format!("[{name}]")),
                _ => text.push_str(&format!("['{}']", name.replace('\'', "\\'"))),
            }
        }
        text
    }

    /// How well its name, or its last two names, stand in the list; lower is better.
    fn rank(&self, names: &[&str]) -> Option<usize> {
        let last = self.names.last().map(|name| fold(name))?;
        let before = self.names.iter().rev().nth(1).map(|name| fold(name)).unwrap_or_default();
        let both = format!("{before}{last}");
        names.iter().position(|name| *name == last || *name == both)
    }
}

/// Looks at one event.
pub fn suggest(event: &Json) -> Suggestion {
    let mut leaves = Vec::new();
    collect(event, &mut Vec::new(), &mut leaves);
    let mut suggestion = Suggestion {
        leaves: leaves.iter().map(|leaf| (leaf.path(), leaf.value.to_string())).collect(),
        ..Suggestion::default()
    };
    let keys: [(&str, &[&str]); 3] =
        [("kind", &KINDS), ("event_id", &EVENT_IDS), ("conversation", &CONVERSATIONS)];
    for (key, names) in keys {
        let ranked = leaves.iter().filter_map(|leaf| Some((leaf.rank(names)?, leaf.names.len(), leaf)));
        if let Some((.., leaf)) = ranked.min_by_key(|(rank, depth, _)| (*rank, *depth)) {
            let value = format!("\"{{{{ {} }}}}\"", leaf.expression());
            suggestion.lines.push((key.to_owned(), value));
        }
    }
    for name in ["name", "email", "phone", "external_id", "text"] {
        who_and_what(name, event, &leaves, &mut suggestion);
    }
    suggestion
}

/// What the built-in finders find needs no line; an address or a number under a name they do not know does.
fn who_and_what(name: &str, event: &Json, leaves: &[Leaf<'_>], suggestion: &mut Suggestion) {
    let found = builtin_finder(name).and_then(|finder| finder.find(event, None).map(std::ptr::from_ref));
    if let Some(leaf) = found.and_then(|found| leaves.iter().find(|leaf| std::ptr::eq(leaf.value, found))) {
        suggestion.found.push((name.to_owned(), leaf.path()));
        return;
    }
    let looks_so = |leaf: &&Leaf<'_>| {
        let text = scalar_text(leaf.value);
        match name {
            "email" => leaf.value.is_string() && requester::address(&text).is_some(),
            "phone" => {
                let is_written_so =
                    text.starts_with('+') && text.chars().filter(char::is_ascii_digit).count() >= 8;
                is_written_so && phone::normalise(&text, None).is_some()
            }
            _ => false,
        }
    };
    if let Some(leaf) = leaves.iter().find(looks_so).filter(|_| found.is_none()) {
        suggestion.lines.push((format!("find.{name}.paths"), format!("[{:?}]", leaf.path())));
    }
}

fn builtin_finder(name: &str) -> Option<Finder> {
    let table = presets::builtin().find.as_ref()?.get(name)?;
    let texts = |texts: &Option<Vec<super::table::Text>>| -> Vec<String> {
        texts.iter().flatten().map(|text| text.get_ref().clone()).collect()
    };
    let synonyms = texts(&table.synonyms);
    let synonyms: HashMap<String, usize> =
        synonyms.iter().enumerate().map(|(rank, name)| (fold(name), rank)).collect();
    Some(Finder {
        name: name.to_owned(),
        paths: texts(&table.paths).iter().map(|path| Path::parse(path)).collect(),
        synonyms,
        within: Vec::new(),
        skip: texts(&table.skip).iter().map(|name| fold(name)).collect(),
    })
}

/// Every scalar that says something, in the order of the event; of long lists the first element.
fn collect<'a>(json: &'a Json, names: &mut Vec<String>, leaves: &mut Vec<Leaf<'a>>) {
    if leaves.len() >= LEAVES_MAX || names.len() > DEPTH_MAX {
        return;
    }
    match json {
        Json::Object(members) => {
            for (name, member) in members {
                names.push(name.clone());
                collect(member, names, leaves);
                names.pop();
            }
        }
        Json::Array(elements) => {
            if let Some(first) = elements.first() {
                names.push("0".to_owned());
                collect(first, names, leaves);
                names.pop();
            }
        }
        Json::Null => {}
        Json::String(text) if text.trim().is_empty() => {}
        value => leaves.push(Leaf { names: names.clone(), value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_it_probably_means_is_suggested() {
        let event = json!({
            "evento": "finalizado", "message_id": "m1", "chat": { "id": "k1" }, "empty": "", "none": null,
            "customer": { "name": "Eva", "correo-x": "eva@example.com", "phone": "+34600111222" },
            "text": "precio?",
        });
        let suggestion = suggest(&event);
        let lines: Vec<String> =
            suggestion.lines.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        assert_eq!(
            lines,
            [
                r#"kind = "{{ event.evento }}""#,
                r#"event_id = "{{ event.message_id }}""#,
                r#"conversation = "{{ event.chat.id }}""#,
                r#"find.email.paths = ["customer.correo-x"]"#,
            ]
        );
        let found: Vec<&str> = suggestion.found.iter().map(|(_, path)| path.as_str()).collect();
        assert_eq!(found, ["customer.name", "customer.phone", "text"]);
        assert_eq!(suggestion.leaves.len(), 7);
        assert_eq!(suggestion.leaves[2], ("chat.id".to_owned(), "\"k1\"".to_owned()));
    }

    #[test]
    fn odd_names_are_written_so_that_templates_understand_them() {
        let event = json!({ "data": [{ "Message-ID": 7 }] });
        assert_eq!(suggest(&event).lines[0].1, "\"{{ event.data[0]['Message-ID'] }}\"");
        assert_eq!(suggest(&json!([])), Suggestion::default());
    }
}
