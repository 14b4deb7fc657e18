//! `deskspool try SOURCE FILE|-`: what would become of a request; nothing is stored or sent, no daemon is needed.

use super::render::{Screen, Tone, one_line};
use super::{FINE, Failure, Global, NOT_FINE, Outcome};
use crate::clock::{Clock, SystemClock};
use crate::config::{SourceConfig, Surroundings};
use crate::daemon;
use crate::source::table::SecretRef;
use crate::source::{Asked, Empty};
use crate::trial::request::TrialRequest;
use crate::trial::{Call, EventTrial, Trial};
use anyhow::Context;
use clap::Args;
use serde_json::Value as Json;
use std::fmt::Write as _;
use std::io::Read;

/// Lines of a description or a note that are shown; `--json` shows all.
const TEXT_LINES_MAX: usize = 40;
/// Where an event's lines begin.
const INDENT: &str = "          ";

/// `deskspool try`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TryArgs {
    /// The source whose mapping is tried
    source: String,
    /// A body, a raw HTTP request (.http), or what `capture` saved; - reads standard input
    file: String,
    /// As if it came to /in/SOURCE/KIND
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// As if the conversation had this ticket already
    #[arg(long, value_name = "NUMBER")]
    ticket: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  deskspool try sendpulse sample.json          a body alone: everything but the secret is tried
  deskspool try contako request.http           a whole request: its secret too
  deskspool try botpress - --ticket 8812 <x    what a later event of a conversation with a ticket adds
  deskspool try b2chat x.json --json           {\"verify\":{…},\"events\":[{…,\"asked\":[…],\"calls\":[…]}]}

Exit codes: 0 every event is delivered, filtered or a duplicate; 1 refused, or an event would be dead.
It reads the configuration; the daemon is neither needed nor changed.";

/// Tries and prints.
pub fn run(global: &Global, args: &TryArgs, screen: &mut Screen) -> Outcome {
    let bytes = read(&args.file)?;
    let loaded = match daemon::load(&global.config, &Surroundings::of_check()) {
        Ok(loaded) => loaded,
        Err(findings) => {
            eprint!("{}", daemon::lines(&findings));
            return Ok(NOT_FINE);
        }
    };
    let Some(source) = loaded.sources.iter().find(|source| source.name() == args.source) else {
        let names: Vec<&str> = loaded.sources.iter().map(|source| source.name()).collect();
        return Err(Failure::Usage(format!(
            "there is no [source.{}] (there are: {})",
            args.source,
            names.join(", ")
        )));
    };
    let mut request = TrialRequest::parse(&bytes);
    if let Some(kind) = &args.kind {
        request.kind = Some(kind.clone());
    }
    let config = loaded.config.sources.iter().find(|config| config.name == args.source);
    let unchecked = config.and_then(unseen_secret);
    let now = SystemClock::new().now();
    let trial = crate::trial::run(source, &request, (now, args.ticket), unchecked);
    if global.json {
        screen.line(&serde_json::to_string(&trial)?)?;
    } else if !global.quiet {
        screen.print(&render(&trial, screen))?;
    }
    let fine = trial.verify.result != "refused" && trial.events.iter().all(|event| event.result != "dead");
    Ok(if fine { FINE } else { NOT_FINE })
}

fn read(file: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    if file == "-" {
        std::io::stdin().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(file).with_context(|| file.to_owned())?;
    }
    Ok(bytes)
}

/// Why the secret cannot be compared here: systemd shows credentials to the service only.
fn unseen_secret(source: &SourceConfig) -> Option<&'static str> {
    let secrets = source.table.secret.as_ref()?.get_ref().all();
    let credential = secrets.iter().any(|secret| matches!(secret, SecretRef::Credential(_)));
    (credential && std::env::var_os("CREDENTIALS_DIRECTORY").is_none())
        .then_some("systemd passes the credential to the service only")
}

/// The answer for people.
fn render(trial: &Trial, screen: &Screen) -> String {
    let verify = &trial.verify;
    let tone = match verify.result {
        "ok" => Tone::Good,
        "refused" => Tone::Bad,
        _ => Tone::Dim,
    };
    let result = screen.tone(tone, verify.result);
    let mut text = line_with_result("request", &format!("verify: {}", verify.why), &result);
    for (index, event) in trial.events.iter().enumerate() {
        text.push_str(&event_lines(index + 1, event, screen));
    }
    if trial.events.is_empty() && verify.result != "refused" {
        text.push_str("          no events in it\n");
    }
    text + "nothing was stored or sent\n"
}

/// `request   verify: token matches      ok`.
fn line_with_result(label: &str, what: &str, result: &str) -> String {
    format!("{label:<9} {:<62} {result}\n", what)
}

fn event_lines(number: usize, event: &EventTrial, screen: &Screen) -> String {
    let mut text = String::new();
    let mut label = format!("event {number}");
    let identity = format!(
        "{}id {}   conversation {}",
        if event.kind.is_empty() { String::new() } else { format!("kind {}   ", one_line(&event.kind, 60)) },
        one_line(&event.event_id, 80),
        one_line(&event.conversation, 80)
    );
    for asked in &event.explanation.asked {
        text.push_str(&line_with_result(&label, &question(asked), &answer(asked, screen)));
        label.clear();
    }
    let _ = writeln!(text, "{label:<9} {identity}");
    if event.explanation.rule.is_none() && event.result == "delivered" && !event.calls.is_empty() {
        let _ = writeln!(text, "{INDENT}no rule matched: a ticket, or a note where there is one");
    }
    match (event.result, &event.why) {
        ("delivered", _) => {}
        ("dead", Some(why)) => {
            let _ = writeln!(text, "{INDENT}{}: {why}", screen.tone(Tone::Bad, "dead"));
        }
        (result, why) => {
            let _ = writeln!(text, "{INDENT}{result}: {}", why.as_deref().unwrap_or_default());
        }
    }
    event.calls.iter().for_each(|call| text.push_str(&call_lines(call)));
    if let Some(missing) = missing(&event.explanation.empty) {
        let _ = writeln!(text, "{INDENT}{}", screen.tone(Tone::Doubtful, &missing));
    }
    text
}

fn question(asked: &Asked) -> String {
    match &asked.condition {
        Some(condition) => format!("{}  {}", asked.name, one_line(&squeezed(condition), 100)),
        None => format!("{}  always", asked.name),
    }
}

/// Conditions over several lines read on one.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn answer(asked: &Asked, screen: &Screen) -> String {
    let values: Vec<String> =
        asked.values.iter().map(|(name, value)| format!("{name} is {}", one_line(value, 60))).collect();
    match (asked.holds, &asked.says) {
        (Some(true), None) => screen.tone(Tone::Good, "true"),
        (Some(true), Some(says)) => format!("{}: {says}", screen.tone(Tone::Good, "matches")),
        (Some(false), None) => format!("false: {}", values.join(", ")),
        (Some(false), Some(_)) => format!("no: {}", values.join(", ")),
        (None, _) => {
            let fault = asked.fault.as_deref().unwrap_or_default();
            format!("{}: {fault}", screen.tone(Tone::Bad, "cannot be decided"))
        }
    }
}

fn missing(empty: &[Empty]) -> Option<String> {
    let keys = empty.iter().map(|empty| match empty.missing.as_slice() {
        [] => empty.key.clone(),
        missing => {
            let names: Vec<&str> = missing.iter().take(3).map(String::as_str).collect();
            format!("{} (no {})", empty.key, names.join(", "))
        }
    });
    let keys: Vec<String> = keys.collect();
    (!keys.is_empty()).then(|| format!("rendered empty: {}", keys.join(", ")))
}

/// A call with its members, the well-known ones first and in words.
pub fn call_lines(call: &Call) -> String {
    let mut text = format!("{INDENT}{} {}\n", call.method, call.path);
    let Some(members) = call.body.as_object() else { return text };
    let mut member = |name: &str, value: &str| {
        let mut lines = value.lines();
        let _ = writeln!(text, "{INDENT}  {name:<12}  {}", one_line(lines.next().unwrap_or_default(), 400));
        let rest: Vec<&str> = lines.collect();
        for line in rest.iter().take(TEXT_LINES_MAX) {
            let _ = writeln!(text, "{INDENT}  {:<12}  {}", "", one_line(line, 400));
        }
        if rest.len() > TEXT_LINES_MAX {
            let _ = writeln!(text, "{INDENT}  {:<12}  … {} more lines", "", rest.len() - TEXT_LINES_MAX);
        }
    };
    if let Some(subject) = members.get("subject").and_then(Json::as_str) {
        member("subject", subject);
    }
    let who = requester(members);
    if !who.is_empty() {
        member("requester", &who);
    }
    for (name, value) in members {
        match (name.as_str(), value) {
            ("subject" | "custom_fields", _) | ("status" | "priority" | "source" | "tags", _) => {}
            (name, _) if WHO.contains(&name) => {}
            (name, value) => member(name, &shown(value)),
        }
    }
    let words: Vec<String> =
        ["status", "priority", "source", "tags"].iter().filter_map(|name| short(name, members)).collect();
    if !words.is_empty() {
        let _ = writeln!(text, "{INDENT}  {}", words.join("  "));
    }
    for (name, value) in members.get("custom_fields").and_then(Json::as_object).into_iter().flatten() {
        let _ = writeln!(text, "{INDENT}  {name:<12}  {}", one_line(&shown(value), 400));
    }
    text
}

const WHO: [&str; 4] = ["name", "email", "phone", "unique_external_id"];

/// `Ana Ruiz, unique_external_id sendpulse:c42`.
fn requester(members: &serde_json::Map<String, Json>) -> String {
    let parts = WHO.iter().filter_map(|key| {
        let value = members.get(*key)?.as_str()?;
        Some(if *key == "name" { value.to_owned() } else { format!("{key} {value}") })
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn shown(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `status open`: Freshdesk's numbers in the words that the configuration takes.
fn short(name: &str, members: &serde_json::Map<String, Json>) -> Option<String> {
    let value = members.get(name)?;
    let word = value.as_u64().and_then(|number| crate::freshdesk::word(name, number));
    let tags = value.as_array().map(|tags| tags.iter().map(shown).collect::<Vec<_>>().join(", "));
    let text = tags.unwrap_or_else(|| word.map_or_else(|| shown(value), str::to_owned));
    Some(format!("{name} {}", one_line(&text, 200)))
}
