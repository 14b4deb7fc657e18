//! Looking before resending, against a server that plays a script.

use super::super::client::ClientConfig;
use super::super::test_server::{Act, Server, config, http, json};
use super::super::{Desk, More};
use super::*;
use std::cell::Cell;
use std::rc::Rc;

const MARKER: &str = "ds-abc";
/// 2026-11-21T08:01:13Z; the window begins a day earlier.
const SINCE: Timestamp = Timestamp(1_795_248_073_000);
const WINDOW: &str =
    "updated_since=2026-11-20T08%3A01%3A13Z&order_by=created_at&order_type=desc&per_page=100";

fn by_email() -> Requester {
    Requester { email: Some("ana+1@example.com".to_owned()), ..Requester::default() }
}

fn by_phone() -> Requester {
    Requester { phone: Some("+573001112233".to_owned()), ..Requester::default() }
}

fn found(ticket: u64) -> Looked {
    Looked::Found { ticket }
}

/// Looks with a client that the script answers; the questions asked must be `expect_asked`.
fn check(requester: &Requester, acts: Vec<Act>, expect: Looked, expect_asked: &[String]) {
    let server = Server::play(acts);
    assert_eq!(server.client().find_ticket(requester, MARKER, SINCE), expect);
    assert_asked(&server, expect_asked);
}

fn assert_asked(server: &Server, expect: &[String]) {
    let expect: Vec<String> = expect.iter().map(|path| format!("GET {path} HTTP/1.1")).collect();
    assert_eq!(server.request_lines(), expect);
}

fn list(page: u32) -> String {
    format!("/api/v2/tickets?email=ana%2B1%40example.com&{WINDOW}&page={page}")
}

fn spam_list() -> String {
    format!("/api/v2/tickets?email=ana%2B1%40example.com&filter=spam&{WINDOW}&page=1")
}

fn deleted_list() -> String {
    spam_list().replace("spam", "deleted")
}

fn with_next(body: &str) -> Act {
    Act::Answer(http("200 OK", &["Link: <https://elsewhere.example.com/?page=2>; rel=\"next\""], body))
}

fn no_contact(field: &str) -> Act {
    let error = format!(r#"{{"field":"{field}","message":"There is no contact …","code":"invalid_value"}}"#);
    Act::Answer(http("400 Bad Request", &[], &format!(r#"{{"errors":[{error}]}}"#)))
}

#[test]
fn a_marker_is_found_in_tags_and_in_custom_fields() {
    let tagged = r#"[{"id":7,"tags":["x"]},{"id":8,"tags":["x","ds-abc"],"custom_fields":{"cf_a":null}}]"#;
    check(&by_email(), vec![json(tagged)], found(8), &[list(1)]);
    let in_field = r#"[{"id":9,"tags":[],"custom_fields":{"cf_n":7,"cf_ref":"ds-abc"}}]"#;
    check(&by_email(), vec![json(in_field)], found(9), &[list(1)]);
}

#[test]
fn absence_needs_all_lists_read_to_their_end() {
    let other = r#"[{"id":7,"tags":["ds-abcd"]}]"#;
    check(
        &by_email(),
        vec![with_next(other), json(other), json("[]"), json("[]")],
        Looked::Absent,
        &[list(1), list(2), spam_list(), deleted_list()],
    );
    check(
        &by_email(),
        vec![json("[]"), json("[]"), json(r#"[{"id":8,"tags":["ds-abc"]}]"#)],
        found(8),
        &[list(1), spam_list(), deleted_list()],
    );
    check(
        &by_email(),
        vec![json("[]"), json(r#"[{"id":8,"tags":["ds-abc"]}]"#)],
        found(8),
        &[list(1), spam_list()],
    );
    // A full page has a next one even when the Link header got lost.
    let full = format!("[{}]", vec![r#"{"id":7,"tags":[]}"#; 100].join(","));
    check(
        &by_email(),
        vec![json(&full), json(r#"[{"id":8,"tags":["ds-abc"]}]"#)],
        found(8),
        &[list(1), list(2)],
    );
}

#[test]
fn a_requester_whom_freshdesk_does_not_know_has_no_tickets() {
    check(&by_email(), vec![no_contact("email")], Looked::Absent, &[list(1)]);
    let reason = "freshdesk 400: order_by is invalid".to_owned();
    check(&by_email(), vec![no_contact("order_by")], Looked::Undecidable { reason }, &[list(1)]);
}

#[test]
fn the_question_uses_the_identifier_that_the_create_used() {
    let both = Requester { external_id: Some("sendpulse:1".to_owned()), ..by_phone() };
    let path = format!("/api/v2/tickets?unique_external_id=sendpulse%3A1&{WINDOW}&page=1");
    check(&both, vec![no_contact("unique_external_id")], Looked::Absent, &[path]);
    let reason = "the requester has no email, external_id or phone".to_owned();
    check(&Requester::default(), vec![], Looked::Undecidable { reason }, &[]);
}

#[test]
fn tickets_of_a_phone_are_found_by_its_contacts() {
    let (phone, mobile) =
        ("/api/v2/contacts?phone=%2B573001112233", "/api/v2/contacts?mobile=%2B573001112233");
    let contacts = || vec![phone.to_owned(), mobile.to_owned()];
    let hidden = |state: &str| contacts().into_iter().map(|path| format!("{path}&state={state}")).collect();
    let all: Vec<String> = [contacts(), hidden("blocked"), hidden("deleted")].concat();
    check(&by_phone(), (0..6).map(|_| json("[]")).collect(), Looked::Absent, &all);
    let of = |id: u32, spam: &str| format!("/api/v2/tickets?requester_id={id}{spam}&{WINDOW}&page=1");
    check(
        &by_phone(),
        vec![
            json(r#"[{"id":41,"name":"Ana"}]"#),
            json(r#"[{"id":41},{"id":42}]"#),
            json("[]"),
            json("[]"),
            json("[]"),
            json(r#"[{"id":8,"tags":["ds-abc"]}]"#),
        ],
        found(8),
        &[contacts(), vec![of(41, ""), of(41, "&filter=spam"), of(41, "&filter=deleted"), of(42, "")]]
            .concat(),
    );
    // A blocked sender's contact is not shown unasked.
    check(
        &by_phone(),
        vec![
            json("[]"),
            json("[]"),
            json(r#"[{"id":43}]"#),
            json("[]"),
            json("[]"),
            json(r#"[{"id":8,"tags":["ds-abc"]}]"#),
        ],
        found(8),
        &[contacts(), hidden("blocked"), vec![of(43, ""), of(43, "&filter=spam")]].concat(),
    );
    let crowd: Vec<String> = (1..=6).map(|id| format!(r#"{{"id":{id}}}"#)).collect();
    check(
        &by_phone(),
        vec![json(&format!("[{}]", crowd.join(","))), json("[]")],
        Looked::Undecidable { reason: "too many contacts share the requester's phone".to_owned() },
        &contacts(),
    );
}

#[test]
fn rows_without_tags_are_fetched_when_they_are_young_enough() {
    let rows = r#"[{"id":9,"created_at":"2026-11-21T08:01:20Z"},{"id":8,"tags":null},
        {"id":7,"created_at":"2026-11-20T08:01:12Z"},{"id":6,"tags":["x"]}]"#;
    let ticket = |id: u32| format!("/api/v2/tickets/{id}");
    check(
        &by_email(),
        vec![json(rows), Act::Answer(http("404 Not Found", &[], "")), json(r#"{"id":8,"tags":["ds-abc"]}"#)],
        found(8),
        &[list(1), ticket(9), ticket(8)],
    );
    check(
        &by_email(),
        vec![
            json(rows),
            json(r#"{"id":9,"tags":[]}"#),
            json(r#"{"id":8,"tags":[]}"#),
            json("[]"),
            json("[]"),
        ],
        Looked::Absent,
        &[list(1), ticket(9), ticket(8), spam_list(), deleted_list()],
    );
    let reason = "a deleted ticket of the requester cannot be looked into".to_owned();
    check(
        &by_email(),
        vec![json("[]"), json("[]"), json(r#"[{"id":9}]"#), Act::Answer(http("403 Forbidden", &[], ""))],
        Looked::Undecidable { reason },
        &[list(1), spam_list(), deleted_list(), ticket(9)],
    );
    let many: Vec<String> = (1..=11).map(|id| format!(r#"{{"id":{id}}}"#)).collect();
    let mut acts = vec![json(&format!("[{}]", many.join(",")))];
    acts.extend((1..=10).map(|id| json(&format!(r#"{{"id":{id},"tags":[]}}"#))));
    let asked = [vec![list(1)], (1..=10).map(ticket).collect()].concat();
    let reason = "too many recent tickets to look into one by one".to_owned();
    check(&by_email(), acts, Looked::Undecidable { reason }, &asked);
}

#[test]
fn with_a_marker_field_rows_are_fetched_only_when_they_do_not_show_it() {
    let server = Server::play(vec![
        json(r#"[{"id":9,"custom_fields":{"cf_ref":null}},{"id":8,"custom_fields":{}}]"#),
        json(r#"{"id":8,"custom_fields":{"cf_ref":"ds-abc"}}"#),
    ]);
    let marker_field = Some("cf_ref".to_owned());
    let config = ClientConfig { marker_field, ..config(format!("http://{}", server.address)) };
    let client = Client::new(config).unwrap();
    assert_eq!(client.find_ticket(&by_email(), MARKER, SINCE), found(8));
    assert_asked(&server, &[list(1), "/api/v2/tickets/8".to_owned()]);
}

#[test]
fn a_clock_ahead_of_freshdesk_does_not_hide_the_ticket() {
    let dated = |body| Act::Answer(http("200 OK", &["Date: Fri, 20 Nov 2026 08:01:12 GMT"], body));
    let everything = list(1).replace("updated_since=2026-11-20T08%3A01%3A13Z&", "");
    check(
        &by_email(),
        vec![dated("[]"), dated(r#"[{"id":8,"tags":["ds-abc"]}]"#)],
        found(8),
        &[list(1), everything],
    );
}

#[test]
fn a_clock_that_stands_in_1970_lists_everything() {
    let server = Server::play(vec![json(r#"[{"id":8,"tags":["ds-abc"]}]"#)]);
    assert_eq!(server.client().find_ticket(&by_email(), MARKER, Timestamp(60_000)), found(8));
    let expect = list(1).replace("2026-11-20T08%3A01%3A13Z", "1970-01-01T00%3A00%3A00Z");
    assert_asked(&server, &[expect]);
}

#[test]
fn too_many_pages_are_not_an_answer() {
    let reason = "the requester has too many recent tickets to look through".to_owned();
    let acts = (0..5).map(|_| with_next(r#"[{"id":7,"tags":[]}]"#)).collect();
    let asked: Vec<String> = (1..=5).map(list).collect();
    check(&by_email(), acts, Looked::Undecidable { reason }, &asked);
}

#[test]
fn each_page_beyond_what_was_granted_is_asked_for_before_it_is_read() {
    let look = |most: usize, expect: Looked, read: usize| {
        let page = || with_next(r#"[{"id":7,"tags":[]}]"#);
        let server = Server::play(vec![page(), page(), page(), json(r#"[{"id":8,"tags":["ds-abc"]}]"#)]);
        let (client, asked) = (server.client(), Rc::new(Cell::new(0)));
        let counted = asked.clone();
        let _ = client.spent();
        let more: More = Box::new(move |call| {
            assert_eq!(call, Calls { all: 1, ticket_lists: 1, contact_lists: 0 });
            counted.set(counted.get() + 1);
            if counted.get() > most { Err(Duration::from_secs(7)) } else { Ok(()) }
        });
        client.grant(Calls { all: 2, ticket_lists: 2, contact_lists: 0 }, more);
        assert_eq!(client.find_ticket(&by_email(), MARKER, SINCE), expect);
        assert_eq!(client.spent().map(|spent| spent.ticket_lists), Some(read));
        assert_eq!(server.request_lines().len(), read);
        asked.get()
    };
    assert_eq!(look(9, found(8), 4), 2);
    assert_eq!(look(1, Looked::Later { after: Duration::from_secs(7) }, 3), 2);
    assert_eq!(look(0, Looked::Later { after: Duration::from_secs(7) }, 2), 1);
}

#[test]
fn trouble_while_looking_is_not_absence() {
    let check = |act: Act, expect: &str| {
        let server = Server::play(vec![act]);
        let told = format!("{:?}", server.client().find_ticket(&by_email(), MARKER, SINCE));
        assert_eq!(told, format!("Deferred {{ not_before: {expect} }}"));
    };
    check(
        Act::ReadAndReset,
        r#"None, cause: Unreachable, reason: "while looking: connection lost after the request was sent""#,
    );
    let answer = |status, headers: &[&str], body| Act::Answer(http(status, headers, body));
    check(
        answer("200 OK", &[], "<html>"),
        r#"None, cause: Server, reason: "200 OK but the answer is not what Freshdesk sends""#,
    );
    check(
        answer("200 OK", &[], r#"{"id":7}"#),
        r#"None, cause: Server, reason: "200 OK but the answer is not what Freshdesk sends""#,
    );
    check(
        Act::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n[]".to_vec()),
        r#"None, cause: Server, reason: "200 OK but the answer was cut off""#,
    );
    check(
        answer("503 Service Unavailable", &[], ""),
        r#"None, cause: Server, reason: "503 Service Unavailable""#,
    );
    check(
        answer("429 Too Many Requests", &["Retry-After: 30"], ""),
        r#"Some(30s), cause: RateLimited, reason: "429 rate limited, Retry-After 30""#,
    );
    check(
        answer("401 Unauthorized", &[], ""),
        r#"None, cause: Denied, reason: "freshdesk 401: the API key is wrong or belongs to a deactivated agent""#,
    );
}

#[test]
fn a_note_is_found_by_its_marker_on_any_page() {
    let check = |acts: Vec<Act>, expect: Looked, pages: u32| {
        let server = Server::play(acts);
        assert_eq!(server.client().find_note(8812, MARKER), expect);
        let path = |page| format!("/api/v2/tickets/8812/conversations?per_page=100&page={page}");
        assert_asked(&server, &(1..=pages).map(path).collect::<Vec<_>>());
    };
    let other = r#"[{"id":1,"body_text":"ref ds-abcd","body":"<div>ref xds-abc</div>"},{"body_text":null}]"#;
    check(vec![json(other)], Looked::Absent, 1);
    check(vec![json("[]")], Looked::Absent, 1);
    check(vec![with_next(other), json(r#"[{"body_text":"Hi ref ds-abc"}]"#)], found(8812), 2);
    check(vec![json(r#"[{"body":"<div>ref ds-abc</div>"}]"#)], found(8812), 1);
    let gone = "freshdesk 404: ticket 8812 was deleted, set followup.when_closed".to_owned();
    let not_found = Act::Answer(http("404 Not Found", &[], ""));
    check(vec![not_found], Looked::Undecidable { reason: gone }, 1);
    let endless = (0..20).map(|_| with_next(other)).collect();
    let reason = "the ticket has too many notes to look through".to_owned();
    check(endless, Looked::Undecidable { reason }, 20);
}

#[test]
fn an_update_that_shows_is_found_and_not_done_again() {
    let update = super::super::write::UpdateFields {
        status: Some(4),
        tags_add: vec!["vip".to_owned()],
        custom_fields: serde_json::from_str(r#"{"cf_n":7}"#).unwrap(),
        ..Default::default()
    };
    let check = |act: Act, expect: Looked| {
        let server = Server::play(vec![act]);
        assert_eq!(server.client().find_update(8812, &update), expect);
        assert_asked(&server, &["/api/v2/tickets/8812".to_owned()]);
    };
    let ticket = |rest: &str| json(&format!(r#"{{"id":8812,{rest}}}"#));
    check(ticket(r#""status":4,"tags":["a","VIP"],"custom_fields":{"cf_n":7,"cf_a":1}"#), found(8812));
    check(ticket(r#""status":2,"tags":["vip"],"custom_fields":{"cf_n":7}"#), Looked::Absent);
    check(ticket(r#""status":4,"tags":[],"custom_fields":{"cf_n":7}"#), Looked::Absent);
    check(ticket(r#""status":4,"tags":["vip"],"custom_fields":{"cf_n":null}"#), Looked::Absent);
    check(Act::Answer(http("404 Not Found", &[], "")), Looked::Absent);
}
