//! From a request to an answer: budget, key, media types, place, method, body, in this order.

use super::answer::Answer;
use super::contacts;
use super::conversations;
use super::form::Named;
use super::limits::{Call, Charge, Endpoint};
use super::list::{self, Query};
use super::multipart::{self, Input};
use super::search;
use super::state::State;
use super::tickets;
use super::wire::{Head, Request};
use serde_json::{Value, json};

/// What stands under `/api/v2/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Me,
    Tickets,
    Ticket(u64),
    Restore(u64),
    Notes(u64),
    Reply(u64),
    Conversations(u64),
    Conversation(u64),
    Contacts,
    Contact(u64),
    TicketFields,
    Groups,
    Products,
    EmailConfigs,
    SearchTickets,
}

impl Place {
    fn of(path: &str) -> Option<Place> {
        let rest = path.strip_prefix("/api/v2/")?;
        let segments: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        let id = |text: &str| text.parse::<u64>().ok();
        Some(match segments.as_slice() {
            ["agents", "me"] => Place::Me,
            ["tickets"] => Place::Tickets,
            ["tickets", ticket] => Place::Ticket(id(ticket)?),
            ["tickets", ticket, "restore"] => Place::Restore(id(ticket)?),
            ["tickets", ticket, "notes"] => Place::Notes(id(ticket)?),
            ["tickets", ticket, "reply"] => Place::Reply(id(ticket)?),
            ["tickets", ticket, "conversations"] => Place::Conversations(id(ticket)?),
            ["conversations", conversation] => Place::Conversation(id(conversation)?),
            ["contacts"] => Place::Contacts,
            ["contacts", contact] => Place::Contact(id(contact)?),
            ["ticket_fields"] => Place::TicketFields,
            ["groups"] => Place::Groups,
            ["products"] => Place::Products,
            ["email_configs"] => Place::EmailConfigs,
            ["search", "tickets"] => Place::SearchTickets,
            _ => return None,
        })
    }

    fn methods(self) -> &'static [&'static str] {
        match self {
            Place::Tickets | Place::Contacts => &["GET", "POST"],
            Place::Ticket(_) | Place::Contact(_) => &["GET", "PUT", "DELETE"],
            Place::Restore(_) => &["PUT"],
            Place::Notes(_) | Place::Reply(_) => &["POST"],
            Place::Conversation(_) => &["PUT", "DELETE"],
            _ => &["GET"],
        }
    }
}

/// Answers a call of the API; `wrong_key` refuses the key whatever it is.
pub(crate) fn api(state: &mut State, request: &Request, wrong_key: bool) -> Answer {
    metered(state, &request.head, |state| {
        if wrong_key || !has_key(&request.head, &state.key) {
            return Answer::unauthorized();
        }
        answer(state, request).unwrap_or_else(|refusal| refusal)
    })
}

/// Charges a call, answers it when the budget allows, and adds the headers that every answer has.
pub(crate) fn metered(state: &mut State, head: &Head, answer: impl FnOnce(&mut State) -> Answer) -> Answer {
    let call = call(head);
    let now = state.monotonic();
    let charge = state.limits.charge(call, now, &state.knobs);
    let mut answer = match charge.retry_after {
        Some(seconds) => limited(seconds),
        None => answer(state),
    };
    if answer.status == 401 && !state.knobs.count_unauthorized {
        state.limits.refund(call);
    }
    state.answers += 1;
    answer.headers.extend(common_headers(&charge, state.answers));
    answer
}

/// The vendor's 429.
pub(crate) fn limited(seconds: u64) -> Answer {
    let text = "You have exceeded the limit of requests per minute";
    Answer::message(429, text).with("Retry-After", seconds.to_string())
}

fn common_headers(charge: &Charge, serial: u64) -> Vec<(&'static str, String)> {
    vec![
        ("X-Ratelimit-Total", charge.total.to_string()),
        ("X-Ratelimit-Remaining", charge.remaining.to_string()),
        ("X-Ratelimit-Used-CurrentRequest", charge.used.to_string()),
        ("X-Freshdesk-Api-Version", "latest=v2; requested=v2".to_owned()),
        ("X-Request-ID", format!("5a9db0c5-0000-4000-8000-{serial:012x}")),
        ("Pragma", "no-cache".to_owned()),
        ("Cache-Control", "must-revalidate, no-cache, no-store, private, max-age=0".to_owned()),
    ]
}

fn call(head: &Head) -> Call {
    let place = Place::of(&head.path);
    let endpoint = match (place, head.method.as_str()) {
        (Some(Place::Tickets), "POST") => Endpoint::TicketCreate,
        (Some(Place::Tickets), "GET") => Endpoint::TicketList,
        (Some(Place::Ticket(_)), "PUT") => Endpoint::TicketUpdate,
        (Some(Place::Contacts), "GET") => Endpoint::ContactList,
        _ => Endpoint::Other,
    };
    let included = head.query.iter().filter(|(name, _)| name == "include");
    let parts = included.flat_map(|(_, list)| list.split(',')).count() as u64;
    let each = if endpoint == Endpoint::TicketList { 2 } else { 1 };
    Call { endpoint, credits: 1 + parts * each }
}

fn answer(state: &mut State, request: &Request) -> Result<Answer, Answer> {
    let head = &request.head;
    let bare = state.knobs.bare_media_errors;
    let refuse = |answer: Answer| match answer.status {
        400 | 406 | 415 if bare => Answer::empty(answer.status),
        _ => answer,
    };
    if !accepts_json(head) {
        return Err(refuse(Answer::coded(406, "invalid_accept", "Accept should be application/json or */*")));
    }
    let place = Place::of(&head.path).ok_or_else(|| Answer::empty(404))?;
    if !place.methods().contains(&head.method.as_str()) {
        return Err(Answer::method_not_allowed(&head.method, place.methods()));
    }
    match head.method.as_str() {
        "GET" if !request.body.is_empty() => {
            Err(Answer::coded(400, "no_content_required", "No JSON data required"))
        }
        "GET" => {
            let query = Query { base_url: &state.base_url, path: &head.path, pairs: &head.query };
            get(state, place, &query)
        }
        "DELETE" => delete(state, place),
        _ => {
            let input = input(request).map_err(refuse)?;
            write(state, place, input)
        }
    }
}

fn get(state: &State, place: Place, query: &Query<'_>) -> Result<Answer, Answer> {
    let is_refused = !state.knobs.admin_key;
    match place {
        Place::Groups | Place::Products | Place::EmailConfigs if is_refused => {
            Err(Answer::coded(403, "access_denied", "You are not authorized to perform this action."))
        }
        Place::Me => Ok(me(state)),
        Place::Tickets => list::tickets(state, query),
        Place::Ticket(id) => tickets::read(state, id, query),
        Place::Conversations(id) => conversations::list(state, id, query),
        Place::Contacts => contacts::list(state, query),
        Place::Contact(id) => contacts::read(state, id),
        Place::TicketFields => Ok(Answer::json(200, &state.form.ticket_fields())),
        Place::Groups => Ok(Answer::json(200, &named(&state.form.groups))),
        Place::Products => Ok(Answer::json(200, &named(&state.form.products))),
        Place::EmailConfigs => Ok(Answer::json(200, &named(&state.form.email_configs))),
        Place::SearchTickets => search::tickets(state, query),
        _ => Err(Answer::empty(404)),
    }
}

fn delete(state: &mut State, place: Place) -> Result<Answer, Answer> {
    match place {
        Place::Ticket(id) => tickets::delete(state, id),
        Place::Contact(id) => contacts::delete(state, id),
        Place::Conversation(id) => conversations::delete(state, id),
        _ => Err(Answer::empty(404)),
    }
}

fn write(state: &mut State, place: Place, input: Input) -> Result<Answer, Answer> {
    match place {
        Place::Tickets => tickets::create(state, input),
        Place::Ticket(id) => tickets::update(state, id, input),
        Place::Restore(id) => tickets::restore(state, id),
        Place::Notes(id) => conversations::note(state, id, input),
        Place::Reply(id) => conversations::reply(state, id, input),
        Place::Conversation(id) => conversations::update(state, id, input),
        Place::Contacts => contacts::create(state, input),
        Place::Contact(id) => contacts::update(state, id, input),
        _ => Err(Answer::empty(404)),
    }
}

fn me(state: &State) -> Answer {
    let Some(agent) = state.form.agents.first() else { return Answer::unauthorized() };
    let since = "2026-01-01T00:00:00Z";
    Answer::json(
        200,
        &json!({
            "available": true, "occasional": false, "id": agent.id, "ticket_scope": 1, "signature": null,
            "group_ids": [], "role_ids": [51_000_000_301_u64], "type": "support_agent",
            "created_at": since, "updated_at": since, "last_active_at": since, "available_since": since,
            "contact": {
                "active": true, "email": agent.email, "job_title": null, "language": "en", "last_login_at": null,
                "mobile": null, "name": agent.name, "phone": null, "time_zone": "UTC",
                "created_at": since, "updated_at": since,
            },
        }),
    )
}

fn named(all: &[Named]) -> Value {
    let since = "2026-01-01T00:00:00Z";
    let one = |one: &Named| json!({"id": one.id, "name": one.name, "description": null, "created_at": since, "updated_at": since});
    all.iter().map(one).collect()
}

/// What a POST or PUT brought.
fn input(request: &Request) -> Result<Input, Answer> {
    let content_type = request.head.header("content-type").unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => {}
        "multipart/form-data" => return multipart::read(content_type, &request.body),
        "" if request.body.is_empty() => return Ok(Input::default()),
        _ => {
            let text =
                format!("Content-Type header is set to {essence}. It should be set to application/json");
            return Err(Answer::coded(415, "invalid_content_type", &text));
        }
    }
    if request.body.is_empty() {
        return Ok(Input::default());
    }
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(fields)) => Ok(Input { fields, ..Input::default() }),
        _ => Err(Answer::coded(400, "invalid_json", "Request body has invalid json format")),
    }
}

fn accepts_json(head: &Head) -> bool {
    let Some(accept) = head.header("accept") else { return true };
    let kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    accept.trim().is_empty()
        || kinds.into_iter().any(|kind| ["application/json", "application/*", "*/*"].contains(&kind))
}

/// Whether the call brings the key as the user of Basic authentication, with any password.
fn has_key(head: &Head, key: &str) -> bool {
    let Some((scheme, credentials)) = head.header("authorization").and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    let Some(decoded) = base64(credentials.trim()) else { return false };
    let user = decoded.split(|byte| *byte == b':').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("basic") && !key.is_empty() && user == key.as_bytes()
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        let check = |text: &str, expect: Option<&[u8]>| assert_eq!(base64(text).as_deref(), expect, "{text}");
        check("c2FuZGJveC1rZXk6WA==", Some(b"sandbox-key:X"));
        check("YWI=", Some(b"ab"));
        check("", Some(b""));
        check("?", None);
    }
}
