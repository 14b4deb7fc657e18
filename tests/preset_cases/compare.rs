//! The rules of `tests/corpus/README.md`: what happened against what a support admin expects. What happened may have
//! been seen in plans or in a desk.

use super::world::{Done, Effect, Results};
use super::{Case, FALLBACK_EMAIL};
use deskspool::freshdesk::write::{Requester, Write};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a request came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The status line, where there was one.
    pub status: Option<u16>,
    /// Nothing of it goes to Freshdesk: refused, or not understood.
    pub is_rejected: bool,
    pub body: Option<String>,
    pub content_type: Option<String>,
    pub events: Vec<Seen>,
    /// Tickets there are afterwards.
    pub tickets: u64,
}

/// What an event came to.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// `create_ticket`, `add_note`, `update_ticket`, `upsert_contact`; none when it was ignored.
    pub actions: Vec<&'static str>,
    /// Why it is a dead letter.
    pub dead: Option<String>,
    pub requester: Option<Requester>,
    pub subject: Option<String>,
    /// The description, or the note.
    pub text: Option<String>,
    /// The ticket's, where it was written.
    pub tags: Option<Vec<String>>,
    pub has_attachment: bool,
    /// A desk has what it made of the HTML, not what it was sent.
    pub is_sanitised: bool,
    pub conversation: Option<String>,
    pub dedupe: Option<String>,
}

/// Equivalence classes over the cases of a platform: same name, same key; other name, other key.
#[derive(Default)]
pub struct Classes {
    conversations: BTreeMap<String, String>,
    dedupes: BTreeMap<String, String>,
}

/// What is wrong with planned results, empty when the case passes.
pub fn compare(case: &Case, results: &Results, classes: &mut Classes) -> Vec<String> {
    let outcome = match results {
        Results::Refused(_) => Outcome { status: Some(401), is_rejected: true, ..Outcome::default() },
        Results::NotUnderstood(_) => Outcome { is_rejected: true, ..Outcome::default() },
        Results::Events { done, tickets } => {
            Outcome { events: done.iter().map(seen).collect(), tickets: *tickets, ..Outcome::default() }
        }
    };
    judge(case, &outcome, classes)
}

/// What is wrong, empty when the case passes.
pub fn judge(case: &Case, outcome: &Outcome, classes: &mut Classes) -> Vec<String> {
    let expect = &case.expect;
    let mut wrong: Vec<String> =
        outcome.status.and_then(|status| check_status(expect, status)).into_iter().collect();
    wrong.extend(check_answer(expect, outcome));
    if outcome.is_rejected {
        // What is answered as expected and leaves nothing behind is ignored as well as refused.
        if wrong.is_empty() && outcome.status.is_some() && check_action(expect, &Seen::default()).is_none() {
            return wrong;
        }
        wrong.extend(check_action(expect, &Seen { dead: Some(String::new()), ..Seen::default() }));
        return wrong;
    }
    if let Some(max) = expect["max_tickets_in_sequence"].as_u64().filter(|max| outcome.tickets > *max) {
        wrong.push(format!("{} tickets, at most {max}", outcome.tickets));
    }
    if let Some(expected) = expect["events"].as_array() {
        wrong.extend(judge_list(case, expected, &outcome.events, classes));
        return wrong;
    }
    match outcome.events.as_slice() {
        [] => wrong.extend(check_action(expect, &Seen::default())),
        [one] => wrong.extend(judge_event(case, expect, one, classes)),
        many => wrong.push(format!("{} events, expected one", many.len())),
    }
    wrong
}

/// Each expected event is one of those that happened, the one that is wrong in the least; those that are left came to
/// nothing. Of several conversations any may have been delivered first.
fn judge_list(case: &Case, expected: &[Value], events: &[Seen], classes: &mut Classes) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut rest: Vec<&Seen> = events.iter().collect();
    for (index, expect) in expected.iter().enumerate() {
        let faults = |seen: &&Seen| judge_event(case, expect, seen, &mut Classes::default()).len();
        let fits = rest.iter().enumerate().min_by_key(|(_, seen)| faults(seen)).map(|(at, _)| at);
        // What was ignored leaves no trace in a desk.
        let is_nothing = check_action(expect, &Seen::default()).is_none();
        match fits.filter(|at| !is_nothing || faults(&rest[*at]) == 0) {
            None if is_nothing => {}
            None => wrong.push(format!("event {}: did not happen", index + 1)),
            Some(at) => {
                let of_event = judge_event(case, expect, rest.remove(at), classes);
                wrong.extend(of_event.into_iter().map(|wrong| format!("event {}: {wrong}", index + 1)));
            }
        }
    }
    let is_something = |seen: &&&Seen| !seen.actions.is_empty();
    wrong.extend(
        rest.iter()
            .filter(is_something)
            .map(|seen| format!("{} beside what is expected", seen.actions.join(" and "))),
    );
    wrong
}

fn seen(done: &Done) -> Seen {
    let mut seen = Seen {
        conversation: Some(done.draft.conversation.clone()),
        dedupe: Some(format!("{:?}", done.draft.dedupe)),
        ..Seen::default()
    };
    match &done.effect {
        Effect::Duplicate | Effect::Ignored(_) => {}
        Effect::Dead(reason) => seen.dead = Some(reason.clone()),
        Effect::Writes(writes) => writes.iter().for_each(|write| add(&mut seen, write)),
    }
    seen
}

fn add(seen: &mut Seen, write: &Write) {
    match write {
        Write::CreateTicket(ticket) => {
            seen.actions.push("create_ticket");
            seen.requester = Some(ticket.requester.clone());
            seen.subject = Some(ticket.subject.clone());
            seen.text = Some(ticket.description.clone());
            seen.tags = Some(ticket.tags.clone());
            seen.has_attachment |= !ticket.attachments.is_empty();
        }
        Write::AddNote(note) => {
            seen.actions.push("add_note");
            seen.text.get_or_insert_with(|| note.body.clone());
            seen.has_attachment |= !note.attachments.is_empty();
        }
        Write::UpdateTicket(update) => {
            seen.actions.push("update_ticket");
            seen.tags = Some(update.tags_add.clone());
        }
        Write::PutContact(contact) => {
            seen.actions.push("upsert_contact");
            seen.requester.get_or_insert_with(|| contact.requester.clone());
        }
    }
}

/// A ticket is never something else; of the other things an event does, one must be what is expected.
fn check_action(expect: &Value, seen: &Seen) -> Option<String> {
    let mut allowed = vec![expect["action"].as_str().unwrap_or_default()];
    allowed.extend(expect["acceptable_actions"].as_array().into_iter().flatten().filter_map(Value::as_str));
    let actions = match (&seen.dead, seen.actions.as_slice()) {
        (Some(_), _) => vec!["reject"],
        (None, []) => vec!["ignore"],
        (None, actions) if actions.contains(&"create_ticket") => vec!["create_ticket"],
        (None, actions) => actions.to_vec(),
    };
    let is_allowed = actions.iter().any(|action| allowed.contains(action));
    (!is_allowed).then(|| format!("{}, expected {}", actions.join(" and "), allowed.join(" or ")))
}

fn check_status(expect: &Value, status: u16) -> Option<String> {
    let mut allowed: Vec<u64> = expect["http_status"].as_u64().into_iter().collect();
    allowed.extend(expect["http_status_any"].as_array().into_iter().flatten().filter_map(Value::as_u64));
    let is_success = |status: u64| (200..300).contains(&status);
    let status = u64::from(status);
    let passes =
        allowed.contains(&status) || (is_success(status) && allowed.iter().any(|status| is_success(*status)));
    (!passes).then(|| format!("answered {status}, expected one of {allowed:?}"))
}

fn check_answer(expect: &Value, outcome: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(body) = &outcome.body else { return wrong };
    if let Some(expected) = expect["response_body"].as_str().filter(|expected| expected != body) {
        wrong.push(format!("answered {body:?}, expected {expected:?}"));
    }
    let content_type = outcome.content_type.as_deref().unwrap_or_default();
    if let Some(expected) =
        expect["response_type"].as_str().filter(|expected| !content_type.starts_with(expected))
    {
        wrong.push(format!("answered {content_type:?}, expected {expected:?}"));
    }
    if expect["response_not_text"] == true && !body.is_empty() && !content_type.contains("xml") {
        wrong.push(format!("answered {content_type} {body:?}, which would go to the customer"));
    }
    wrong
}

fn judge_event(case: &Case, expect: &Value, seen: &Seen, classes: &mut Classes) -> Vec<String> {
    let mut wrong: Vec<String> = check_action(expect, seen).into_iter().collect();
    match &seen.dead {
        Some(reason) if !wrong.is_empty() => wrong.push(reason.clone()),
        Some(_) => return wrong,
        None => {
            let conversation = (&expect["conversation_key"], &seen.conversation);
            wrong.extend(check_class(
                "conversation",
                &case.platform,
                conversation,
                &mut classes.conversations,
            ));
            let dedupe = (&expect["dedupe_key_hint"], &seen.dedupe);
            wrong.extend(check_class("dedupe key", &case.platform, dedupe, &mut classes.dedupes));
        }
    }
    if let Some(requester) = &seen.requester {
        wrong.extend(compare_requester(case, &expect["requester"], requester));
    }
    if let Some(subject) = &seen.subject {
        wrong.extend(compare_texts((expect, "subject"), subject, true));
        let max = expect["subject_max_chars"].as_u64().unwrap_or(255);
        if subject.chars().count() as u64 > max {
            wrong.push(format!("subject of {} characters, at most {max}", subject.chars().count()));
        }
    }
    if let Some(text) = &seen.text {
        wrong.extend(compare_texts((expect, "description"), text, !seen.is_sanitised));
        let is_cut =
            text.len() < case.request.body.len() && !text.contains("[cut here") && !seen.has_attachment;
        if expect["must_not_truncate_silently"] == true && is_cut {
            wrong.push("the description was cut without saying so".to_owned());
        }
    }
    if let Some(tags) = &seen.tags {
        wrong.extend(compare_texts((expect, "tags"), &tags.join("\n"), true));
    }
    wrong
}

fn check_class(
    what: &str,
    platform: &str,
    (class, key): (&Value, &Option<String>),
    seen: &mut BTreeMap<String, String>,
) -> Option<String> {
    let (class, key) = (format!("{platform} {}", class.as_str()?), key.clone()?);
    if let Some((other, _)) = seen.iter().find(|(other, theirs)| {
        **other != class && **theirs == key && other.split(' ').next() == Some(platform)
    }) {
        return Some(format!("the {what} of {class} is also that of {other}"));
    }
    let first = seen.entry(class.clone()).or_insert_with(|| key.clone());
    (*first != key).then(|| format!("the {what} of {class} is {key}, before it was {first}"))
}

fn compare_requester(case: &Case, expect: &Value, is: &Requester) -> Vec<String> {
    if expect.is_null() {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    if expect["fallback"] == true {
        let by_id = expect["external_id"].as_str().is_some_and(|id| {
            is.external_id.as_deref().is_some_and(|is| is.contains(id)) && is.email.is_none()
        });
        if is.email.as_deref() != Some(FALLBACK_EMAIL) && !by_id {
            wrong.push(format!("requester {is:?} is not the fallback"));
        }
        return wrong;
    }
    let digits = |text: &str| -> String {
        text.trim_start_matches('+').trim_start_matches("00").chars().filter(char::is_ascii_digit).collect()
    };
    let phone = expect["phone"].as_str();
    let mut check =
        |name: &str, expected: Option<&str>, is: &Option<String>, same: &dyn Fn(&str, &str) -> bool| {
            let passes = match (expected, is) {
                (None, None) => true,
                (Some(expected), Some(is)) => same(expected, is),
                // A name that was given, or made from the number or the address, is not invented.
                (None, Some(is)) => name == "name" && is_given(case, is),
                _ => false,
            };
            if !passes {
                wrong.push(format!("requester.{name} is {is:?}, expected {expected:?}"));
            }
        };
    check("email", expect["email"].as_str(), &is.email, &|expected, is| expected == is);
    check("phone", phone, &is.phone, &|expected, is| digits(expected) == digits(is));
    check("name", expect["name"].as_str(), &is.name, &|expected, is| {
        expected == is || Some(expected) == phone
    });
    check("external_id", expect["external_id"].as_str(), &is.external_id, &|expected, is| {
        is.contains(expected)
    });
    wrong
}

/// Do the letters and digits of a name stand in the request?
fn is_given(case: &Case, name: &str) -> bool {
    let letters =
        |text: &str| -> String { text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect() };
    letters(&String::from_utf8_lossy(&case.request.body)).contains(&letters(name))
}

fn compare_texts((expect, field): (&Value, &str), text: &str, is_raw: bool) -> Vec<String> {
    let list = |key: String| -> Vec<String> {
        let texts = expect[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let readable = readable(text);
    let raw = text.to_lowercase();
    let missing = list(format!("{field}_contains"))
        .into_iter()
        .filter(|part| !readable.contains(&self::readable(part)));
    let unwanted = list(format!("{field}_not_contains"))
        .into_iter()
        .filter(|part| is_raw && raw.contains(&part.to_lowercase()));
    missing
        .map(|part| format!("{field} does not contain {part:?}"))
        .chain(unwanted.map(|part| format!("{field} contains {part:?}")))
        .collect()
}

/// Lower case, entities resolved, blanks collapsed.
fn readable(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let entity = after.split_once(';').filter(|(name, _)| name.len() < 8).and_then(|(name, tail)| {
            let c = match name {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                number => char::from_u32(number.strip_prefix('#')?.parse().ok()?)?,
            };
            Some((c, tail))
        });
        match entity {
            Some((c, tail)) => {
                plain.push(c);
                rest = tail;
            }
            None => {
                plain.push('&');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}
