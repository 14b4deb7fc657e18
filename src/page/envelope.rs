//! The page of one envelope: where it stands, its attempts, its event, what was or would be written.
//!
//! **Invariant:** what a customer wrote is there only for who knows the password; others see its shape.

use super::html::{self, card, escape};
use super::list::state_pill;
use super::{Page, Refusal, ticket};
use crate::clock::spell;
use crate::control::view::{EnvelopeView, Row, TryView};
use crate::dispatch::Planned;
use crate::spool::Id;
use crate::trial::{self, Call};
use serde_json::Value;

/// Stands for what a customer wrote.
pub(super) const HIDDEN: &str = "•••";

impl Page {
    /// `/envelope/10432`; `None` when there is none.
    pub(super) fn envelope(&self, id: &str, is_revealed: bool) -> Result<Option<String>, Refusal> {
        let Some(view) = id.parse().ok().map(|id| self.rooms.look(id)).transpose()?.flatten() else {
            return Ok(None);
        };
        let row = &view.row;
        let title = format!("{} {}", row.id, row.state);
        let buttons = if self.may_act() { self.buttons(row) } else { commands(row) };
        let main = format!(
            "{}<main><section class=\"card facts\"><dl>{}</dl><div class=buttons>{buttons}</div></section>{}{}{}</main>",
            html::head(&format!("Envelope {} {}", row.id, state_pill(&row.state))),
            self.facts(&view, is_revealed),
            attempts(&view.tries),
            self.calls(&view, is_revealed)?,
            self.event(&view, is_revealed),
        );
        Ok(Some(html::document(&title, !is_revealed, &main)))
    }

    fn facts(&self, view: &EnvelopeView, is_revealed: bool) -> String {
        let row = &view.row;
        let mut facts = String::new();
        let mut fact = |name: &str, markup: String| {
            if !markup.is_empty() {
                let class = if name == "why" { " class=whole" } else { "" };
                facts.push_str(&format!("<div{class}><dt>{name}</dt><dd>{markup}</dd></div>"));
            }
        };
        let source = html::list_of(&[("source", &row.source)]);
        fact("source", format!("<a href=\"{}\">{}</a>", escape(&source), escape(&row.source)));
        fact("kind", escape(&view.kind));
        fact("event", escape(&row.event));
        let is_settled = matches!(row.state.as_str(), "delivered" | "dropped");
        let age = spell(row.age_seconds);
        let age = if is_settled { format!("settled after {age}") } else { format!("{age} ago") };
        fact("received", format!("{} ({age})", escape(&row.received_at)));
        fact("size", view.bytes.map(|bytes| format!("{bytes} bytes")).unwrap_or_default());
        fact("attempts", row.attempts.to_string());
        if let Some(seconds) = row.due_seconds {
            fact("next try", if seconds == 0 { "due".to_owned() } else { format!("in {}", spell(seconds)) });
        }
        if let Some(head) = row.waits_for {
            fact(
                "waits for",
                format!("<a href=\"/envelope/{head}\">{head}</a>, earlier in its conversation"),
            );
        }
        fact("why", row.last_error.as_deref().map(escape).unwrap_or_default());
        fact("ticket", row.ticket.map(|ticket| self.ticket_link(ticket)).unwrap_or_default());
        if is_revealed {
            fact("conversation", escape(&row.conversation));
            fact("requester", row.requester.as_deref().map(escape).unwrap_or_default());
            fact("from", view.peer.as_deref().map(escape).unwrap_or_default());
        }
        facts
    }

    /// What was or would be written.
    fn calls(&self, view: &EnvelopeView, is_revealed: bool) -> Result<String, Refusal> {
        let (row, title) = (&view.row, "What would be written now");
        if let ("delivered", Some(ticket)) = (row.state.as_str(), row.ticket) {
            return Ok(card("What was written", &format!("<p>It is in {}.</p>", self.ticket_link(ticket))));
        }
        let (calls, done) = self.planned(row.id)?;
        if calls.is_empty() {
            // Why nothing can be written is ours to tell, a line about a write quotes its subject.
            let lines: String = view.will_do.iter().map(|line| format!("<p>{}</p>", escape(line))).collect();
            let lines = if lines.is_empty() { lines } else { format!("{lines}{}", preview_link(row)) };
            return Ok(if lines.is_empty() { lines } else { card(title, &lines) });
        }
        let calls = calls.iter().enumerate().map(|(index, call)| {
            let done = if index < done { "<p><span class=pill>✓ done already</span></p>" } else { "" };
            format!("{done}{}", ticket::made(call, is_revealed))
        });
        let calls: String = calls.collect();
        let raw = view.writes.iter().map(|write| {
            let write = if is_revealed { write.clone() } else { redacted(write) };
            format!("<pre tabindex=0>{}</pre>", escape(&pretty(&write)))
        });
        let raw = format!("<details><summary>as JSON</summary>{}</details>", raw.collect::<String>());
        Ok(card(title, &format!("{calls}{raw}{}", preview_link(row))))
    }

    /// The calls that would be made for an envelope now, and how many of them are done.
    fn planned(&self, id: Id) -> Result<(Vec<Call>, usize), Refusal> {
        let Some((entry, _)) = self.rooms.spool.entry(id)? else { return Ok((Vec::new(), 0)) };
        let envelope = self.rooms.spool.envelope(&entry)?;
        let Planned::Writes(writes) = (self.rooms.plan)(&envelope, entry.ticket.filter(|_| !entry.opened))
        else {
            return Ok((Vec::new(), 0));
        };
        let ticket = entry.ticket.map_or_else(|| "{its ticket}".to_owned(), |ticket| ticket.to_string());
        Ok((trial::calls(&writes, &ticket), usize::try_from(entry.step).unwrap_or(usize::MAX)))
    }

    fn event(&self, view: &EnvelopeView, is_revealed: bool) -> String {
        let Some(body) = &view.body else {
            let text = "<p class=empty>Its event went with it: only what became of it is kept.</p>";
            return card("Event", text);
        };
        let parsed = serde_json::from_str::<Value>(body).ok();
        let text = match (&parsed, is_revealed) {
            (Some(event), true) => pretty(event),
            (Some(event), false) => pretty(&redacted(event)),
            (None, true) => body.clone(),
            (None, false) => format!("{} bytes that are not JSON", body.len()),
        };
        let id = view.row.id;
        let asked = match (is_revealed, self.may_act()) {
            (true, _) => format!("<p><a href=\"/envelope/{id}\">hide</a></p>"),
            (false, true) => format!("<p><a href=\"/envelope/{id}?show=1\">show what it says</a></p>"),
            (false, false) => format!("<p>What it says: <code>deskspool show {id} --body</code></p>"),
        };
        card("Event", &format!("{asked}<pre>{}</pre>", escape(&text)))
    }
}

/// Its mapping can be mended and tried before it is retried.
fn preview_link(row: &Row) -> String {
    let pick = html::query(&[("pick", &format!("e{}", row.id))]);
    format!(
        "<p class=more><a href=\"/preview/{}?{pick}\">try another mapping on it</a></p>",
        escape(&row.source)
    )
}

pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The shape of a value: its keys, without what they hold.
pub(super) fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), redacted(value))).collect(),
        Value::Array(items) => items.iter().map(redacted).collect(),
        Value::String(text) if text.is_empty() => Value::String(String::new()),
        Value::String(_) | Value::Number(_) => Value::String(HIDDEN.to_owned()),
        Value::Bool(_) | Value::Null => value.clone(),
    }
}

fn attempts(tries: &[TryView]) -> String {
    if tries.is_empty() {
        return card("Attempts", "<p class=empty>Not tried yet.</p>");
    }
    let rows: String = tries
        .iter()
        .map(|one| {
            format!(
                "<li class=\"{class}\"><span class=n>{}</span> <time>{}</time> <span class=took>{:.2}s</span> \
                 {pill} <span class=why>{}</span></li>",
                one.number,
                escape(&one.at),
                one.took_seconds,
                escape(&one.reason),
                class = escape(&one.ended),
                pill = state_pill(&one.ended),
            )
        })
        .collect();
    card("Attempts", &format!("<ol class=timeline>{rows}</ol>"))
}

/// What to type, where the page may not act.
fn commands(row: &Row) -> String {
    let id = row.id;
    match row.state.as_str() {
        "delivered" | "dropped" | "in-flight" => format!("<code>deskspool show {id}</code>"),
        "held" => format!("<code>deskspool release {id}</code> <code>deskspool drop {id}</code>"),
        "dead" => format!("<code>deskspool retry {id}</code> <code>deskspool drop {id}</code>"),
        _ => format!(
            "<code>deskspool retry {id}</code> <code>deskspool hold {id}</code> <code>deskspool drop {id}</code>"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_redacted_event_has_its_shape_only() {
        let event =
            json!({"name": "Ana", "tags": ["vip"], "score": 50, "open": true, "none": null, "empty": ""});
        let expect = json!({"name": HIDDEN, "tags": [HIDDEN], "score": HIDDEN, "open": true, "none": null, "empty": ""});
        assert_eq!(redacted(&event), expect);
    }
}
