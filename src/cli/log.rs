//! `deskspool log`: what happened, one line per event and attempt; it needs neither journald nor a log file.

use super::answer::Answerer;
use super::progress::{INTERRUPTED, Interrupts};
use super::render::{Screen, Tone, one_line};
use super::{FINE, Failure, FilterArgs, Global, Outcome};
use crate::control::client::{AskError, Daemon};
use crate::status::Seen;
use clap::Args;
use serde::Deserialize;
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

/// How often whoever follows asks.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A number of lines nobody has.
const ALL: usize = usize::MAX;
/// Widest name of a conversation or an event.
const NAME_CHARS_MAX: usize = 40;

/// `deskspool log`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LogArgs {
    /// Only envelopes with this number, or with this text in event id, requester or error
    text: Option<String>,
    /// Go on with what happens from now on
    #[arg(long, short)]
    follow: bool,
    /// The last so many lines; 0 for all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000)]
    lines: usize,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
Examples:
  deskspool log 10432                          everything that happened to one envelope
  deskspool log -f                             follow
  deskspool log --source contako --state dead --since 2d
  deskspool log -n 0 --json > log.jsonl

It says what history and the waiting envelopes know, for spool.keep_delivered: accepted, delivered, deferred,
unknown, rejected, dead, dropped; -f also duplicate, filtered, refused and held. --state, --since and --until judge a line,
not where its envelope stands now: queued finds accepted, deferred finds unknown too, dead finds rejected too.
What else the daemon says is in its own log: journalctl -u deskspool; what was turned away: deskspool refused.
--json: {\"at\":…,\"at_ms\":N,\"what\":…,\"id\":N,\"source\":…,\"conversation\":…,\"event\":…,\"attempt\":N,
\"took_seconds\":N,\"ticket\":N,\"reason\":…} per line, \"kind\":… where it was filtered
Exit codes: 0 fine, 2 usage, 3 neither daemon nor spool can be read, 130 interrupted.";

/// The line of a page that says where to go on.
#[derive(Deserialize)]
struct Next<T> {
    next: T,
}

/// Prints what happened, and then what happens.
pub fn run(global: &Global, args: &LogArgs, screen: &mut Screen) -> Outcome {
    args.filter.filter()?;
    let mut query = args.filter.query();
    if let Some(text) = &args.text {
        let text = form_urlencoded::Serializer::new(String::new()).append_pair("match", text).finish();
        query = if query.is_empty() { text } else { format!("{query}&{text}") };
    }
    let mut interrupts = if args.follow { Some(Interrupts::catch()?) } else { None };
    // Asked before the past is read, so that nothing falls in between.
    let daemon = global.daemon();
    let begin = match args.follow {
        true => Some(followed(&daemon.get("/follow?")?)?.0),
        false => None,
    };
    let mut answerer = global.answerer();
    let keep = if args.lines == 0 { ALL } else { args.lines };
    let past = past(&mut answerer, &query, keep)?;
    let shown: HashSet<String> = past.lines.iter().map(|(.., line)| line.clone()).collect();
    if past.left_out > 0 && !global.quiet {
        eprintln!("{} earlier lines are left out: -n 0 shows all", past.left_out);
    }
    for (.., line) in &past.lines {
        print(global, screen, line)?;
    }
    let (Some(from), Some(interrupts)) = (begin, &mut interrupts) else { return Ok(FINE) };
    let told = Told { keys: shown.iter().filter_map(|line| key(line)).collect() };
    follow(global, (&daemon, &query, from), (interrupts, &told), screen)
}

/// The latest lines, in order of time.
#[derive(Default)]
struct Past {
    /// Time, order in which they were read, text.
    lines: BTreeSet<(u64, u64, String)>,
    left_out: u64,
}

/// Reads everything, and keeps the latest.
fn past(answerer: &mut Answerer<'_>, query: &str, keep: usize) -> Result<Past, Failure> {
    let (mut past, mut number) = (Past::default(), 0);
    let mut target = format!("/log?{query}");
    loop {
        let page = answerer.get(&target)?;
        let mut next = None;
        for line in page.lines() {
            match serde_json::from_str::<Seen>(line) {
                Ok(seen) => {
                    number += 1;
                    past.lines.insert((seen.at_ms, number, line.to_owned()));
                }
                Err(_) => next = serde_json::from_str::<Next<Option<String>>>(line)?.next,
            }
        }
        while past.lines.len() > keep {
            past.lines.pop_first();
            past.left_out += 1;
        }
        let Some(at) = next else { return Ok(past) };
        target = format!("/log?at={at}&{query}");
        target.truncate(target.trim_end_matches('&').len());
    }
}

/// Which lines were shown already.
struct Told {
    keys: HashSet<(Option<u64>, String, u64)>,
}

fn key(line: &str) -> Option<(Option<u64>, String, u64)> {
    let seen: Seen = serde_json::from_str(line).ok()?;
    Some(key_of(&seen))
}

fn key_of(seen: &Seen) -> (Option<u64>, String, u64) {
    // An attempt that was refused for good is a rejected one in history.
    let what = if seen.what == "rejected" { "dead" } else { &seen.what };
    (seen.id, what.to_owned(), seen.at_ms)
}

fn followed(answer: &str) -> Result<(u64, Vec<String>), Failure> {
    let mut lines = answer.lines();
    let next: Next<u64> = serde_json::from_str(lines.next().unwrap_or_default())?;
    Ok((next.next, lines.map(str::to_owned).collect()))
}

fn follow(
    global: &Global,
    (daemon, query, mut from): (&Daemon, &str, u64),
    (interrupts, told): (&mut Interrupts, &Told),
    screen: &mut Screen,
) -> Outcome {
    let mut is_away = false;
    loop {
        if interrupts.wait(ASK_EVERY) {
            return Ok(INTERRUPTED);
        }
        let target = format!("/follow?after={from}&{query}");
        let answer = match daemon.get(target.trim_end_matches('&')) {
            Err(AskError::NotRunning(_) | AskError::Broken { .. }) => {
                if !std::mem::replace(&mut is_away, true) {
                    eprintln!("the daemon went away; asking every second until it is back");
                }
                continue;
            }
            answer => answer?,
        };
        let (next, lines) = followed(&answer)?;
        if std::mem::take(&mut is_away) {
            eprintln!("the daemon is back");
        }
        from = next;
        for line in lines.iter().filter(|line| key(line).is_none_or(|key| !told.keys.contains(&key))) {
            print(global, screen, line)?;
        }
    }
}

fn print(global: &Global, screen: &mut Screen, line: &str) -> Result<(), Failure> {
    if global.json {
        return Ok(screen.line(line)?);
    }
    let seen: Seen = serde_json::from_str(line)?;
    Ok(screen.line(&render(&seen, screen))?)
}

/// `2026-11-21T08:01:14Z  10432  delivered  botpress   attempt 1, ticket 8812, 0.41s   msg_01   conv_9`
fn render(seen: &Seen, screen: &Screen) -> String {
    let tone = match seen.what.as_str() {
        "delivered" => Tone::Good,
        "deferred" | "unknown" | "held" => Tone::Doubtful,
        "dead" | "rejected" | "refused" => Tone::Bad,
        _ => Tone::Dim,
    };
    let id = seen.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let mut facts = Vec::new();
    facts.extend(seen.attempt.map(|attempt| format!("attempt {attempt}")));
    facts.extend(seen.ticket.map(|ticket| format!("ticket {ticket}")));
    facts.extend(seen.took_seconds.map(|took| format!("{took:.2}s")));
    facts.extend(Some(one_line(&seen.reason, 200)).filter(|reason| !reason.is_empty()));
    if ["accepted", "duplicate", "filtered"].contains(&seen.what.as_str()) {
        let named = [("event", &seen.event), ("conversation", &seen.conversation)];
        let named = named.into_iter().filter(|(_, name)| !name.is_empty());
        facts.extend(named.map(|(what, name)| format!("{what} {}", one_line(name, NAME_CHARS_MAX))));
    }
    let what = screen.tone(tone, &format!("{:<9}", seen.what));
    let line = format!("{}  {id:>6}  {what}  {:<10}  {}", seen.at, seen.source, facts.join(", "));
    line.trim_end().to_owned()
}
