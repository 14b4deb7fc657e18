//! `deskspool check`: is this configuration right? Everything by default, `--offline` leaves Freshdesk out.

use super::account::{self, Account, compare};
use super::progress::{Progress, Step};
use super::render::{Screen, Tone};
use super::{FINE, Global, NOT_FINE, Outcome};
use crate::config::check::{Check, Inputs, Occupant, check};
use crate::config::{
    Config, Finding, Severity, SourceConfig, Surroundings, written_for_freshdesk, written_keys,
};
use crate::daemon;
use crate::freshdesk::outcome::{Cause, Outcome as Answer};
use crate::freshdesk::{Client, Desk};
use crate::gate;
use crate::source::preset;
use crate::status::Snapshot;
use clap::Args;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// `deskspool check`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Do not ask Freshdesk
    #[arg(long)]
    offline: bool,
    /// Another file than --config
    file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  deskspool check                              files, secrets, templates, ports, spool, and what Freshdesk knows:
                                               groups, types, statuses, custom fields, what its form requires
  deskspool check --offline                    all but Freshdesk, as the unit does before it starts
  deskspool check --json                       {\"result\":\"ok|skipped|warning|error\",\"key\":…,\"text\":…} per line

Exit codes: 0 valid, 1 an error was found.";

/// What `systemctl enable deskspool.socket` makes: with one of these, systemd passes the socket.
const SOCKET_ENABLED: [&str; 2] = [
    "/etc/systemd/system/deskspool.service.requires/deskspool.socket",
    "/etc/systemd/system/sockets.target.wants/deskspool.socket",
];

/// From so many sources on it is said how far the check is.
const MANY: u64 = 20;

/// Checks and prints.
pub fn run(global: &Global, args: &CheckArgs, screen: &mut Screen) -> Outcome {
    let path = args.file.as_ref().unwrap_or(&global.config);
    let around = Surroundings::of_check();
    let holder = spool_holder(path);
    let occupant = |address: SocketAddr| occupant(address, holder);
    let activated = SOCKET_ENABLED.iter().any(|link| std::fs::symlink_metadata(link).is_ok());
    let far = Far::new(global, path);
    let compile = |name: &str, table: &_, defaults: &_, credentials: &_| {
        far.one_more();
        daemon::compile(name, table, defaults, credentials)
    };
    let inputs = Inputs { path, around: &around, compile: &compile, occupant: &occupant, activated };
    let (mut answer, config) = check(&inputs);
    drop(far);
    match config.filter(|_| !args.offline) {
        Some(config) if answer.credentials_unseen == 0 => ask_freshdesk(global, &config, &mut answer),
        Some(_) => answer.skipped("freshdesk: not asked, systemd passes credentials to the service only"),
        None => {}
    }
    answer.sort();
    if global.json {
        let lines = answer.lines.iter().map(crate::config::check::Line::to_json);
        for line in lines {
            screen.line(&line.to_string())?;
        }
    } else if !(global.quiet && answer.count(Severity::Error) == 0) {
        screen.print(&coloured(&answer.render(), screen))?;
    }
    Ok(if answer.count(Severity::Error) > 0 { NOT_FINE } else { FINE })
}

/// How far the check of many sources is.
struct Far(Option<RefCell<(Progress, u64)>>, u64);

impl Far {
    fn new(global: &Global, path: &Path) -> Far {
        let written = written_keys(path).unwrap_or_default();
        let names = written.iter().filter_map(|one| one.key.strip_prefix("source.")?.split('.').next());
        let total = names.collect::<BTreeSet<_>>().len() as u64;
        let is_long = total >= MANY;
        Far(is_long.then(|| RefCell::new((Progress::new(global, true), 0))), total)
    }

    fn one_more(&self) {
        if let Some(far) = &self.0 {
            let (progress, done) = &mut *far.borrow_mut();
            *done += 1;
            // Who cannot be told learns the end.
            let _ = progress.show(Step { doing: "checking", done: *done, total: Some(self.1) });
        }
    }
}

/// The pid in the lock of this configuration's spool: an address held by it is ours.
fn spool_holder(path: &Path) -> Option<u32> {
    let directory = crate::config::spool_directory(path)?;
    std::fs::read_to_string(directory.join("lock")).ok()?.trim().parse().ok()
}

fn occupant(address: SocketAddr, holder: Option<u32>) -> Occupant {
    let all = gate::holders(address);
    let is_in_unit = || std::env::var_os("INVOCATION_ID").is_some();
    match all.first() {
        // systemd and the daemon that it passed the socket to both have it.
        _ if all.iter().any(|(pid, _)| Some(*pid) == holder) => Occupant::Ours,
        Some((1, name)) if name == "systemd" => Occupant::Systemd,
        Some((pid, name)) => Occupant::Other(Some(format!("pid {pid} ({name})"))),
        None if is_in_unit() => Occupant::Hidden,
        None => Occupant::Other(None),
    }
}

fn ask_freshdesk(global: &Global, config: &Config, answer: &mut Check) {
    let client = match daemon::client(config) {
        Ok(client) => client,
        Err(error) => return answer.found(Finding::error("freshdesk", error.to_string())),
    };
    let host = config.freshdesk.url.split("//").nth(1).unwrap_or(&config.freshdesk.url);
    match client.probe() {
        Ok(agent) => {
            let rate = client.rate();
            let left = match (rate.remaining, rate.total) {
                (Some(remaining), Some(total)) => format!(", {remaining} of {total} calls left"),
                _ => String::new(),
            };
            answer.good(format!("freshdesk: {host} answers, key belongs to {agent:?}{left}"));
            compare_form(config, &client, host, answer);
        }
        Err(Answer::Deferred { cause: Cause::Denied, reason, .. }) => {
            // `freshdesk 401: the key …` is read as a sentence here.
            let reason = reason.trim_start_matches("freshdesk ").replacen(": ", ", ", 1);
            let finding = Finding::error("freshdesk", format!("{host} says {reason}"));
            let waiting = waiting(global).map(|count| format!(" {count} waiting.")).unwrap_or_default();
            answer.found(finding.help(format!(
                "key: Profile settings > View API key. Envelopes wait, nothing is lost.{waiting}"
            )));
        }
        Err(other) => {
            let reason = match other {
                Answer::Deferred { reason, .. }
                | Answer::Rejected { reason }
                | Answer::Unknown { reason } => reason,
                Answer::Delivered { .. } => "answered something else".to_owned(),
            };
            let finding = Finding::error("freshdesk", format!("{host} cannot be asked: {reason}"));
            answer.found(finding.help("without the network: deskspool check --offline"));
        }
    }
}

/// What a running daemon has waiting for Freshdesk.
fn waiting(global: &Global) -> Option<u64> {
    let snapshot: Snapshot = serde_json::from_str(&global.daemon().get("/status").ok()?).ok()?;
    let spool = snapshot.spool;
    Some(spool.queued + spool.in_flight + spool.deferred + spool.held)
}

/// Holds what the admin wrote against the account's ticket form.
fn compare_form(config: &Config, client: &Client, host: &str, answer: &mut Check) {
    let form = match client.ticket_form() {
        Ok(form) => form,
        Err(error) => {
            let reason = match error {
                Answer::Deferred { reason, .. }
                | Answer::Rejected { reason }
                | Answer::Unknown { reason } => reason,
                Answer::Delivered { .. } => String::new(),
            };
            return answer.skipped(format!("ticket form: not compared, {reason}"));
        }
    };
    let fields = |source: &SourceConfig| {
        let preset = source.table.preset.as_ref().and_then(|name| preset(name.get_ref()));
        let fields = preset.map(|preset| account::fields_of_preset(preset.text)).unwrap_or_default();
        (source.name.clone(), fields)
    };
    let sources: Vec<_> = config.sources.iter().map(fields).collect();
    let written = written_for_freshdesk(&config.path);
    let name = host.strip_suffix(".freshdesk.com").unwrap_or(host);
    let compared = compare(&Account { name, form: &form, written: &written, sources: &sources });
    if !compared.good.is_empty() {
        answer.good(account::summary(&compared.good));
    }
    if compared.findings.is_empty() {
        answer.good(format!("ticket form: {} fields, what it requires is filled", form.fields.len()));
    }
    compared.findings.into_iter().for_each(|finding| answer.found_in_account(finding));
}

fn coloured(text: &str, screen: &Screen) -> String {
    let tones =
        [("  ok ", Tone::Good), ("  skip ", Tone::Dim), ("  warn ", Tone::Doubtful), ("  error ", Tone::Bad)];
    let mut coloured = String::new();
    for line in text.split_inclusive('\n') {
        match tones.iter().find(|(head, _)| line.starts_with(head)) {
            Some((head, tone)) => {
                let (word, rest) = line.split_at(head.len());
                coloured.push_str(&screen.tone(*tone, word));
                coloured.push_str(rest);
            }
            None => coloured.push_str(line),
        }
    }
    coloured
}
