//! Transcripts: lists of messages as platforms write them, told as agents read them. Who, when in the account's
//! zone, what; media as links, places, buttons, cards.
//!
//! **Invariants:** everything a customer wrote is escaped; a long conversation is cut in its middle, visibly, and
//! handed back whole as text for a file.

mod parts;

use super::fold::fold;
use super::plain::{is_placeholder, one_line};
use super::times::{self, Zones};
use super::value::{attribute, member, printed, to_template};
use super::{filters, html};
use crate::clock::Timestamp;
use minijinja::value::{Value, ValueKind};
use parts::{Part, parts};
use serde_json::Value as Json;

/// HTML of one transcript that stands in a ticket; more is nobody's reading.
const SHOWN_MAX_BYTES: usize = 32 * 1024;
/// Of what is shown of a long one, the beginning; the end says how it went.
const BEGINNING_BYTES: usize = SHOWN_MAX_BYTES / 3;
/// More messages than any chat has.
const MESSAGES_MAX: usize = 20_000;
/// Plain text of a whole transcript; more is cut, visibly.
const WHOLE_MAX_BYTES: usize = 8 * 1024 * 1024;

const INCOMING: [&str; 5] = ["incoming", "isincoming", "fromcustomer", "iscustomer", "inbound"];
const OUTGOING: [&str; 5] = ["outgoing", "isoutgoing", "fromme", "isagent", "outbound"];
const DIRECTIONS: [&str; 4] = ["direction", "messagetype", "sentido", "direccion"];
const SPEAKERS: [&str; 20] = [
    "sender",
    "author",
    "speaker",
    "from",
    "role",
    "de",
    "autor",
    "remitente",
    "remetente",
    "sentby",
    "user",
    "agent",
    "agente",
    "usuario",
    "sendername",
    "authorname",
    "username",
    "name",
    "nombre",
    "nome",
];
const NAMES: [&str; 9] =
    ["name", "fullname", "displayname", "nombre", "nome", "firstname", "username", "email", "role"];
const TIMES: [&str; 18] = [
    "createdat",
    "timestamp",
    "sentat",
    "date",
    "datetime",
    "time",
    "createdon",
    "created",
    "fecha",
    "fechahora",
    "hora",
    "data",
    "datahora",
    "enviadoem",
    "criadoem",
    "ts",
    "receivedat",
    "at",
];

/// What the speakers are called where a message says only which side wrote it.
#[derive(Clone, Debug, Default)]
pub(super) struct Voices {
    pub customer: String,
    pub agent: String,
    pub bot: String,
}

/// A transcript in a ticket.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    /// HTML or text, as it was asked for.
    pub shown: String,
    /// The whole as text, where `shown` is cut.
    pub whole: Option<String>,
}

/// One message.
struct Message {
    at: Option<Timestamp>,
    /// A time that could not be read as a moment: `09:16`.
    clock: Option<String>,
    who: Option<String>,
    parts: Vec<Part>,
}

/// The transcript of a list of messages, of JSON in a text, or of a text that is one already.
pub(super) fn tell(value: &Value, voices: &Voices, zones: &Zones, as_html: bool) -> Told {
    let read = match value.kind() {
        ValueKind::String => value.as_str().and_then(from_text),
        _ => None,
    };
    let value = read.as_ref().unwrap_or(value);
    let messages = messages(value, voices, zones);
    let lines = lines(&messages, zones, as_html);
    let (line_break, size) =
        (if as_html { "<br>\n" } else { "\n" }, lines.iter().map(String::len).sum::<usize>());
    if size <= SHOWN_MAX_BYTES {
        return Told { shown: lines.join(line_break), whole: None };
    }
    let mut whole = self::lines(&messages, zones, false).join("\n");
    if whole.len() > WHOLE_MAX_BYTES {
        let end = (0..=WHOLE_MAX_BYTES).rev().find(|at| whole.is_char_boundary(*at)).unwrap_or(0);
        whole.truncate(end);
        whole.push_str("\n[cut here]\n");
    }
    Told { shown: cut(&lines, line_break, as_html), whole: Some(whole) }
}

/// The beginning and the end, with a notice between them.
fn cut(lines: &[String], line_break: &str, as_html: bool) -> String {
    let fitting = |lines: &mut dyn Iterator<Item = &String>, room: usize| {
        let mut left = room;
        lines
            .take_while(|line| {
                left.checked_sub(line.len()).is_some_and(|rest| {
                    left = rest;
                    true
                })
            })
            .count()
    };
    let first = fitting(&mut lines.iter(), BEGINNING_BYTES).max(1);
    let last = fitting(&mut lines[first..].iter().rev(), SHOWN_MAX_BYTES - BEGINNING_BYTES);
    let (beginning, end) = (&lines[..first], &lines[lines.len() - last..]);
    let left_out = lines.len() - first - last;
    let notice =
        format!("[cut here: {left_out} of {} lines are left out, transcript.txt has them all]", lines.len());
    let notice = if as_html { format!("<b>{notice}</b>") } else { notice };
    let of_a_line = |line: &String| match as_html {
        true if line.len() > SHOWN_MAX_BYTES => html::cut(line, SHOWN_MAX_BYTES, "[cut here]"),
        _ => line.clone(),
    };
    let shown = beginning.iter().map(of_a_line).chain([notice]).chain(end.iter().cloned());
    shown.collect::<Vec<_>>().join(line_break)
}

/// A list that was turned to text on its way.
fn from_text(text: &str) -> Option<Value> {
    let text = text.trim();
    if !text.starts_with(['[', '{']) {
        return None;
    }
    match serde_json::from_str::<Json>(text) {
        Ok(json @ (Json::Array(_) | Json::Object(_))) => Some(to_template(&json)),
        _ => None,
    }
}

fn messages(value: &Value, voices: &Voices, zones: &Zones) -> Vec<Message> {
    let saying =
        |text: &str| Message { at: None, clock: None, who: None, parts: vec![Part::Text(text.to_owned())] };
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let elements = value.try_iter().into_iter().flatten().take(MESSAGES_MAX);
            elements.flat_map(|element| messages_of(&element, voices, zones)).collect()
        }
        ValueKind::Map => messages_of(value, voices, zones),
        ValueKind::Undefined | ValueKind::None => Vec::new(),
        _ => {
            let text = printed(value);
            let lines = text.lines().filter(|line| !is_placeholder(line));
            lines.map(saying).collect()
        }
    }
}

fn messages_of(value: &Value, voices: &Voices, zones: &Zones) -> Vec<Message> {
    if value.kind() != ValueKind::Map {
        return messages(value, voices, zones);
    }
    let message = message(value, voices, zones);
    if message.parts.is_empty() { Vec::new() } else { vec![message] }
}

fn message(map: &Value, voices: &Voices, zones: &Zones) -> Message {
    let members = members(map);
    let find = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| members.iter().find(|(member, _)| member == name))
            .map(|(_, value)| value)
    };
    let moment = find(&TIMES).map(printed).filter(|text| !is_placeholder(text));
    let at = moment.as_deref().and_then(|text| times::moment(text, &zones.written));
    let clock = moment.filter(|text| at.is_none() && text.len() <= 24).map(|text| one_line(&text));
    let who = who(&members, voices);
    let mut parts = parts(map, who.as_deref());
    if find(&["broadcasted", "broadcast"]).is_some_and(Value::is_true) {
        parts.insert(0, Part::Label("broadcast".to_owned()));
    }
    Message { at, clock, who, parts }
}

/// Members by their folded names, in their order.
pub(super) fn members(map: &Value) -> Vec<(String, Value)> {
    let names = map.try_iter().into_iter().flatten();
    names.map(|name| (fold(&name.to_string()), member(map, &name))).collect()
}

/// Who speaks: by name where there is one, else by side.
fn who(members: &[(String, Value)], voices: &Voices) -> Option<String> {
    let side = side(members);
    let of_side = |side: Side| match side {
        Side::Customer => or(&voices.customer, "Customer"),
        Side::Agent => or(&voices.agent, "Agent"),
        Side::Bot => or(&voices.bot, "Bot"),
    };
    let named = SPEAKERS.iter().find_map(|name| {
        let (_, value) = members.iter().find(|(member, _)| member == name)?;
        let name = match value.kind() {
            ValueKind::Map => NAMES.iter().find_map(|name| {
                let members = self::members(value);
                let (_, value) = members.into_iter().find(|(member, _)| member == name)?;
                Some(printed(&value)).filter(|text| !is_placeholder(text))
            })?,
            ValueKind::String => printed(value),
            _ => return None,
        };
        let name = one_line(&name);
        (!is_placeholder(&name) && name.chars().count() <= 80).then_some(name)
    });
    match named {
        Some(name) => Some(word_side(&name).map_or(name, of_side)),
        None => side.map(of_side),
    }
}

#[derive(Clone, Copy)]
enum Side {
    Customer,
    Agent,
    Bot,
}

fn or(name: &str, otherwise: &str) -> String {
    if is_placeholder(name) { otherwise.to_owned() } else { one_line(name) }
}

fn side(members: &[(String, Value)]) -> Option<Side> {
    let flag = |names: &[&str]| {
        let found = members.iter().find(|(member, _)| names.contains(&member.as_str()));
        found.filter(|(_, value)| value.kind() == ValueKind::Bool).map(|(_, value)| value.is_true())
    };
    if let Some(incoming) = flag(&INCOMING).or(flag(&OUTGOING).map(|outgoing| !outgoing)) {
        return Some(if incoming { Side::Customer } else { Side::Agent });
    }
    let (_, direction) = members.iter().find(|(member, _)| DIRECTIONS.contains(&member.as_str()))?;
    match fold(&printed(direction)).as_str() {
        "incoming" | "inbound" | "in" | "received" | "entrante" | "entrada" | "0" => Some(Side::Customer),
        "outgoing" | "outbound" | "out" | "sent" | "saliente" | "saida" | "1" => Some(Side::Agent),
        _ => None,
    }
}

/// The side that a word stands for: `user`, `atendente`, `assistant`.
fn word_side(word: &str) -> Option<Side> {
    const BOTS: [&str; 8] =
        ["bot", "assistant", "system", "chatbot", "asistente", "assistente", "sistema", "бот"];
    const AGENTS: [&str; 14] = [
        "agent",
        "agente",
        "operator",
        "operador",
        "atendente",
        "asesor",
        "human",
        "humanagent",
        "support",
        "soporte",
        "suporte",
        "оператор",
        "агент",
        "admin",
    ];
    let word = fold(word);
    if BOTS.iter().any(|bot| fold(bot) == word) {
        return Some(Side::Bot);
    }
    if AGENTS.iter().any(|agent| fold(agent) == word) {
        return Some(Side::Agent);
    }
    filters::CUSTOMERS.iter().any(|customer| fold(customer) == word).then_some(Side::Customer)
}

/// A line per message, a heading where the day changes.
fn lines(messages: &[Message], zones: &Zones, as_html: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut day = String::new();
    for message in messages {
        let civil = message.at.and_then(|at| zones.shown.civil(at));
        if let Some(date) = civil.map(times::date).filter(|date| *date != day) {
            let heading = match day.is_empty() {
                true => format!("{date}, times in {}", zones.shown.name()),
                false => date.clone(),
            };
            lines.push(if as_html { format!("<b>{}</b>", html::escape(&heading)) } else { heading });
            day = date;
        }
        let clock = civil.map(times::time).or(message.clock.clone());
        lines.push(line(message, clock.as_deref(), as_html));
    }
    lines
}

fn line(message: &Message, clock: Option<&str>, as_html: bool) -> String {
    let mut line = String::new();
    if let Some(clock) = clock {
        line.push_str(&escaped(clock, as_html));
        line.push(' ');
    }
    if let Some(who) = &message.who {
        let who = escaped(who, as_html);
        line.push_str(&if as_html { format!("<b>{who}:</b> ") } else { format!("{who}: ") });
    }
    let parts: Vec<String> = message.parts.iter().map(|part| part.told(as_html)).collect();
    line + &parts.join(if as_html { "<br>\n" } else { "\n" })
}

fn escaped(text: &str, as_html: bool) -> String {
    if as_html { html::escape(text) } else { text.to_owned() }
}

/// A member by any of these folded names that is not blank.
pub(super) fn first<'a>(members: &'a [(String, Value)], names: &[&str]) -> Option<(&'a str, &'a Value)> {
    names.iter().find_map(|name| {
        let (member, value) = members.iter().find(|(member, _)| member == name)?;
        let is_blank = matches!(value.kind(), ValueKind::Undefined | ValueKind::None)
            || value.as_str().is_some_and(is_placeholder);
        (!is_blank).then_some((member.as_str(), value))
    })
}

/// The type that a message names: `image`, `LOCATION`.
pub(super) fn kind_of(map: &Value) -> String {
    let kind = ["type", "message_type", "tipo", "kind"].iter().map(|name| attribute(map, name));
    kind.filter_map(|kind| kind.as_str().map(str::to_lowercase))
        .find(|kind| !is_placeholder(kind))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
