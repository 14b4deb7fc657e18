//! The filters that templates have beside the engine's own.

use super::facts::{facts, is_blank, without};
use super::fold::fold;
use super::plain::{one_line, truncate};
use super::times::{self, Zones};
use super::transcript::{self, Voices};
use super::value::{printed, to_text, words};
use super::{html, phone, rating};
use minijinja::value::{Kwargs, Rest, Value};
use minijinja::{AutoEscape, Environment, Error, State};
use std::sync::Arc;

/// Registers them. The country completes national numbers where a template does not say which; times are shown
/// and read in the zones.
pub(super) fn register(
    env: &mut Environment<'static>,
    country: Option<&'static phone::Country>,
    zones: &Arc<Zones>,
) {
    let of = Arc::clone(zones);
    env.add_filter("local", move |value: &Value| times::shown(&printed(value), &of).unwrap_or_default());
    let of = Arc::clone(zones);
    env.add_filter("transcript", move |state: &mut State, value: &Value, options: Kwargs| {
        transcript_filter(state, value, &options, &of)
    });
    env.add_filter("truncate", |value: &Value, max: usize| truncate(&printed(value), max));
    env.add_filter("nl2br", nl2br);
    env.add_filter("text", |value: &Value| to_text(value));
    env.add_filter("first_line", |value: &Value| first_line(&to_text(value)));
    env.add_filter("facts", facts_filter);
    env.add_filter("fold", |value: &Value| fold(&printed(value)));
    env.add_filter("rating", |value: &Value| rating::graded(&printed(value)).unwrap_or_default());
    env.add_test("blank", |value: &Value| is_blank(value));
    env.add_filter("stack", stack);
    env.add_filter("without", |value: &Value, names: Rest<String>| without(value, &names));
    env.add_filter("join", |value: &Value, by: Option<String>| join(value, by.as_deref().unwrap_or("")));
    env.add_filter("tojson", |value: &Value| serde_json::to_string(value).unwrap_or_default());
    env.add_filter("utc", |value: &Value| utc(&printed(value)).unwrap_or_default());
    env.add_filter("link", |value: &Value| link(&printed(value)));
    env.add_filter("phone", move |value: &Value, code: Option<String>| {
        let country = code.map_or(country, |code| phone::find_country(&code));
        phone::normalise(&printed(value), country).unwrap_or_default()
    });
}

fn nl2br(value: &Value) -> Value {
    match value.as_str() {
        Some(html) if value.is_safe() => Value::from_safe_string(html.replace('\n', "<br>\n")),
        Some(text) => Value::from_safe_string(html::lines(text)),
        None => Value::from_safe_string(html::lines(&to_text(value))),
    }
}

fn facts_filter(state: &State, value: &Value, options: Kwargs) -> Result<Value, Error> {
    let skip: Option<Vec<Value>> = options.get("skip")?;
    options.assert_all_used()?;
    let skip: Vec<String> = skip
        .unwrap_or_default()
        .iter()
        .map(|shown| printed(shown).trim().to_owned())
        .filter(|shown| !shown.is_empty())
        .collect();
    if matches!(state.auto_escape(), AutoEscape::None) {
        return Ok(Value::from(facts(value, &skip, false)));
    }
    Ok(Value::from_safe_string(facts(value, &skip, true)))
}

/// Where the whole of a transcript that was cut waits for whoever renders the template.
pub(super) const WHOLE: &str = "whole transcript";

fn transcript_filter(
    state: &mut State,
    value: &Value,
    options: &Kwargs,
    zones: &Zones,
) -> Result<Value, Error> {
    let text = |name: &str| -> Result<String, Error> {
        let value: Option<Value> = options.get(name)?;
        Ok(value.as_ref().map(printed).unwrap_or_default())
    };
    let voices = Voices { customer: text("customer")?, agent: text("agent")?, bot: text("bot")? };
    options.assert_all_used()?;
    let as_html = !matches!(state.auto_escape(), AutoEscape::None);
    let told = transcript::tell(value, &voices, zones, as_html);
    if let Some(whole) = told.whole {
        state.set_temp(WHOLE, Value::from(whole));
    }
    Ok(if as_html { Value::from_safe_string(told.shown) } else { Value::from(told.shown) })
}

/// Speakers whose lines say nothing of what the customer wants, and those whose name need not be told.
const MACHINES: [&str; 10] = [
    "bot",
    "assistant",
    "system",
    "agent",
    "agente",
    "operator",
    "asistente",
    "assistente",
    "chatbot",
    "бот",
];
pub(super) const CUSTOMERS: [&str; 13] = [
    "user",
    "customer",
    "client",
    "visitor",
    "human",
    "usuario",
    "cliente",
    "visitante",
    "usuário",
    "contacto",
    "пользователь",
    "клиент",
    "користувач",
];

/// The first line with something on it; of a transcript the first that the customer said.
fn first_line(text: &str) -> String {
    let speaker = |line: &str| line.split_once(": ").map(|(speaker, _)| speaker.to_lowercase());
    let is = |line: &str, names: &[&str]| speaker(line).is_some_and(|name| names.contains(&name.as_str()));
    let lines: Vec<String> = text.lines().map(one_line).filter(|line| !line.is_empty()).take(50).collect();
    let Some(line) = lines.iter().find(|line| !is(line, &MACHINES)).or(lines.first()) else {
        return String::new();
    };
    match line.split_once(": ") {
        Some((_, said)) if is(line, &CUSTOMERS) => said.to_owned(),
        _ => line.clone(),
    }
}

/// The parts that are not empty, one below the other, with that many line breaks between them.
fn stack(state: &State, parts: &Value, breaks: Option<usize>) -> Value {
    let breaks = breaks.unwrap_or(1).min(5);
    let parts = parts.try_iter().into_iter().flatten();
    if matches!(state.auto_escape(), AutoEscape::None) {
        let texts: Vec<String> =
            parts.map(|part| printed(&part)).filter(|text| !text.trim().is_empty()).collect();
        return Value::from(texts.join(&"\n".repeat(breaks)));
    }
    let to_html = |part: Value| if part.is_safe() { printed(&part) } else { html::escape(&printed(&part)) };
    let texts: Vec<String> = parts.map(to_html).filter(|text| !text.trim().is_empty()).collect();
    Value::from_safe_string(texts.join(&"<br>\n".repeat(breaks)))
}

fn join(value: &Value, by: &str) -> String {
    let mut found = Vec::new();
    words(value, &mut found);
    found.join(by)
}

fn link(text: &str) -> Value {
    Value::from_safe_string(html::link(text).unwrap_or_else(|| html::escape(text)))
}

/// A platform's time, in seconds or milliseconds since 1970.
fn utc(text: &str) -> Option<String> {
    let time = times::since_1970(text.trim())?.to_string();
    Some(format!("{} {} UTC", &time[..10], &time[11..16]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::zone::Zone;

    fn check(template: &str, expect: &str) {
        let mut env = Environment::new();
        let zone = |name: &str| Zone::find(name).unwrap();
        let zones = Arc::new(Zones { shown: zone("-03:00"), written: zone("-05:00") });
        register(&mut env, phone::find_country("CO"), &zones);
        env.set_auto_escape_callback(|name| {
            if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
        });
        let event = super::super::value::to_template(&serde_json::json!({
            "text": "a < b\nc", "tags": ["x", null, 7, ["y"]], "date": 1_617_401_679, "nothing": null,
        }));
        let context = Value::from_pairs([("event", event)]);
        assert_eq!(env.render_named_str("t.html", template, context).unwrap(), expect, "{template}");
    }

    #[test]
    fn filters_work_in_html() {
        check("{{ event.text | nl2br }}", "a &lt; b<br>\nc");
        check("{{ event.nothing | nl2br }}{{ event.nothing | truncate(3) }}", "");
        check("{{ event.text | first_line | upper }}", "A &lt; B");
        check("{{ 'Bot: hello\nuser: broken: yes' | first_line }}", "broken: yes");
        check("{{ 'Bot: hello' | first_line }}", "Bot: hello");
        check(
            "{{ ['', event.text | nl2br, event.nothing, '<'] | stack(2) }}",
            "a &lt; b<br>\nc<br>\n<br>\n&lt;",
        );
        check("{{ event.tags | join(', ') }}", "x, 7, y");
        check("{{ event.nothing | join(', ') }}", "");
        check("{{ {'T': event.text, 'N': event.nothing} | facts }}", "<b>T:</b> a &lt; b<br>\nc");
        check("{{ event | without('text', 'tags') | facts }}", "<b>date:</b> 1617401679");
        check("{{ event | without('text', 'tags') | facts(skip=[1617401679]) }}|", "|");
        check(
            "{{ event.date | utc }} {{ 1637759687101 | utc }}",
            "2021-04-02 22:14 UTC 2021-11-24 13:14 UTC",
        );
        check("{{ event.date | local }}{{ 'x' | local }}", "2021-04-02 19:14 -03:00");
        check("{{ '2021-04-02 10:00:00' | local }}", "2021-04-02 12:00 -03:00");
        check(
            "{{ [{'incoming': true, 'text': event.text}] | transcript(customer='Ana') }}",
            "<b>Ana:</b> a &lt; b<br>\nc",
        );
        check("{{ 16377590567070 | utc }}{{ 'x' | utc }}", "");
        check("{{ '3001112233' | phone }} {{ '911222333' | phone('ES') }}", "+573001112233 +34911222333");
        check("{{ 'javascript:x' | link }}", "javascript&#58;x");
        check("{{ event.tags | tojson }}", "[&quot;x&quot;,null,7,[&quot;y&quot;]]");
    }
}
