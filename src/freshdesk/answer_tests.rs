//! Answers as Freshdesk, its balancers and strangers give them, and what each means.

use super::*;

/// An answer made by hand: status, headers as lines, body.
fn answer(status: u16, headers: &[&str], body: &str) -> Answer {
    let mut response = Response::builder().status(status);
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        response = response.header(name, value);
    }
    Answer::read(response.body(Body::builder().data(body)).unwrap(), 1_000)
}

/// The outcome in one line.
fn told(outcome: Outcome) -> String {
    let wait = |wait: Option<Duration>| wait.map_or("-".to_owned(), |wait| format!("{}s", wait.as_secs()));
    match outcome {
        Outcome::Delivered { ticket } => format!("delivered {ticket}"),
        Outcome::Deferred { not_before, cause, reason } => {
            format!("deferred {cause:?} {}: {reason}", wait(not_before))
        }
        Outcome::Rejected { reason } => format!("rejected: {reason}"),
        Outcome::Unknown { reason } => format!("unknown: {reason}"),
    }
}

fn check(answer: Answer, subject: Subject, expect: &str) {
    assert_eq!(told(answer.outcome(subject)), expect, "{subject:?} {answer:?}");
}

const TICKET: Subject = Subject::NewTicket;
const NOTE: Subject = Subject::NoteOn(8812);

#[test]
fn success_must_name_the_ticket() {
    let location = "Location: https://acme.freshdesk.com/api/v2/tickets/77";
    check(answer(201, &[], r#"{"id":8812,"subject":"Hi"}"#), TICKET, "delivered 8812");
    check(answer(201, &[location], ""), TICKET, "delivered 77");
    check(answer(201, &[location], "<html>"), TICKET, "delivered 77");
    check(answer(201, &[location], r#"{"id":null}"#), TICKET, "delivered 77");
    check(answer(200, &[], r#"{"id":8812}"#), TICKET, "delivered 8812");
    let nameless = "unknown: 201 Created but the answer names no ticket";
    check(answer(201, &[], ""), TICKET, nameless);
    check(answer(201, &[], r#"{"id":"8812"}"#), TICKET, nameless);
    check(answer(201, &[], r#"{"id":0}"#), TICKET, nameless);
    check(answer(201, &[], r#"[{"id":8812}]"#), TICKET, nameless);
    check(answer(201, &["Location: /api/v2/tickets/outbound_email"], ""), TICKET, nameless);
    check(answer(201, &["Location: /login?id=7"], ""), TICKET, nameless);
    check(
        answer(200, &[], "<html>Sign in to the hotel's Wi-Fi"),
        TICKET,
        "unknown: 200 OK but the answer names no ticket",
    );
    check(answer(204, &[], ""), TICKET, "unknown: 204 No Content but the answer names no ticket");
    check(answer(201, &[], &"x".repeat(2_000)), TICKET, "unknown: 201 Created but the answer was cut off");
}

#[test]
fn a_note_needs_less_proof() {
    check(answer(201, &[], r#"{"id":3,"ticket_id":8812}"#), NOTE, "delivered 8812");
    check(answer(201, &[], ""), NOTE, "delivered 8812");
    check(answer(200, &[], r#"{"id":3}"#), NOTE, "delivered 8812");
    check(answer(200, &[], "<html>"), NOTE, "unknown: 200 OK but the answer is not what Freshdesk sends");
}

#[test]
fn refusals_are_told_with_field_and_code() {
    let errors = r#"{"description":"Validation failed","errors":[{"field":"phone","message":"+57 is wrong",
        "code":"invalid_value"}]}"#;
    let phone = "phone is invalid (requester.phone)";
    check(answer(400, &[], errors), TICKET, &format!("rejected: freshdesk 400: {phone}"));
    check(answer(409, &[], errors), TICKET, &format!("rejected: freshdesk 409: {phone}"));
    check(answer(400, &[], "<html>"), TICKET, "rejected: freshdesk 400: refused without a reason");
    check(
        answer(405, &[], r#"{"message":"POST method is not allowed."}"#),
        NOTE,
        "rejected: freshdesk 405: ticket 8812 is spam or deleted, set followup.when_closed",
    );
    check(
        answer(404, &[], ""),
        NOTE,
        "rejected: freshdesk 404: ticket 8812 was deleted, set followup.when_closed",
    );
    check(answer(413, &[], "<html>"), NOTE, "rejected: freshdesk 413: it is too large");
    let bug = "the request's format was refused, which is a bug in deskspool";
    check(answer(406, &[], ""), TICKET, &format!("rejected: freshdesk 406: {bug}"));
    check(answer(415, &[], ""), TICKET, &format!("rejected: freshdesk 415: {bug}"));
}

#[test]
fn what_concerns_the_account_is_denied() {
    let key = "deferred Denied -: freshdesk 401: the API key is wrong or belongs to a deactivated agent";
    let body =
        r#"{"code":"invalid_credentials","message":"You have to be logged in to perform this action."}"#;
    check(answer(401, &[], body), TICKET, key);
    check(answer(401, &[], ""), NOTE, key);
    let account = |code: &str, expect: &str| {
        let body = format!(r#"{{"code":"{code}","message":"…"}}"#);
        check(answer(403, &[], &body), NOTE, &format!("deferred {expect}"));
    };
    account("account_suspended", "Denied -: freshdesk 403: the account is suspended (account_suspended)");
    account("ssl_required", "Denied -: freshdesk 403: https is required (ssl_required)");
    account(
        "invalid_credentials",
        "Denied -: freshdesk 403: the API key is wrong or belongs to a deactivated agent (invalid_credentials)",
    );
    account(
        "password_lockout",
        "Denied -: freshdesk 403: the agent of this API key is locked out (password_lockout)",
    );
    account("new_code", "Denied -: freshdesk 403: was refused (new_code)");
    account(
        "access_denied",
        "Server -: freshdesk 403: the agent of this API key may not do this (access_denied)",
    );
    account(
        "require_feature",
        "Server -: freshdesk 403: the account's plan does not include this (require_feature)",
    );
    check(
        answer(403, &[], "<html>Your IP is not allowed"),
        TICKET,
        "deferred Denied -: freshdesk 403: this machine or agent is not let in",
    );
    check(
        answer(404, &[], ""),
        TICKET,
        "deferred Denied -: freshdesk 404: no such account, freshdesk.domain is wrong",
    );
    check(
        answer(302, &["Location: https://www.freshworks.com/?user=ana"], ""),
        TICKET,
        "deferred Denied -: freshdesk 302: the address redirects to www.freshworks.com, \
         set freshdesk.domain to the account's own",
    );
    check(
        answer(301, &[], ""),
        NOTE,
        "deferred Denied -: freshdesk 301: the address redirects, set freshdesk.domain to the account's own",
    );
}

#[test]
fn rate_limits_are_obeyed() {
    let date = "Date: Sat, 21 Nov 2026 08:01:13 GMT";
    let limited = |headers: &[&str], expect: &str| {
        check(answer(429, headers, r#"{"message":"…"}"#), TICKET, &format!("deferred RateLimited {expect}"));
    };
    limited(&["Retry-After: 30"], "30s: 429 rate limited, Retry-After 30");
    limited(&["retry-after: 1521"], "1521s: 429 rate limited, Retry-After 1521");
    limited(&["Retry-After: 0"], "1s: 429 rate limited, Retry-After 1");
    limited(&["Retry-After: 99999999999"], "3600s: 429 rate limited, Retry-After 3600");
    limited(&["Retry-After: Sat, 21 Nov 2026 08:01:43 GMT", date], "30s: 429 rate limited, Retry-After 30");
    limited(&["Retry-After: Sat, 21 Nov 2026 08:00:43 GMT", date], "1s: 429 rate limited, Retry-After 1");
    limited(&["Retry-After: Sat, 21 Nov 2026 08:01:43 GMT"], "60s: 429 rate limited");
    limited(&["Retry-After: soon"], "60s: 429 rate limited");
    limited(&[], "60s: 429 rate limited");
}

#[test]
fn an_edge_server_proves_nothing() {
    check(
        answer(500, &[], r#"{"code":"internal_error"}"#),
        TICKET,
        "unknown: 500 Internal Server Error (internal_error)",
    );
    check(answer(500, &[], "<html>"), NOTE, "unknown: 500 Internal Server Error");
    check(answer(502, &[], "<html>"), TICKET, "unknown: 502 Bad Gateway");
    check(answer(503, &["Retry-After: 30"], ""), TICKET, "unknown: 503 Service Unavailable");
    check(answer(504, &[], ""), NOTE, "unknown: 504 Gateway Timeout");
    check(answer(520, &[], ""), NOTE, "unknown: 520");
    check(answer(303, &["Location: /api/v2/x"], ""), TICKET, "unknown: 303 See Other");
    check(answer(408, &[], ""), TICKET, "unknown: 408 Request Timeout");
}

#[test]
fn a_question_that_is_not_answered_is_asked_again_or_never() {
    let check = |status, expect: Looked| {
        assert_eq!(answer(status, &[], "").looked(Subject::NoteOn(8812)), expect);
    };
    let deferred =
        |not_before, cause, reason: &str| Looked::Deferred { not_before, cause, reason: reason.to_owned() };
    check(502, deferred(None, Cause::Server, "502 Bad Gateway"));
    check(200, deferred(None, Cause::Server, "200 OK but the answer is not what Freshdesk sends"));
    check(429, deferred(Some(RATE_LIMIT_WAIT), Cause::RateLimited, "429 rate limited"));
    check(
        404,
        Looked::Undecidable {
            reason: "freshdesk 404: ticket 8812 was deleted, set followup.when_closed".to_owned(),
        },
    );
}

#[test]
fn a_probe_tells_the_agent_or_the_trouble() {
    let check = |status, body: &str, expect: Result<&str, (Cause, &str)>| {
        let told = answer(status, &[], body).agent_name();
        let told = told.as_deref().map_err(|(_, cause, reason)| (*cause, reason.as_str()));
        assert_eq!(told, expect, "{status} {body}");
    };
    check(200, r#"{"id":1,"contact":{"name":"Integrations"}}"#, Ok("Integrations"));
    check(200, r#"{"id":1,"contact":{}}"#, Ok("agent"));
    check(200, "<html>Sign in", Err((Cause::Server, "200 OK but the answer is not what Freshdesk sends")));
    check(
        401,
        "",
        Err((Cause::Denied, "freshdesk 401: the API key is wrong or belongs to a deactivated agent")),
    );
    check(404, "", Err((Cause::Denied, "freshdesk 404: no such account, freshdesk.domain is wrong")));
    check(503, "", Err((Cause::Server, "503 Service Unavailable")));
    check(400, "", Err((Cause::Server, "freshdesk 400: refused without a reason")));
}

#[test]
fn a_next_page_is_seen_in_any_link() {
    let check = |link: &str, expect| assert_eq!(answer(200, &[link], "[]").has_next, expect, "{link}");
    check("Link: <https://acme.freshdesk.com/api/v2/tickets?page=2>; rel=\"next\"", true);
    check("link: <…?page=1>; rel=\"prev\", <…?page=3>;rel=next", true);
    check("Link: <…?page=1>; rel=\"prev\"", false);
    check("X-Link: <…?page=2>; rel=\"next\"", false);
}

#[test]
fn the_log_line_has_no_text_of_the_body() {
    let told = answer(400, &["X-Request-ID: 7f3a-\"Ana Ruiz\"-9"], "Ana Ruiz").log_line();
    assert_eq!(told, "status=400 request_id=7f3a-AnaRuiz-9");
    assert_eq!(answer(400, &[], "Ana Ruiz").log_line(), "status=400 request_id=");
}
