//! The page: the tickets as an agent would see them. Plain HTML, no script, readable on a phone.
//!
//! **Invariant:** everything that callers sent is escaped, or sanitised again here, and the page's policy forbids
//! scripts, frames, images and forms, so that it is safe to look at whatever a sandbox was fed.

use super::form::PRIORITIES;
use super::state::State;
use super::view::{AttachmentView, NoteView, RequesterView, TicketView, requester};
use crate::clock::Timestamp;
use crate::html::{escape, sanitise};
use serde_json::Value;

/// The `Content-Security-Policy` of every page.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const ROWS_MAX: usize = 200;

/// The list, newest first; it loads itself again every five seconds.
pub(crate) fn list(state: &State) -> String {
    let total = state.store.tickets.len();
    let rows: String =
        state.store.tickets.values().rev().take(ROWS_MAX).map(|ticket| row(state, ticket.id)).collect();
    let body = if total == 0 {
        format!(
            "<section class=empty><p class=big>No tickets yet</p><p>Point deskspool at this sandbox and send it an \
             event. Tickets show up here by themselves.</p><pre>[freshdesk]\nurl     = \"{}\"\napi_key = …</pre></section>",
            escape(&state.base_url)
        )
    } else {
        format!("<section class=list>{rows}</section>")
    };
    let more = total.saturating_sub(ROWS_MAX);
    let foot =
        if more > 0 { format!("<p class=foot>{more} older ones are not shown.</p>") } else { String::new() };
    let counts = format!("{} · {}", count(total, "ticket"), count(state.store.contacts.len(), "contact"));
    let down = if state.down { "<span class=\"pill gone\">API is down</span>" } else { "" };
    let head = format!("<header><h1>Sandbox desk</h1><p class=muted>{counts} {down}</p></header>");
    document("Sandbox desk", "<meta http-equiv=refresh content=5>", &format!("{head}{body}{foot}"))
}

/// One ticket with its conversation.
pub(crate) fn ticket(state: &State, id: u64) -> Option<String> {
    let ticket = TicketView::of(state, state.store.tickets.get(&id)?);
    let now = state.now();
    let opening = message(&Message {
        who: &name(&ticket.requester),
        what: "asked",
        class: "in",
        html: &ticket.description,
        files: &ticket.attachments,
        at: ticket.created_at,
        now,
    });
    let notes: String = ticket.notes.iter().map(|note| note_html(state, note, now)).collect();
    let quiet =
        if ticket.notes.is_empty() { "<p class=\"muted quiet\">No notes or replies yet.</p>" } else { "" };
    let head = format!(
        "<header><p><a class=back href=\"/\">‹ all tickets</a></p><h1>{}</h1><p class=muted>#{id} · {} · {}</p></header>",
        escape(&ticket.subject),
        pills(state, &ticket),
        moment("changed", ticket.updated_at, now),
    );
    let body =
        format!("{head}<div class=two><main>{opening}{notes}{quiet}</main>{}</div>", facts(state, &ticket));
    Some(document(&format!("#{id} {}", ticket.subject), "", &body))
}

/// What is shown where nothing is.
pub(crate) fn nothing() -> String {
    let body =
        "<section class=empty><p class=big>Nothing here</p><p><a href=\"/\">All tickets</a></p></section>";
    document("Nothing here", "", body)
}

fn row(state: &State, id: u64) -> String {
    let Some(ticket) = state.store.tickets.get(&id) else { return String::new() };
    let ticket = TicketView::of(state, ticket);
    let notes = match ticket.notes.len() {
        0 => String::new(),
        notes => format!(" · {}", count(notes, "note")),
    };
    format!(
        "<a class=row href=\"/tickets/{id}\"><span class=id>#{id}</span><span class=main><b>{}</b>\
         <span class=muted>{}{notes}</span>{}</span><span class=side><span>{}</span><span class=muted>{}</span></span></a>",
        escape(&ticket.subject),
        escape(&name(&ticket.requester)),
        tags(&ticket.tags),
        pills(state, &ticket),
        ago(ticket.created_at, state.now()),
    )
}

fn pills(state: &State, ticket: &TicketView) -> String {
    let status = state.form.statuses.iter().find(|status| status.id == ticket.status);
    let status = status.map_or("Unknown", |status| status.name.as_str());
    let priority =
        PRIORITIES.iter().find(|(number, _)| *number == ticket.priority).map_or("", |(_, name)| name);
    let mut pills = format!("<span class=\"pill s{}\">{}</span>", ticket.status.min(6), escape(status));
    pills.push_str(&format!("<span class=\"pill p{}\">{priority}</span>", ticket.priority));
    for (is_set, word) in [(ticket.spam, "Spam"), (ticket.deleted, "Deleted")] {
        pills.push_str(&if is_set {
            format!("<span class=\"pill gone\">{word}</span>")
        } else {
            String::new()
        });
    }
    pills
}

fn tags(tags: &[String]) -> String {
    let each: String = tags.iter().map(|tag| format!("<span class=tag>{}</span>", escape(tag))).collect();
    if each.is_empty() { each } else { format!("<span class=tags>{each}</span>") }
}

struct Message<'a> {
    who: &'a str,
    what: &'a str,
    class: &'a str,
    html: &'a str,
    files: &'a [AttachmentView],
    at: Timestamp,
    now: Timestamp,
}

fn message(message: &Message<'_>) -> String {
    let files: String = message.files.iter().map(file).collect();
    let files = if files.is_empty() { files } else { format!("<p class=files>{files}</p>") };
    format!(
        "<article class=\"{}\"><p class=by><b>{}</b> <span class=muted>{} {}</span></p><div class=text>{}</div>{files}</article>",
        message.class,
        escape(message.who),
        message.what,
        moment("", message.at, message.now),
        sanitise(message.html),
    )
}

fn note_html(state: &State, note: &NoteView, now: Timestamp) -> String {
    let who = note.user_id.map(|id| name(&requester(state, id))).unwrap_or_default();
    let (what, class) = match (note.reply, note.incoming, note.private) {
        (true, ..) => ("replied", "out"),
        (_, true, true) => ("wrote (private)", "in private"),
        (_, true, false) => ("wrote", "in"),
        (_, _, true) => ("added a private note", "private"),
        (_, _, false) => ("added a public note", "out"),
    };
    let (html, files, at) = (&note.body, &note.attachments, note.created_at);
    message(&Message { who: &who, what, class, html, files, at, now })
}

fn file(file: &AttachmentView) -> String {
    let size = file.size_bytes.div_ceil(1024);
    format!("<span class=tag>{} · {size} KiB</span>", escape(&file.name))
}

fn facts(state: &State, ticket: &TicketView) -> String {
    let mut facts = String::new();
    let mut fact = |label: &str, value: &str| {
        if !value.is_empty() {
            facts.push_str(&format!("<dt>{}</dt><dd>{}</dd>", escape(label), escape(value)));
        }
    };
    let requester = &ticket.requester;
    fact("Requester", requester.name.as_deref().unwrap_or_default());
    fact("Email", requester.email.as_deref().unwrap_or_default());
    fact("Phone", requester.phone.as_deref().unwrap_or_default());
    fact("External id", requester.unique_external_id.as_deref().unwrap_or_default());
    fact("Type", ticket.ticket_type.as_deref().unwrap_or_default());
    let form = &state.form;
    let named = |all: &[super::form::Named], id: Option<u64>| {
        id.map(|id| {
            all.iter().find(|one| one.id == id).map_or_else(|| id.to_string(), |one| one.name.clone())
        })
    };
    fact("Group", &named(&form.groups, ticket.group_id).unwrap_or_default());
    fact("Product", &named(&form.products, ticket.product_id).unwrap_or_default());
    let agent = ticket.responder_id.and_then(|id| form.agent(id));
    fact("Agent", agent.map_or("", |agent| &agent.name));
    fact("Source", &named(&form.sources, Some(ticket.source)).unwrap_or_default());
    fact("In copy", &ticket.cc_emails.join(", "));
    for (field, value) in &ticket.custom_fields {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        fact(field, if *value == Value::Null { "" } else { &shown });
    }
    fact("Created", &ticket.created_at.to_string());
    format!("<aside><dl>{facts}</dl>{}</aside>", tags(&ticket.tags))
}

fn name(requester: &RequesterView) -> String {
    let known = [&requester.name, &requester.email, &requester.phone, &requester.unique_external_id];
    known.into_iter().flatten().next().cloned().unwrap_or_else(|| format!("contact {}", requester.id))
}

fn moment(word: &str, at: Timestamp, now: Timestamp) -> String {
    format!("<time title=\"{at}\">{word} {}</time>", ago(at, now))
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.since(at).as_secs() {
        0..5 => "just now".to_owned(),
        seconds @ 5..60 => format!("{seconds}s ago"),
        seconds @ 60..3600 => format!("{}m ago", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h ago", seconds / 3600),
        seconds => format!("{}d ago", seconds / 86_400),
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn document(title: &str, head: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width,initial-scale=1\"><meta name=color-scheme content=\"light dark\">{head}\
         <title>{}</title><style>{STYLE}</style></head><body><div class=wrap>{body}\
         <p class=foot>deskspool sandbox: a stand-in for Freshdesk on this machine, in memory only.</p></div></body></html>\n",
        escape(title)
    )
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let check = |seconds: u64, expect: &str| {
            assert_eq!(ago(Timestamp(1_000), Timestamp(1_000 + seconds * 1000)), expect);
        };
        check(0, "just now");
        check(42, "42s ago");
        check(150, "2m ago");
        check(7_300, "2h ago");
        check(200_000, "2d ago");
        assert_eq!(ago(Timestamp(9_000), Timestamp(0)), "just now");
    }
}
