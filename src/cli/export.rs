//! `deskspool export` and `import`: from one host to another, or into a file, line by line.

use super::progress::{INTERRUPTED, Interrupts, Progress, Step};
use super::render::Screen;
use super::{FINE, Failure, FilterArgs, Global, NOT_FINE, Outcome};
use crate::control::client::{AskError, Daemon};
use crate::control::import::Brought;
use crate::control::wire::{End, Head, Line};
use crate::status::Snapshot;
use anyhow::{Context, anyhow};
use clap::Args;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// A request ends when it has grown to this; one line more may be in it.
const REQUEST_BYTES: usize = 1 << 20;
const REQUEST_LINES: u64 = 1000;
/// No event is that long.
const LINE_BYTES_MAX: u64 = 100 << 20;

/// `deskspool export`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
}

/// `deskspool import`.
#[derive(Args, Clone, Debug)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct ImportArgs {
    /// What export wrote; - reads standard input
    file: String,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  deskspool export > spool.jsonl               everything that is not settled (customer data: keep it safe)
  deskspool pause intake; deskspool pause delivery; deskspool export | ssh new deskspool import -
  deskspool export --source contako --state dead > dead.jsonl
  deskspool export --state delivered           history, for people: it is not imported

A host that goes on delivering delivers what the other one delivers, too: pause delivery or stop the
daemon before. Without a daemon the spool itself is read. privacy.redact hides nothing here.
One object per line, by its \"type\":
  head          format, version, spool (its identity), exported_at, waiting
  conversation  conversation (hash), ticket, used_ms; only without filters
  envelope      id, origin {spool,id}, state, reason, source, kind, event, conversation, received_at,
                received_ms, peer, dedupe (hash), dedupe_seconds, context, body or body_base64, born_dead,
                due_ms, attempts, step, ticket, opened, doubt {since_ms,looks,ticket}, tries [{number,
                at_ms,took_ms,ended,reason}], held_until_ms, conversation_ticket, conversation_used_ms
  settled       id, state, source, kind, event, conversation, received_at, settled_at, ticket, tries
  unreadable    id, source, reason: its text is lost
  identity      identity (hash), until_ms: an event the platform may send again; only without filters
  end           envelopes: how many; a file without it was cut off
Exit codes: 0 done, 1 something is unreadable, 2 usage, 3 neither daemon nor spool can be read, 130 interrupted.";

const IMPORT_EXAMPLES: &str = "\
Examples:
  deskspool import spool.jsonl
  ssh old deskspool export | deskspool import -

Whatever is imported how often, or cut off halfway, has one effect: what is here already is passed over.
Envelopes get new numbers (show tells the old one as origin), and stay as they were: dead stays dead,
held stays held, and what may have been sent already is looked for in Freshdesk before it is sent.
Conversations keep their tickets.
--json: progress objects, then {\"imported\":N,\"known\":N,\"passed_over\":N,\"conversations\":N,\"identities\":N}
Exit codes: 0 all is here, 1 a part is missing (repeat it), 2 usage, 3 daemon not reachable, 130 interrupted.";

/// The last line of a page.
#[derive(Deserialize)]
struct Next {
    next: Option<String>,
    began: u64,
}

/// Prints everything.
pub fn export(global: &Global, args: &ExportArgs) -> Outcome {
    args.filter.filter()?;
    let mut answerer = global.answerer();
    let (mut out, mut progress) = (BufWriter::new(io::stdout().lock()), Progress::new(global, true));
    let (mut counted, mut target) = (Counted::default(), format!("/export?{}", args.filter.query()));
    loop {
        let page = answerer.get(&target)?;
        let mut lines = page.lines().peekable();
        let mut last = None;
        while let Some(line) = lines.next() {
            if lines.peek().is_none() {
                last = Some(serde_json::from_str::<Next>(line)?);
            } else {
                counted.count(line);
                writeln!(out, "{line}")?;
            }
        }
        progress.show(counted.step("exporting"))?;
        let Some(Next { next: Some(at), began }) = last else { break };
        let place = form_urlencoded::Serializer::new(String::new())
            .append_pair("at", &at)
            .append_pair("began", &began.to_string())
            .finish();
        target = format!("/export?{place}&{}", args.filter.query());
        target.truncate(target.trim_end_matches('&').len());
    }
    let end = Line::End(End { envelopes: counted.envelopes });
    writeln!(out, "{}", serde_json::to_string(&end)?)?;
    out.flush()?;
    progress.clear();
    if !answerer.is_at_rest() && !global.quiet {
        warn_of_delivery(&answerer.get("/status")?, counted.envelopes)?;
    }
    if counted.unreadable > 0 {
        eprintln!("error: the text of {} envelopes is lost and not exported", counted.unreadable);
        return Ok(NOT_FINE);
    }
    Ok(FINE)
}

/// Two hosts that deliver the same are two tickets.
fn warn_of_delivery(status: &str, envelopes: u64) -> Result<(), Failure> {
    let snapshot: Snapshot = serde_json::from_str(status)?;
    let waits = snapshot.spool.queued + snapshot.spool.deferred + snapshot.spool.in_flight > 0;
    if snapshot.delivery.paused.is_none() && waits && envelopes > 0 {
        eprintln!("warning: this host goes on delivering what was exported");
        eprintln!("   = if another host imports it: deskspool pause delivery, and export again");
    }
    Ok(())
}

#[derive(Default)]
struct Counted {
    envelopes: u64,
    unreadable: u64,
    total: Option<u64>,
}

impl Counted {
    fn count(&mut self, line: &str) {
        // Types are written first.
        if line.starts_with("{\"type\":\"envelope\"") {
            self.envelopes += 1;
        } else if line.starts_with("{\"type\":\"unreadable\"") {
            self.unreadable += 1;
        } else if line.starts_with("{\"type\":\"head\"") {
            self.total = serde_json::from_str::<Head>(line).ok().map(|head| head.waiting);
        }
    }

    fn step<'a>(&self, doing: &'a str) -> Step<'a> {
        Step { doing, done: self.envelopes, total: self.total.filter(|total| *total >= self.envelopes) }
    }
}

/// Hands a file to the daemon.
pub fn import(global: &Global, args: &ImportArgs, screen: &mut Screen) -> Outcome {
    let mut source: Box<dyn BufRead> = match args.file.as_str() {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(BufReader::new(File::open(path).with_context(|| path.to_owned())?)),
    };
    let mut importing = Importing {
        daemon: global.daemon(),
        interrupts: Interrupts::catch()?,
        progress: Progress::new(global, false),
        counted: Counted::default(),
        brought: Brought::default(),
        request: String::new(),
        first: 1,
        lines: 0,
        ended: false,
    };
    let went = importing.all(&mut *source);
    importing.progress.clear();
    let Importing { brought, ended, counted, .. } = importing;
    let is_interrupted = matches!(went, Ok(true));
    if global.json {
        screen.line(&serde_json::to_string(&brought)?)?;
    } else if !global.quiet {
        screen.line(&sentence(&brought))?;
    }
    went?;
    if is_interrupted {
        eprintln!("interrupted: import it again, what is here already is passed over");
        return Ok(INTERRUPTED);
    }
    if !ended {
        eprintln!(
            "error: {} was cut off after {} envelopes: its last line is missing",
            name(&args.file),
            counted.envelopes
        );
        eprintln!("   = export and import it again, what is here already is passed over");
        return Ok(NOT_FINE);
    }
    Ok(FINE)
}

fn name(file: &str) -> &str {
    if file == "-" {
        "standard input"
    } else {
        Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(file)
    }
}

fn sentence(brought: &Brought) -> String {
    let mut parts = vec![format!("{} envelopes imported", brought.imported)];
    let mut more = |count: u64, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    more(brought.known, "were here already");
    more(brought.conversations, "tickets of conversations learned");
    more(brought.identities, "identities of events learned");
    more(brought.passed_over, "lines passed over");
    let next = if brought.imported > 0 { ". Watch: deskspool status --watch" } else { "" };
    parts.join(", ") + next
}

/// A file on its way to the daemon.
struct Importing {
    daemon: Daemon,
    interrupts: Interrupts,
    progress: Progress,
    counted: Counted,
    brought: Brought,
    request: String,
    /// Number of the request's first line.
    first: u64,
    lines: u64,
    ended: bool,
}

impl Importing {
    /// Whether it was interrupted.
    fn all(&mut self, source: &mut dyn BufRead) -> Result<bool, Failure> {
        // Whoever feeds us shall know at once that nobody is here.
        self.daemon.get("/status")?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = io::Read::take(&mut *source, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            let number = self.first + self.lines;
            if read as u64 == LINE_BYTES_MAX {
                return Err(anyhow!("line {number}: longer than {LINE_BYTES_MAX} bytes").into());
            }
            let is_whole = line.last() == Some(&b'\n');
            if is_whole {
                let text = std::str::from_utf8(&line).map_err(|_| anyhow!("line {number}: not UTF-8"))?;
                self.counted.count(text.trim_end());
                self.ended |= text.starts_with("{\"type\":\"end\"");
                self.request.push_str(text);
                self.lines += 1;
            }
            // What was cut off in the middle of a line is no line.
            let is_over = !is_whole;
            if is_over || self.request.len() >= REQUEST_BYTES || self.lines >= REQUEST_LINES {
                self.send()?;
                self.progress.show(self.counted.step("importing"))?;
                if self.interrupts.wait(Duration::ZERO) {
                    return Ok(true);
                }
            }
            if is_over {
                return Ok(false);
            }
        }
    }

    fn send(&mut self) -> Result<(), Failure> {
        let target = format!("/import?line={}", self.first);
        let answer = match self.daemon.post(&target, &self.request) {
            Err(AskError::Refused { status: 409, reason }) => {
                return Err(
                    anyhow!("{reason}; what is here already stays: make room and import it again").into()
                );
            }
            answer => answer?,
        };
        self.brought.add(&serde_json::from_str(&answer)?);
        self.first += std::mem::take(&mut self.lines);
        self.request.clear();
        Ok(())
    }
}
