//! `check` against a live account: every finding names the line in the file and what is allowed.

use crate::harness::{KEY, World, sandbox};
use deskspool::sandbox::{CustomField, CustomKind, Form, Options, Sandbox};

const SOURCE: &str = "preset = \"generic@1\"\nsecret = \"chat-secret\"\n";

/// What `check` says of a source with these lines, with the account's and the files' names made short.
fn check(desk: &Sandbox, lines: &str) -> (i32, String) {
    let mut world = World::new(desk);
    world.source("chat", &format!("{SOURCE}{lines}")).write();
    let verb = world.run(&["check"]);
    let text = verb.out.replace(&desk.address().to_string(), "acme");
    (verb.code, text.replace(&world.config().display().to_string(), "deskspool.toml"))
}

#[test]
fn what_exists_is_named() {
    let desk = sandbox();
    let lines = "ticket.group_id = 51000123456\nticket.type = \"Incident\"\nticket.status = \"resolved\"\n\
        ticket.custom_fields.cf_vip = true\nticket.custom_fields.cf_score = \"{{ event.score | int }}\"\n\
        ticket.custom_fields.cf_channel = \"WhatsApp\"";
    let (code, text) = check(&desk, lines);
    assert_eq!(code, 0, "{text}");
    let good = "  ok    cf_channel \"WhatsApp\" exists; group 51000123456 is \"Pagos\"; status 4 is \"Resolved\"; \
                type \"Incident\" exists; field cf_vip exists\n";
    assert!(text.contains(good), "{text}");
    assert!(text.contains("  ok    ticket form: 17 fields, what it requires is filled\n"), "{text}");
}

#[test]
fn what_does_not_exist_is_shown_in_its_line_with_what_does() {
    let desk = sandbox();
    let finding = |line: &str, expect: &str| {
        let (code, text) = check(&desk, line);
        assert!(text.contains(expect), "{expect}\nis not in\n{text}");
        assert_eq!(code, 1, "{text}");
    };
    finding(
        "ticket.group_id = 51000999999",
        "   source.chat.ticket.group_id\n           |\n        16 | ticket.group_id = 51000999999\n           \
         |                   ^^^^^^^^^^^ acme has no group 51000999999\n           \
         = groups of acme: Pagos 51000123456, Soporte 51000123457\n",
    );
    finding("ticket.type = \"Incidente\"", "^^^^^^^^^^^ acme has no ticket type Incidente\n");
    finding(
        "ticket.type = \"Incidente\"",
        "= types of acme: Question, Incident, Problem, Feature Request, Refund\n",
    );
    finding("ticket.product_id = 7", "= products of acme: Tienda 51000000701\n");
    finding(
        "ticket.status = 99",
        "= statuses of acme: Open 2, Pending 3, Resolved 4, Closed 5, Waiting on Customer 6",
    );
    finding("ticket.custom_fields.cf_nothing = \"x\"", "acme has no ticket field cf_nothing\n");
    finding(
        "ticket.custom_fields.cf_nothing = \"x\"",
        "= fields of acme: cf_external_ref, cf_b2chat_link, cf_channel,",
    );
    finding(
        "ticket.custom_fields.cf_channel = \"Fax\"",
        "= choices of acme: WhatsApp, Telegram, Instagram, Web\n",
    );
    finding("ticket.custom_fields.cf_score = \"many\"", "^^^^^^ the field wants a whole number\n");
    finding(
        "ticket.custom_fields.cf_vip = \"{{ event.vip }}\"",
        "the field wants true or false, and this makes text\n",
    );
    finding("ticket.custom_fields.cf_vip = \"{{ event.vip }}\"", "= end it with a filter:  {{ … | bool }}\n");
}

#[test]
fn what_the_form_requires_must_be_filled() {
    let mut form = Form { required_for_agents: vec!["type".to_owned()], ..Form::default() };
    form.required_for_closure = vec!["group_id".to_owned()];
    form.custom_fields
        .push(CustomField { required_for_agents: true, ..CustomField::new("cf_plan", CustomKind::Text) });
    let desk =
        Sandbox::start(Options { form, key: KEY.to_owned(), ..Options::default() }).expect("a free port");
    let (code, text) = check(&desk, "");
    assert_eq!(code, 1, "{text}");
    let missing = "preset = \"generic@1\"\n           |          ^^^^^^^^^^^ the form of acme requires type, and nothing fills it\n           \
        = in [source.chat.ticket]:  type = \"Question\"   (choices: Question, Incident, Problem, Feature Request, Refund)\n";
    assert!(text.contains(missing), "{text}");
    assert!(text.contains("= in [source.chat.ticket]:  custom_fields = { cf_plan = \"…\" }\n"), "{text}");
    assert!(!text.contains("requires group_id"), "no ticket of it is born closed:\n{text}");
    let filled = "ticket.custom_fields.cf_plan = \"{{ event.plan }}\"\nticket.type = \"Incident\"";
    let (code, text) = check(&desk, filled);
    assert_eq!(code, 0, "{text}");
    let (code, text) = check(&desk, &format!("{filled}\nticket.status = \"closed\""));
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("requires group_id for tickets that are resolved or closed, and nothing fills it\n"),
        "{text}"
    );
    let rule = "ticket.custom_fields.cf_plan = \"x\"\n\
        rule = [{ do = \"ticket\", ticket = { type = \"Incident\" } }]";
    let (code, text) = check(&desk, rule);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("requires type, and only some rules fill it\n"), "{text}");
}

#[test]
fn the_marker_must_be_a_field_of_text() {
    let desk = sandbox();
    let marker = |name: &str| {
        let mut world = World::new(&desk);
        world.source("chat", SOURCE).set("freshdesk", "marker_field", &format!("{name:?}")).write();
        world.run(&["check"])
    };
    assert_eq!(marker("cf_external_ref").code, 0);
    let number = marker("cf_score");
    assert_eq!(number.code, 1, "{number:?}");
    assert!(
        number.out.contains("expected a field of type custom_text, cf_score is custom_number\n"),
        "{}",
        number.out
    );
    assert!(marker("cf_lost").out.contains("has no ticket field cf_lost\n"));
}
