//! Everything that is not the API: the control path and the page.
//!
//! **Invariant:** only requests for a loopback name are answered, so that a page of the internet cannot read or
//! script a sandbox through the admin's browser.

use super::answer::Answer;
use super::faults::Armed;
use super::http::{Purpose, set_down};
use super::page;
use super::script;
use super::state::{Shared, State};
use super::wire::Request;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const PREFIX: &str = "/_sandbox/";

/// Answers a request that is not for the API.
pub(crate) fn answer(shared: &Arc<Shared>, request: &Request, purpose: Purpose) -> Answer {
    let head = &request.head;
    if !is_local(head.header("host").unwrap_or("localhost")) {
        return Answer::message(421, "The sandbox answers only on a loopback name");
    }
    let method = if head.method == "HEAD" { "GET" } else { head.method.as_str() };
    if head.path == format!("{PREFIX}down") && method == "POST" {
        return down(shared, request, purpose);
    }
    match head.path.strip_prefix(PREFIX) {
        None if method == "GET" => page(&shared.state(), &head.path),
        None => Answer::method_not_allowed(method, &["GET"]),
        Some(rest) if method == "GET" => look(&shared.state(), rest),
        Some(rest) => shared
            .change(|state| change(state, method, rest, &request.body))
            .unwrap_or_else(|refusal| refusal),
    }
}

fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|local| name.eq_ignore_ascii_case(local))
}

fn page(state: &State, path: &str) -> Answer {
    let ticket = path.strip_prefix("/tickets/").and_then(|id| id.parse().ok());
    let (status, page) = match (path, ticket) {
        ("/" | "/tickets", _) => (200, page::list(state)),
        (_, Some(id)) => page::ticket(state, id).map_or_else(|| (404, page::nothing()), |page| (200, page)),
        _ => (404, page::nothing()),
    };
    Answer::html(status, page)
        .with("Content-Security-Policy", page::POLICY)
        .with("X-Content-Type-Options", "nosniff")
        .with("Referrer-Policy", "no-referrer")
        .with("Cache-Control", "no-store")
}

fn look(state: &State, what: &str) -> Answer {
    match what {
        "state" => Answer::json(200, &json!({"tickets": state.tickets(), "contacts": state.contacts()})),
        "requests" => Answer::json(200, &json!(state.requests())),
        "knobs" => Answer::json(200, &json!(state.knobs)),
        "faults" => {
            let fault = |armed: &Armed| json!({"effect": armed.fault.effect().name(), "seen": armed.seen, "hits": armed.hits});
            Answer::json(200, &state.faults.iter().map(fault).collect())
        }
        _ => Answer::empty(404),
    }
}

fn change(state: &mut State, method: &str, what: &str, body: &[u8]) -> Result<Answer, Answer> {
    let refused = |error: String| Answer::message(400, &error);
    let read = || serde_json::from_slice::<Value>(body).map_err(|error| refused(error.to_string()));
    let members = || match read()? {
        Value::Object(members) => Ok(members),
        _ => Err(refused("an object is wanted".to_owned())),
    };
    let mut segments = what.split('/');
    let place = (method, segments.next().unwrap_or_default(), segments.next().map(str::parse::<u64>));
    match place {
        ("POST", "faults", None) => {
            let faults = script::faults(read()?).map_err(|error| refused(error.to_string()))?;
            state.faults.extend(faults.into_iter().map(Armed::new));
            Ok(Answer::json(201, &json!({"faults": state.faults.len()})))
        }
        ("DELETE", "faults", None) => {
            state.faults.clear();
            Ok(Answer::empty(204))
        }
        ("POST", "knobs", None) => {
            state.knobs = state.knobs.changed(&members()?).map_err(refused)?;
            Ok(Answer::json(200, &json!(state.knobs)))
        }
        ("POST", "key", None) => {
            let members = members()?;
            let key = members
                .get("key")
                .and_then(Value::as_str)
                .ok_or_else(|| refused("key is wanted".to_owned()))?;
            state.key = key.to_owned();
            Ok(Answer::empty(204))
        }
        ("POST", "tickets", Some(Ok(id))) => mark(&members()?, &["spam", "deleted"], |name, value| {
            let ticket = state.store.tickets.get_mut(&id)?;
            *(if name == "spam" { &mut ticket.spam } else { &mut ticket.deleted }) = value;
            Some(())
        }),
        ("POST", "contacts", Some(Ok(id))) => mark(&members()?, &["blocked", "deleted"], |name, value| {
            let contact = state.store.contacts.get_mut(&id)?;
            *(if name == "blocked" { &mut contact.blocked } else { &mut contact.deleted }) = value;
            Some(())
        }),
        _ => Err(Answer::empty(404)),
    }
}

/// Sets marks like `{"spam": true}`; `set` answers nothing when there is nothing to mark.
fn mark(
    marks: &Map<String, Value>,
    known: &[&str],
    mut set: impl FnMut(&str, bool) -> Option<()>,
) -> Result<Answer, Answer> {
    for (name, value) in marks {
        let is_set = value.as_bool().filter(|_| known.contains(&name.as_str()));
        let is_set =
            is_set.ok_or_else(|| Answer::message(400, &format!("one of {known:?}, true or false")))?;
        set(name, is_set).ok_or_else(|| Answer::empty(404))?;
    }
    Ok(Answer::empty(204))
}

fn down(shared: &Arc<Shared>, request: &Request, purpose: Purpose) -> Answer {
    if purpose == Purpose::Api {
        let text = "this port would go down with the API: ask on the control port (--control-port)";
        return Answer::message(409, text);
    }
    let wanted = serde_json::from_slice::<Value>(&request.body).ok();
    let Some(wanted) = wanted.and_then(|body| body.get("down").and_then(Value::as_bool)) else {
        return Answer::message(400, "{\"down\": true} or {\"down\": false} is wanted");
    };
    match set_down(shared, wanted) {
        Ok(()) => Answer::empty(204),
        Err(error) => Answer::message(500, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_local() {
        let check = |host: &str, expect: bool| assert_eq!(is_local(host), expect, "{host}");
        check("127.0.0.1:8090", true);
        check("localhost", true);
        check("LOCALHOST:1", true);
        check("[::1]:8090", true);
        check("evil.example:8090", false);
        check("127.0.0.1.evil.example", false);
    }
}
