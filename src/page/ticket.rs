//! A call of Freshdesk's as an agent would see what it makes: a ticket, a note, a change, a contact.
//!
//! **Invariant:** what customers wrote is there only when it is asked for, and then sanitised: markup of theirs cannot
//! do more than look like text.

use super::envelope::HIDDEN;
use super::html::escape;
use crate::freshdesk::word;
use crate::html::sanitise;
use crate::trial::Call;
use serde_json::{Map, Value};

/// Numbers and words that say nothing about a customer.
const PLAIN: [&str; 10] = [
    "status",
    "priority",
    "source",
    "group_id",
    "product_id",
    "responder_id",
    "company_id",
    "email_config_id",
    "private",
    "incoming",
];
/// Who asks.
const WHO: [&str; 4] = ["name", "email", "phone", "unique_external_id"];

/// What a call makes. Without `shows`, its shape.
pub fn made(call: &Call, shows: bool) -> String {
    let empty = Map::new();
    let members = call.body.as_object().unwrap_or(&empty);
    let text = |key: &str| match members.get(key).and_then(Value::as_str) {
        None => String::new(),
        Some(_) if !shows => HIDDEN.to_owned(),
        Some(text) => text.to_owned(),
    };
    let is_ticket = members.contains_key("subject") && members.contains_key("description");
    let (what, html) = match call.path.rsplit('/').next().unwrap_or_default() {
        "reply" => ("Reply, mailed to the customer", text("body")),
        "notes" if members.get("private") == Some(&Value::Bool(false)) => ("Public note", text("body")),
        "notes" => ("Private note", text("body")),
        _ if is_ticket => ("New ticket", text("description")),
        _ if call.path.contains("/contacts") => ("Contact", String::new()),
        _ => ("Change of the ticket", String::new()),
    };
    let subject = text("subject");
    let subject = if subject.is_empty() { String::new() } else { format!("<h3>{}</h3>", escape(&subject)) };
    let html = if html.is_empty() { html } else { format!("<div class=written>{}</div>", sanitise(&html)) };
    format!(
        "<article class=made><p class=what><b>{what}</b> <code>{} {}</code></p>{subject}{}{html}<dl>{}</dl></article>",
        call.method,
        escape(&call.path),
        who(members, is_ticket, shows),
        facts(members, is_ticket, shows)
    )
}

fn who(members: &Map<String, Value>, is_ticket: bool, shows: bool) -> String {
    if !is_ticket {
        return String::new();
    }
    let known = WHO.iter().filter_map(|key| members.get(*key)?.as_str());
    let known: Vec<&str> = if shows { known.collect() } else { known.map(|_| HIDDEN).collect() };
    format!("<p class=who>{}</p>", escape(&known.join(" · ")))
}

fn facts(members: &Map<String, Value>, is_ticket: bool, shows: bool) -> String {
    let mut facts = String::new();
    for (key, value) in members {
        let is_above = matches!(key.as_str(), "subject" | "description" | "body")
            || is_ticket && WHO.contains(&key.as_str());
        match value {
            _ if is_above => {}
            Value::Object(inner) => inner.iter().for_each(|(key, value)| fact(&mut facts, key, value, shows)),
            value => fact(&mut facts, key, value, shows),
        }
    }
    facts
}

fn fact(facts: &mut String, key: &str, value: &Value, shows: bool) {
    let shown = match (value, value.as_u64().and_then(|number| word(key, number))) {
        (_, Some(word)) => word.to_owned(),
        (value, _) if !shows && !PLAIN.contains(&key) && !value.is_boolean() => HIDDEN.to_owned(),
        (Value::Array(items), _) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        (value, _) => plain(value),
    };
    facts.push_str(&format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(key), escape(&shown)));
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(path: &str, body: Value) -> Call {
        Call { method: "POST", path: path.to_owned(), body }
    }

    #[test]
    fn a_ticket_looks_like_one_and_its_markup_is_harmless() {
        let body = json!({"subject": "<b>Hola</b>", "description": "<p>a</p><script>b</script>", "name": "Ana", "status": 2,
            "tags": ["x", "<y>"], "custom_fields": {"cf_a": "é"}});
        let text = made(&call("/api/v2/tickets", body.clone()), true);
        for part in [
            "New ticket",
            "<h3>&lt;b&gt;Hola&lt;/b&gt;</h3>",
            "<div class=written><p>a</p></div>",
            "<p class=who>Ana</p>",
            "<dt>status</dt><dd>open</dd>",
            "<dd>x, &lt;y&gt;</dd>",
            "<dt>cf_a</dt><dd>é</dd>",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let hidden = made(&call("/api/v2/tickets", body), false);
        for word in ["Hola", "Ana", "<p>a</p>", "&lt;y&gt;", "é"] {
            assert!(!hidden.contains(word), "{word} is in {hidden}");
        }
        assert!(hidden.contains("<dd>open</dd>") && hidden.contains(HIDDEN), "{hidden}");
    }

    #[test]
    fn other_calls_have_their_names() {
        let check = |path: &str, body: Value, expect: &str| {
            let text = made(&call(path, body), true);
            assert!(text.contains(&format!("<b>{expect}</b>")), "{text}");
        };
        check("/api/v2/tickets/1/notes", json!({"body": "x", "private": true}), "Private note");
        check("/api/v2/tickets/1/notes", json!({"body": "x", "private": false}), "Public note");
        check("/api/v2/tickets/1/reply", json!({"body": "x"}), "Reply, mailed to the customer");
        check("/api/v2/tickets/1", json!({"status": 4}), "Change of the ticket");
        check("/api/v2/contacts (or PUT to the one that is there)", json!({"name": "Ana"}), "Contact");
    }
}
