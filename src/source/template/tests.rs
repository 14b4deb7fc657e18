//! Templates: what they render, and what they may not do.

use super::*;
use crate::source::value::to_template;
use serde_json::json;

fn finders() -> BTreeSet<String> {
    ["email", "text"].map(str::to_owned).into()
}

fn context() -> Value {
    let event = to_template(&json!({
        "text": "<b>hi</b>\nyou", "n": 5, "flag": true, "null": null, "big": "x".repeat(1000), "map": {"a": 1},
    }));
    Value::from_pairs([("event", event), ("kind", Value::from("k"))])
}

fn render(key: &str, text: &str) -> Result<String, String> {
    let mut engine = Engine::new(None, Zones::utc());
    let finders = finders();
    let template = engine.add((Layer::Admin, key), text, &Rules { finders: &finders }).unwrap();
    engine.render(&template, &context())
}

#[test]
fn templates_render() {
    let check =
        |key: &str, text: &str, expect: &str| assert_eq!(render(key, text).as_deref(), Ok(expect), "{text}");
    check("ticket.subject", "{{ event.text }}", "<b>hi</b>\nyou");
    check("ticket.description", "<p>{{ event.text | nl2br }}</p>", "<p>&lt;b&gt;hi&lt;/b&gt;<br>\nyou</p>");
    check("ticket.description", "{{ event.text }}", "&lt;b&gt;hi&lt;/b&gt;\nyou");
    check(
        "ticket.subject",
        "{{ event.null }}{{ event.no.such.thing }}|{{ event.flag }}|{{ event.map }}",
        "|true|a: 1",
    );
    check("ticket.subject", "plain <b>", "plain <b>");
    check("ticket.subject", "{{ event.null | default('d') }} {{ event.n + 1 }}", "d 6");
    check("ticket.subject", "{% set t = event.n %}{% for i in range(2) %}{{ i + t }}{% endfor %}", "56");
}

#[test]
fn rendering_is_limited() {
    let loops = "{% for i in range(9000) %}{{ event.big }}{% endfor %}";
    assert_eq!(render("ticket.subject", loops), Err("rendered more than 256 KiB".to_owned()));
    let cut = render("ticket.description", loops).unwrap();
    assert!(cut.len() < OUTPUT_MAX_BYTES + 200 && cut.ends_with("<b>[cut here: longer than 256 KiB]</b>"));
    let nested = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}";
    assert_eq!(render("ticket.subject", nested), Err("does too much work".to_owned()));
    assert_eq!(
        render("ticket.subject", "{{ event.text + 1 }}"),
        Err("invalid operation in line 1".to_owned())
    );
}

fn check_fault(text: &str, what: &str, at: Option<&str>) {
    let finders = finders();
    let rules = Rules { finders: &finders };
    let fault =
        Engine::new(None, Zones::utc()).add((Layer::Admin, "ticket.subject"), text, &rules).unwrap_err();
    assert_eq!(fault.what, what, "{text}");
    let marked = fault.offset.map(|offset| &text[offset..]);
    assert!(
        at.is_none() || marked.is_some_and(|marked| marked.starts_with(at.unwrap_or_default())),
        "{marked:?}"
    );
}

#[test]
fn mistakes_are_found_when_compiling() {
    check_fault("x {{ event.text | nl2br }", "expected }}", Some("}"));
    check_fault("{{ evnt.text }}", "uses \"evnt\", which does not exist", Some("evnt"));
    check_fault("{{ found.emial }}", "uses \"found.emial\", which does not exist", Some("emial"));
    check_fault("{{ event.a | uper }}", "uses the filter \"uper\", which does not exist", Some("uper"));
    check_fault(
        "{% if event.a is defind %}{% endif %}",
        "uses the test \"is defind\", which does not exist",
        Some("defind"),
    );
    check_fault("{% if event.a %}", "ends too early: a }}, %} or {% end… %} is missing", None);
    check_fault("{{ debug() }}", "uses \"debug\", which does not exist", Some("debug"));
}

#[test]
fn conditions_hold_or_not() {
    let finders = finders();
    let rules = Rules { finders: &finders };
    let mut engine = Engine::new(None, Zones::utc());
    let mut holds = |text: &str| {
        let condition = engine.add_condition((Layer::Admin, "keep_if"), text, &rules).unwrap();
        engine.holds(&condition, &context())
    };
    assert_eq!(holds("event.n == 5 and kind == 'k'"), Ok(true));
    assert_eq!(holds("event.null or event.nothing.at.all"), Ok(false));
    assert_eq!(holds("not event.flag"), Ok(false));
    assert!(holds("event.text > 5 + 'x'").is_err());
    let fault = engine.add_condition((Layer::Admin, "keep_if"), "event.title = 'x'", &rules).unwrap_err();
    assert_eq!(fault, Fault::new("one = assigns nothing; compare with ==", Some(12)));
    let fault = engine.add_condition((Layer::Admin, "keep_if"), "event.a && event.b", &rules).unwrap_err();
    assert_eq!(fault.help.as_deref(), Some("write and, or, not"));
}

#[test]
fn what_was_missing_is_told() {
    let mut engine = Engine::new(None, Zones::utc());
    let finders = finders();
    let text = "{{ event.customer.name }}{{ event.n }}{{ found.email }}";
    let template = engine.add((Layer::Admin, "ticket.subject"), text, &Rules { finders: &finders }).unwrap();
    assert_eq!(template.missing(&context()), ["event.customer.name", "found.email"]);
    assert!(template.reads("found") && !template.reads("header"));
}
