//! The rules of `tests/presets/README.md`: what happened against what a support admin expects.

use super::world::{Done, Effect, Results};
use super::{Case, FALLBACK_EMAIL};
use deskspool::freshdesk::write::{Requester, Write};
use serde_json::Value;
use std::collections::BTreeMap;

/// Equivalence classes over the cases of a platform: same name, same key; other name, other key.
#[derive(Default)]
pub struct Classes {
    conversations: BTreeMap<String, String>,
    dedupes: BTreeMap<String, String>,
}

/// What is wrong, empty when the case passes.
pub fn compare(case: &Case, results: &Results, classes: &mut Classes) -> Vec<String> {
    let expect = &case.expect;
    let done = match results {
        Results::Refused(_) | Results::NotUnderstood(_) => {
            let action = check_action(expect, "reject").into_iter();
            let status = matches!(results, Results::Refused(_)).then(|| check_status(expect, 401)).flatten();
            return action.chain(status).collect();
        }
        Results::Events { done, .. } => done,
    };
    let mut wrong = Vec::new();
    if let (Some(max), Results::Events { tickets, .. }) =
        (expect["max_tickets_in_sequence"].as_u64(), results)
        && *tickets > max
    {
        wrong.push(format!("{tickets} tickets, at most {max}"));
    }
    if let Some(events) = expect["events"].as_array() {
        wrong.extend(compare_list(case, events, done, classes));
        return wrong;
    }
    match done.as_slice() {
        [] => wrong.extend(check_action(expect, "ignore")),
        [one] => wrong.extend(compare_event(&case.platform, expect, one, classes)),
        many => wrong.push(format!("{} events, expected one", many.len())),
    }
    wrong
}

/// The expected events are among those that happened, in order; those beside them came to nothing.
fn compare_list(case: &Case, expected: &[Value], done: &[Done], classes: &mut Classes) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut rest = done.iter();
    for (index, expect) in expected.iter().enumerate() {
        let must_be_beside = done.len() - expected.len().min(done.len());
        let next = if must_be_beside == 0 {
            rest.next()
        } else {
            rest.by_ref().find(|done| check_action(expect, action(done)).is_none())
        };
        match next {
            None => wrong.push(format!("event {}: did not happen", index + 1)),
            Some(done) => {
                let of_event = compare_event(&case.platform, expect, done, classes);
                wrong.extend(of_event.into_iter().map(|wrong| format!("event {}: {wrong}", index + 1)));
            }
        }
    }
    wrong
}

fn action(done: &Done) -> &'static str {
    match &done.effect {
        Effect::Duplicate | Effect::Ignored(_) => "ignore",
        Effect::Dead(_) => "reject",
        Effect::Writes(writes) => {
            let actions = writes.iter().map(|write| match write {
                Write::CreateTicket(_) => "create_ticket",
                Write::AddNote(_) => "add_note",
                Write::UpdateTicket(_) => "update_ticket",
                Write::PutContact(_) => "create_contact",
            });
            let rank = |action: &&str| ["create_ticket", "add_note", "update_ticket"].contains(action);
            // A contact beside a ticket is not what the case is about.
            let first = actions.clone().find(rank).or_else(|| actions.clone().next());
            first.unwrap_or("ignore")
        }
    }
}

fn check_action(expect: &Value, action: &str) -> Option<String> {
    let mut allowed = vec![expect["action"].as_str().unwrap_or_default()];
    allowed.extend(expect["acceptable_actions"].as_array().into_iter().flatten().filter_map(Value::as_str));
    (!allowed.contains(&action)).then(|| format!("{action}, expected {}", allowed.join(" or ")))
}

fn check_status(expect: &Value, status: u64) -> Option<String> {
    let any = expect["http_status_any"].as_array().into_iter().flatten().any(|allowed| allowed == status);
    (!any && expect["http_status"] != status).then(|| format!("{status} is not an expected status"))
}

fn compare_event(platform: &str, expect: &Value, done: &Done, classes: &mut Classes) -> Vec<String> {
    let mut wrong: Vec<String> = check_action(expect, action(done)).into_iter().collect();
    if let (Effect::Dead(reason), false) = (&done.effect, wrong.is_empty()) {
        wrong.push(reason.clone());
    }
    if !matches!(done.effect, Effect::Dead(_)) {
        let conversation = (&expect["conversation_key"], done.draft.conversation.clone());
        wrong.extend(check_class("conversation", platform, conversation, &mut classes.conversations));
        let dedupe = (&expect["dedupe_key_hint"], format!("{:?}", done.draft.dedupe));
        wrong.extend(check_class("dedupe key", platform, dedupe, &mut classes.dedupes));
    }
    match &done.effect {
        Effect::Writes(writes) => match writes.iter().find(|write| !matches!(write, Write::PutContact(_))) {
            Some(Write::CreateTicket(ticket)) => {
                wrong.extend(compare_requester(&expect["requester"], &ticket.requester));
                wrong.extend(compare_texts(expect, "subject", &ticket.subject));
                wrong.extend(compare_texts(expect, "description", &ticket.description));
                wrong.extend(compare_texts(expect, "tags", &ticket.tags.join("\n")));
                wrong.extend(compare_lengths(expect, &ticket.subject, &ticket.description, done));
            }
            Some(Write::AddNote(note)) => wrong.extend(compare_texts(expect, "description", &note.body)),
            Some(Write::UpdateTicket(_) | Write::PutContact(_)) | None => {}
        },
        Effect::Duplicate | Effect::Ignored(_) | Effect::Dead(_) => {}
    }
    wrong
}

fn check_class(
    what: &str,
    platform: &str,
    (class, key): (&Value, String),
    seen: &mut BTreeMap<String, String>,
) -> Option<String> {
    let class = format!("{platform} {}", class.as_str()?);
    if let Some((other, _)) = seen.iter().find(|(other, theirs)| **other != class && **theirs == key) {
        return Some(format!("the {what} of {class} is also that of {other}"));
    }
    let first = seen.entry(class.clone()).or_insert_with(|| key.clone());
    (*first != key).then(|| format!("the {what} of {class} is {key}, before it was {first}"))
}

fn compare_requester(expect: &Value, is: &Requester) -> Vec<String> {
    if expect.is_null() {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    if expect["fallback"] == true {
        if is.email.as_deref() != Some(FALLBACK_EMAIL) {
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

fn compare_texts(expect: &Value, field: &str, text: &str) -> Vec<String> {
    let list = |key: String| -> Vec<String> {
        let texts = expect[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let readable = readable(text);
    let raw = text.to_lowercase();
    let missing = list(format!("{field}_contains"))
        .into_iter()
        .filter(|part| !readable.contains(&self::readable(part)));
    let unwanted =
        list(format!("{field}_not_contains")).into_iter().filter(|part| raw.contains(&part.to_lowercase()));
    missing
        .map(|part| format!("{field} does not contain {part:?}"))
        .chain(unwanted.map(|part| format!("{field} contains {part:?}")))
        .collect()
}

fn compare_lengths(expect: &Value, subject: &str, description: &str, done: &Done) -> Vec<String> {
    let mut wrong = Vec::new();
    let max = expect["subject_max_chars"].as_u64().unwrap_or(255);
    if subject.chars().count() as u64 > max {
        wrong.push(format!("subject of {} characters, at most {max}", subject.chars().count()));
    }
    if expect["must_not_truncate_silently"] == true
        && description.len() < done.draft.body.len()
        && !description.contains("[cut here")
    {
        wrong.push("the description was cut without saying so".to_owned());
    }
    wrong
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
