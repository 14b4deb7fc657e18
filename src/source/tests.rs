//! Sources as admins write them: layers, rules, events, plans.

use super::*;
use crate::clock::Timestamp;
use crate::freshdesk::write::{TicketFields, WhenClosed, Write};
use crate::source::table::{SourceTable, TicketTable};
use crate::verify::{Scheme, Secret};
use serde_json::{Value as Json, json};
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_763_712_073_000);

fn table(toml: &str) -> SourceTable {
    toml::from_str(toml).unwrap_or_else(|error| panic!("{error}"))
}

fn compile(toml: &str, defaults: &str) -> Result<Source, Vec<Problem>> {
    let defaults: TicketTable = toml::from_str(defaults).unwrap();
    Source::compile("shop", &table(toml), &defaults, vec![Secret::new("s3cret")])
}

fn source(toml: &str) -> Source {
    compile(toml, "").unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn events(source: &Source, headers: &[(&str, &str)], body: &Json) -> Vec<EventDraft> {
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let (headers, query) = (pairs(headers), pairs(&[("token", "s3cret"), ("lang", "es")]));
    source.events(
        &RequestContext { kind: "k", headers: &headers, query: &query, received_at: NOW },
        body.clone(),
    )
}

fn plan(source: &Source, event: Json, ticket: Option<u64>) -> Result<Vec<Write>, String> {
    let draft = events(source, &[("X-Order", "7"), ("Authorization", "s3cret")], &event).remove(0);
    let stored = StoredEvent {
        body: &draft.body,
        context: &draft.context,
        received_at: NOW,
        event_id: &draft.event_id,
        kind: &draft.kind,
        conversation: &draft.conversation,
    };
    source.plan(&stored, ticket).map_err(|error| error.to_string())
}

fn ticket(source: &Source, event: Json) -> TicketFields {
    match plan(source, event, None).unwrap().remove(0) {
        Write::CreateTicket(ticket) => *ticket,
        other => panic!("{other:?}"),
    }
}

/// The problems as `layer key: what [text that is marked]`.
fn check_problems(toml: &str, expect: &[&str]) {
    let problems = compile(toml, "").err().unwrap_or_default();
    let told: Vec<String> = problems
        .iter()
        .map(|problem| {
            let marked = problem.origin.at.clone().map(|at| &toml[at]).unwrap_or_default();
            format!("{:?} {}: {} [{marked}]", problem.origin.layer, problem.key, problem.what)
        })
        .collect();
    assert_eq!(told, expect, "{toml}");
}

#[test]
fn mistakes_are_told_with_their_places_all_at_once() {
    check_problems(
        "preset = \"sendpuls@1\"",
        &["Admin preset: there is no preset \"sendpuls@1\" [\"sendpuls@1\"]"],
    );
    check_problems(
        "keep_if = \"event.title = 'x'\"\ncountry = \"ZZ\"\ndedupe_window = \"7\"\n[ticket]\nsubject = \"{{ evnt.a }}\"\n\
         status = \"opne\"\ngroup_id = \"billing\"\npriority = 1.5",
        &[
            "Admin country: expected a country of two letters that we know the numbers of [\"ZZ\"]",
            "Admin ticket.subject: uses \"evnt\", which does not exist [\"{{ evnt.a }}\"]",
            "Admin ticket.status: expected open, pending, resolved, closed or a number [\"opne\"]",
            "Admin ticket.priority: expected low, medium, high, urgent or a number [1.5]",
            "Admin ticket.group_id: expected a number [\"billing\"]",
            "Admin keep_if: one = assigns nothing; compare with == [\"event.title = 'x'\"]",
            "Admin dedupe_window: expected a duration with its unit: 10m, 12h, 7d [\"7\"]",
        ],
    );
    check_problems(
        "[[rule]]\ndo = \"forward\"\n[[rule]]\nwhen = \"kind == 'x'\"\n[[rule]]\nwhen = \"foo\"\ndo = \"note\"\n\
         note = { if_none = \"never\" }",
        &[
            "Admin rule[1].do: expected ticket, note, update, contact or ignore [\"forward\"]",
            "Admin rule[2].do: is missing [\"kind == 'x'\"]",
            "Admin rule[3].when: uses \"foo\", which does not exist [\"foo\"]",
            "Admin rule[3].note.if_none: expected ticket or ignore [\"never\"]",
        ],
    );
    check_problems(
        "verify = { scheme = \"hmac\" }",
        &["Admin verify.scheme: there is no scheme \"hmac\" [\"hmac\"]"],
    );
    check_problems(
        "verify = { scheme = \"hmac-sha256-hex\" }",
        &["Admin verify: the scheme hmac-sha256-hex needs verify.header [\"hmac-sha256-hex\"]"],
    );
}

#[test]
fn places_inside_templates_are_told() {
    let toml = "[ticket]\ndescription = \"\"\"\n<b>x</b>\n<i>{{ event.text | nl2br }</i>\"\"\"";
    let problem = compile(toml, "").unwrap_err().remove(0);
    let within = Within { line: 2, column: 26, text: "<i>{{ event.text | nl2br }</i>".to_owned() };
    assert_eq!((problem.what.as_str(), problem.within), ("expected }}", Some(within)));
}

#[test]
fn a_secret_is_missed_when_the_scheme_compares_one() {
    let problems = |toml: &str, secrets: Vec<Secret>| {
        let compiled = Source::compile("shop", &table(toml), &TicketTable::default(), secrets);
        compiled.err().unwrap_or_default().into_iter().map(|problem| problem.what).collect::<Vec<_>>()
    };
    let sendpulse = "preset = \"sendpulse@1\"";
    assert_eq!(problems(sendpulse, Vec::new()), ["is missing; the scheme query compares one"]);
    assert_eq!(problems("verify = { scheme = \"none\" }", Vec::new()), [""; 0]);
    assert_eq!(problems(sendpulse, vec![Secret::new("")]), ["is empty"]);
    let unread = "preset = \"sendpulse@1\"\nsecret = { env = \"X\" }";
    assert_eq!(problems(unread, Vec::new()), [""; 0], "who reads secrets tells that one could not be read");
}

#[test]
fn layers_lie_over_each_other_key_by_key() {
    let toml = "preset = \"generic@1\"\nverify = { prefix = \"Token \" }\n[ticket]\npriority = \"urgent\"\n\
                custom_fields = { cf_a = 1 }\n[find.email]\npaths = [\"who\"]\n[[rule]]\nwhen = \"kind == 'x'\"\ndo = \"ignore\"";
    let defaults = "status = \"pending\"\npriority = \"low\"\ntags = [\"t\"]\ncustom_fields = { cf_b = 2 }";
    let source = compile(toml, defaults).unwrap();
    let ticket = ticket(&source, json!({"who": "a@b.co", "message": "m"}));
    assert_eq!((ticket.status, ticket.priority), (Some(3), Some(4)));
    assert_eq!(ticket.tags, ["deskspool", "shop"], "the preset's list replaces the defaults'");
    assert_eq!(Json::Object(ticket.custom_fields), json!({"cf_a": 1, "cf_b": 2}));
    assert_eq!(ticket.requester.email.as_deref(), Some("a@b.co"));
    let origin = |key: &str| source.origins()[key].layer;
    assert_eq!(origin("ticket.status"), Layer::TicketDefaults);
    assert_eq!(origin("ticket.priority"), Layer::Admin);
    assert_eq!(origin("ticket.tags"), Layer::Preset);
    assert_eq!(origin("ticket.subject"), Layer::Builtin);
    let Scheme::Header { header, prefix } = &source.verifier().scheme else { panic!("another scheme") };
    assert_eq!((header.as_str(), prefix.as_str()), ("Authorization", "Token "));
    assert!(
        source.has_rules()
            && source.preset() == Some("generic@1")
            && source.certainty() == Some("documented")
    );
}

#[test]
fn rules_decide_and_override() {
    let source = source(
        "[[rule]]\nwhen = \"event.n == 1\"\ndo = \"ticket\"\nticket = { subject = \"One\", priority = \"{{ event.p }}\" }\n\
         [[rule]]\nwhen = \"event.n == 2\"\ndo = \"note\"\nnote = { body = \"<p>{{ event.text }}</p>\", private = false, \
         notify = [\"boss@acme.com\"], if_none = \"ignore\" }\n[[rule]]\nwhen = \"event.n == 3\"\ndo = \"ignore\"",
    );
    let one = ticket(&source, json!({"n": 1, "email": "a@b.co", "text": "t", "p": "High"}));
    assert_eq!((one.subject.as_str(), one.priority), ("One", Some(3)));
    let two = json!({"n": 2, "email": "a@b.co", "text": "a<b"});
    assert_eq!(plan(&source, two.clone(), None), Ok(Vec::new()));
    let Write::AddNote(note) = plan(&source, two, Some(8)).unwrap().remove(0) else { panic!() };
    assert_eq!((note.body.as_str(), note.private), ("<p>a&lt;b</p>", false));
    assert_eq!(note.notify_emails, ["boss@acme.com"]);
    let ignored = events(&source, &[], &json!({"n": 3})).remove(0);
    assert_eq!(ignored.verdict, Verdict::Ignore("rule[3] says ignore".to_owned()));
    assert_eq!(plan(&source, json!({"n": 3}), None), Ok(Vec::new()));
    assert_eq!(ticket(&source, json!({"n": 4, "email": "a@b.co", "text": "t"})).subject, "t");
}

#[test]
fn several_actions_are_one_plan_in_one_order() {
    let source = source(
        "attach_event = true\n[[rule]]\nwhen = \"event.n == 1\"\ndo = [\"update\", \"note\", \"contact\"]\n\
         note = { body = \"<p>{{ event.text }}</p>\" }\n\
         update = { priority = \"urgent\", type = \"{{ event.none }}\", tags_add = [\"bad, {{ event.tag }}\"], \
         tags_remove = [\"deskspool\"], custom_fields = { cf_n = 2 } }\n\
         contact = { job_title = \"{{ event.job }}\", custom_fields = { plan = \"gold\" } }\n\
         [[rule]]\nwhen = \"event.n == 2\"\ndo = \"update\"\nupdate = { status = \"{{ event.status }}\" }\n\
         [[rule]]\nwhen = \"event.n == 3\"\ndo = \"update\"\nupdate = { status = \"resolved\", if_none = \"ticket\" }\n\
         [[rule]]\nwhen = \"event.n == 4\"\ndo = \"contact\"",
    );
    let one = json!({"n": 1, "email": "a@b.co", "text": "t", "tag": "x", "job": "Buyer", "name": "Ana"});
    let writes = plan(&source, one.clone(), Some(8)).unwrap();
    let [Write::PutContact(contact), Write::AddNote(note), Write::UpdateTicket(update)] = writes.as_slice()
    else {
        panic!("{writes:?}")
    };
    assert_eq!(
        (contact.requester.email.as_deref(), contact.job_title.as_deref()),
        (Some("a@b.co"), Some("Buyer"))
    );
    assert_eq!((contact.requester.name.as_deref(), contact.overwrite), (Some("Ana"), false));
    assert_eq!((note.attachments.len(), note.when_closed.clone()), (1, WhenClosed::Leave));
    assert_eq!((update.priority, update.ticket_type.as_deref()), (Some(4), None));
    assert_eq!(
        (update.tags_add.join(" "), update.tags_remove.join(" ")),
        ("bad x".into(), "deskspool".into())
    );
    let writes = plan(&source, one, None).unwrap();
    let [Write::PutContact(_), Write::CreateTicket(ticket)] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!(
        (ticket.priority, ticket.tags.join(" ").as_str()),
        (Some(4), "shop bad x"),
        "one call, not two"
    );
    assert_eq!(Json::Object(ticket.custom_fields.clone()), json!({"cf_n": 2}));
    assert_eq!(ticket.attachments[0].name, "event.json");
    let count = |event: Json, ticket: Option<u64>| plan(&source, event, ticket).map(|writes| writes.len());
    assert_eq!(count(json!({"n": 2, "status": "closed"}), None), Ok(0), "an update opens no ticket");
    assert_eq!(count(json!({"n": 2, "status": "closed"}), Some(8)), Ok(1));
    assert_eq!(count(json!({"n": 2}), Some(8)), Ok(0), "nothing would change");
    assert_eq!(count(json!({"n": 3, "email": "a@b.co", "text": "t"}), None), Ok(1));
    assert_eq!(count(json!({"n": 4, "email": "a@b.co"}), Some(8)), Ok(1));
    let nobody = "mapping: no requester: none of email, phone, external_id found";
    assert_eq!(count(json!({"n": 4}), None), Err(nobody.to_owned()));
}

#[test]
fn later_events_reopen_or_open_a_new_ticket() {
    let when_closed = |toml: &str, event: Json| match plan(&source(toml), event, Some(8)).unwrap().remove(0) {
        Write::AddNote(note) => note.when_closed,
        other => panic!("{other:?}"),
    };
    let event = || json!({"email": "a@b.co", "text": "t"});
    assert_eq!(when_closed("", event()), WhenClosed::Reopen);
    let toml = "followup = { when_closed = \"new-ticket\" }";
    let WhenClosed::NewTicket(ticket) = when_closed(toml, event()) else { panic!("another one") };
    assert_eq!((ticket.subject.as_str(), ticket.requester.email.as_deref()), ("t", Some("a@b.co")));
    assert_eq!(when_closed(toml, json!({"text": "t"})), WhenClosed::Reopen, "nobody could open a ticket");
    assert_eq!(when_closed(&format!("{toml}\n[[rule]]\ndo = \"note\""), event()), WhenClosed::Leave);
    let rule = "[[rule]]\ndo = \"ticket\"\nfollowup = { when_closed = \"reopen\" }";
    assert_eq!(when_closed(&format!("{toml}\n{rule}"), event()), WhenClosed::Reopen);
}

#[test]
fn somebody_who_stands_in_gets_no_contact() {
    let source = source(
        "fallback_requester = { name = \"Nobody\", email = \"no@acme.com\" }\n[[rule]]\ndo = [\"contact\", \"ticket\"]",
    );
    let writes = plan(&source, json!({"text": "t"}), None).unwrap();
    assert!(matches!(writes.as_slice(), [Write::CreateTicket(_)]), "{writes:?}");
}

#[test]
fn finders_have_short_names_in_conditions() {
    let source = source(
        "[find.rating]\nsynonyms = [\"score\"]\n[[rule]]\nwhen = \"rating <= 2\"\ndo = \"note\"\n\
         note = { body = \"{{ requester.name }} gave {{ rating }}\" }",
    );
    let Write::AddNote(note) = plan(&source, json!({"score": 1, "name": "Ana"}), Some(8)).unwrap().remove(0)
    else {
        panic!("another one")
    };
    assert_eq!(note.body, "Ana gave 1");
}

#[test]
fn a_long_transcript_is_attached_whole_to_the_same_write() {
    let source = source(
        "[ticket]\ntime_zone = \"-05:00\"\ndescription = \"{{ event.messages | transcript(customer=requester.name) }}\"",
    );
    let message = |n: u64| json!({"incoming": true, "created_at": 1_763_647_391 + n, "body": format!("line {n} {}", "x".repeat(90))});
    let event = |count: u64| json!({"email": "a@b.co", "name": "Ana", "subject": "s", "messages": (0..count).map(message).collect::<Vec<_>>()});
    let short = ticket(&source, event(2));
    assert!(
        short.description.starts_with("<b>2025-11-20, times in -05:00</b><br>\n09:03 <b>Ana:</b> line 0 x")
    );
    assert_eq!(short.attachments, []);
    let long = ticket(&source, event(900));
    assert!(long.description.contains("[cut here: ") && long.description.contains("line 899 "));
    assert_eq!(long.attachments[0].name, "transcript.txt");
    let text = String::from_utf8(long.attachments[0].bytes.clone()).unwrap();
    assert_eq!(text.lines().count(), 901);
}

#[test]
fn mapping_errors_tell_what_was_missing() {
    let check = |toml: &str, event: Json, expect: &str| {
        assert_eq!(plan(&source(toml), event, None), Err(expect.to_owned()));
    };
    let event = || json!({"email": "a@b.co", "text": "x", "p": "secret word"});
    let subject = "[ticket]\nsubject = \"{{ event.customer.name }}\"";
    check(subject, event(), "mapping: ticket.subject rendered empty (event.customer.name missing)");
    check("[ticket]\ndescription = \"<br>\"", event(), "mapping: ticket.description rendered empty");
    check("", json!({"text": "x"}), "mapping: no requester: none of email, phone, external_id found");
    let priority = "[ticket]\npriority = \"{{ event.p }}\"";
    check(
        priority,
        event(),
        "mapping: ticket.priority rendered something else than low, medium, high, urgent or a number",
    );
    check(
        "[ticket]\nsubject = \"{{ event.p + 1 }}\"",
        event(),
        "mapping: ticket.subject invalid operation in line 1",
    );
}

#[test]
fn fields_have_the_types_freshdesk_wants() {
    let source = source(
        "country = \"CO\"\n[ticket]\ngroup_id = \"{{ event.group }}\"\nproduct_id = \"{{ event.none }}\"\ntype = \"{{ event.kind }}\"\n\
         cc_emails = [\"{{ event.cc }}\"]\ncustom_fields = { cf_n = \"{{ event.n | int }}\", cf_t = \"{{ event.n }}\", \
         cf_f = true, cf_none = \"{{ event.none }}\", cf_h = \"{{ header.x_order }}{{ header['X-Order'] }}{{ query.lang }}\" }",
    );
    let event = json!({"phone": "300 111 2233", "text": "t", "group": "51000", "kind": "Incident", "n": "12",
                       "cc": "x@y.co, nobody"});
    let ticket = ticket(&source, event);
    assert_eq!((ticket.group_id, ticket.product_id), (Some(51_000), None));
    assert_eq!(ticket.ticket_type.as_deref(), Some("Incident"));
    assert_eq!(ticket.cc_emails, ["x@y.co"]);
    assert_eq!(
        Json::Object(ticket.custom_fields),
        json!({"cf_n": 12, "cf_t": "12", "cf_f": true, "cf_h": "77es"})
    );
    assert_eq!(ticket.requester.phone.as_deref(), Some("+573001112233"));
}

#[test]
fn the_secret_and_sessions_are_not_kept() {
    let sendpulse = source("preset = \"sendpulse@1\"");
    let headers = [("Authorization", "a"), ("COOKIE", "b"), ("X-Kept", "c"), ("x-kept", "d")];
    let draft = events(&sendpulse, &headers, &json!({"title": "flow"})).remove(0);
    let context: Json = serde_json::from_slice(&draft.context).unwrap();
    let expect = json!({"kind": "k", "index": null, "header": {"x-kept": "c, d"}, "query": {"lang": "es"}});
    assert_eq!(context, expect);
    let botpress = source("preset = \"botpress@1\"");
    let draft = events(&botpress, &[("X-BP-Secret", "s3cret")], &json!({"a": 1})).remove(0);
    assert!(!String::from_utf8(draft.context).unwrap().to_lowercase().contains("x-bp-secret"));
}

#[test]
fn lists_are_split_and_poison_is_buried_alone() {
    let plain = source("");
    let drafts = events(&plain, &[], &json!([{"text": "a"}, null, "boom", {"text": "b"}]));
    let verdicts: Vec<bool> = drafts.iter().map(|draft| draft.verdict == Verdict::Keep).collect();
    assert_eq!(verdicts, [true, false, false, true]);
    assert_eq!(drafts[2].verdict, Verdict::Bury("event is not an object".to_owned()));
    assert_eq!(drafts[2].body, b"\"boom\"");
    assert_eq!(events(&plain, &[], &json!([])), []);
    let many = Json::Array(vec![json!({"a": 1}); EVENTS_MAX + 1]);
    let drafts = events(&plain, &[], &many);
    assert_eq!(drafts.len(), 1);
    assert_eq!(drafts[0].verdict, Verdict::Bury("1001 events in one request, at most 1000".to_owned()));
}

#[test]
fn split_follows_paths_and_expressions() {
    let body = serde_json::from_str(r#"{"entry":{"list":[{"id":123456789012345678901234567890},{"id":2}]}}"#)
        .unwrap();
    let check = |split: &str, expect: &[&str]| {
        let drafts = events(&source(&format!("split = \"{split}\"")), &[], &body);
        let bodies: Vec<String> =
            drafts.into_iter().map(|draft| String::from_utf8(draft.body).unwrap()).collect();
        assert_eq!(bodies, expect, "{split}");
    };
    check("event.entry.list", &[r#"{"id":123456789012345678901234567890}"#, r#"{"id":2}"#]);
    check("event.entry.list | reverse | list", &[r#"{"id":2}"#, r#"{"id":123456789012345678901234567890}"#]);
    check("event.no.list", &[&body.to_string()]);
}

#[test]
fn ids_tell_events_apart_and_repetitions_not() {
    let source = source("event_id = \"{{ event.id }}\"\nconversation = \"{{ event.c }}\"");
    let one = |event: Json| events(&source, &[], &event).remove(0);
    let (a, b) = (one(json!({"id": 1, "c": "x", "t": 1})), one(json!({"t": 2, "c": "x", "id": 1})));
    assert_eq!((a.dedupe, a.event_id.as_str(), a.conversation.as_str()), (b.dedupe, "1", "x"));
    assert_eq!(a.dedupe_window, Duration::from_secs(7 * 86_400));
    let (c, d) = (one(json!({"t": 1, "u": [1.10]})), one(json!({"u": [1.10], "t": 1})));
    assert_eq!(c.dedupe, d.dedupe, "the order of members is no difference");
    assert_eq!(c.dedupe_window, Duration::from_secs(600));
    assert!(c.event_id.starts_with("sha256:") && c.conversation.starts_with("event:"));
    assert_ne!(c.dedupe, one(json!({"t": 1, "u": [1.1, 0]})).dedupe);
    assert_ne!(c.dedupe, one(json!({"t": 1, "u": [1.10], "c": "x"})).dedupe);
    let long = one(json!({"id": "i".repeat(500), "c": "c".repeat(500)}));
    assert!(long.event_id.chars().count() <= 200 && long.conversation.chars().count() <= 200);
}

#[test]
fn filters_that_fail_keep_the_event() {
    let source = source("keep_if = \"event.n + 'x' > 1\"");
    assert_eq!(events(&source, &[], &json!({"n": 1})).remove(0).verdict, Verdict::Keep);
    let told = plan(&source, json!({"n": 1, "email": "a@b.co", "text": "t"}), None);
    assert_eq!(told, Err("mapping: keep_if invalid operation in line 1".to_owned()));
}

#[test]
fn conditions_may_ask_who_it_is() {
    let source = source("keep_if = \"requester.email is endingwith('@acme.com')\"");
    let verdict = |email: &str| events(&source, &[], &json!({"email": email})).remove(0).verdict;
    assert_eq!(verdict("Ana@ACME.com"), Verdict::Keep);
    assert_eq!(verdict("ana@b.co"), Verdict::Ignore("keep_if is false".to_owned()));
}

#[test]
fn listings_name_the_requester() {
    let source = source("");
    let label = |event: Json| {
        let draft = events(&source, &[], &event).remove(0);
        let (body, context) = (draft.body.as_slice(), draft.context.as_slice());
        let stored =
            StoredEvent { body, context, received_at: NOW, event_id: "", kind: "", conversation: "" };
        source.requester_label(&stored)
    };
    assert_eq!(label(json!({"name": "Ana", "email": "a@b.co"})).as_deref(), Some("Ana"));
    assert_eq!(label(json!({"user_id": 7})).as_deref(), Some("shop:7"));
    assert_eq!(label(json!({"x": 1})), None);
}

#[test]
fn debug_shows_no_secret() {
    assert_eq!(format!("{:?}", source("")), "Source { name: \"shop\", preset: None, .. }");
}
