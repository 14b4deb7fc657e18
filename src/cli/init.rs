//! `deskspool init`: a first configuration from four questions, or from options where nobody can be asked.
//!
//! Secrets become files that the service reads and nobody else, `{ file = … }`, so that `deskspool check` can try the
//! key, and a new secret needs a reload, not a restart. Nothing that exists is replaced unasked, and a secret that a
//! platform may already know is kept.

mod files;
mod paste;
mod terminal;

use super::render::Screen;
use super::{FINE, Failure, Global, NOT_FINE, Outcome};
use crate::config::Surroundings;
use crate::config::tables::{account_name, desk_address, public_address};
use crate::daemon;
use crate::freshdesk::outcome::{Cause, Outcome as Answer};
use crate::freshdesk::{ApiKey, Client, ClientConfig, Desk};
use crate::source::{Preset, presets};
use anyhow::{Context, anyhow};
use clap::Args;
use files::Home;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;
use terminal::Asked;

/// How often a key may be wrong.
const KEYS_MAX: usize = 3;
/// How long the key's test may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Interrupted.
const INTERRUPTED: u8 = 130;

/// `deskspool init`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// acme, of acme.freshdesk.com
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Instead of --domain: a stand-in, as of `deskspool sandbox`
    #[arg(long, conflicts_with = "domain")]
    url: Option<String>,
    /// Where Freshdesk's API key is; - for standard input
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// The environment variable that has the key
    #[arg(long, value_name = "NAME", conflicts_with = "api_key_file")]
    api_key_env: Option<String>,
    /// A platform, or NAME=PLATFORM; may be repeated
    #[arg(long = "source", value_name = "PLATFORM")]
    platforms: Vec<String>,
    /// NAME=FILE: the secret that a platform made, as Stripe does; may be repeated
    #[arg(long = "secret-file", value_name = "NAME=FILE")]
    secret_files: Vec<String>,
    /// What platforms will call before /in/…: https://hooks.acme.com
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Where events are kept [default: /var/lib/deskspool]
    #[arg(long, value_name = "PATH")]
    spool: Option<PathBuf>,
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
    /// Replace a configuration that is there; it is kept with .old behind its name
    #[arg(long)]
    force: bool,
    /// Do not try the key
    #[arg(long)]
    offline: bool,
}

const EXAMPLES: &str = "\
Examples:
  sudo deskspool init                          asks four questions
  deskspool init --yes --domain acme --api-key-file /root/key --source sendpulse --source shop=generic \\
      --public-url https://hooks.acme.com
  pass show freshdesk | deskspool init --yes --domain acme --api-key-file - --source contako
  deskspool --config ./try.toml init --url http://127.0.0.1:8090 --spool ./spool     with deskspool sandbox

It tries the key, writes the configuration and a file for each secret beside it, and prints what to paste into
each platform. The key is never an argument: everybody on a machine can read those.
--json: {\"config\":…,\"secrets\":[…],\"key\":…,\"sources\":[{\"name\":…,\"preset\":…,\"url\":…,\"secret_file\":…}]}.";

/// What the questions came to.
struct Answers {
    /// `domain = "acme"` or `url = "…"`, as it stands in the file.
    desk: (&'static str, String),
    api_key: String,
    /// What the test of the key came to.
    tested: String,
    sources: Vec<Chosen>,
    public_url: Option<String>,
    spool: Option<PathBuf>,
}

/// A source that was asked for.
struct Chosen {
    name: String,
    preset: &'static Preset,
    secret: String,
    /// What it asks with before it posts.
    verify_token: Option<String>,
    /// The platform makes the secret, and nobody told it yet.
    is_secret_missing: bool,
}

/// Asks, tries, writes, tells.
pub fn run(global: &Global, args: &InitArgs, screen: &mut Screen) -> Outcome {
    let asks = !args.yes && std::io::stdin().is_terminal();
    if !asks && !args.yes {
        return Err(Failure::Usage(
            "nobody can be asked: add --yes, and say --domain, --api-key-file and --source".to_owned(),
        ));
    }
    let home = Home::of(&global.config)?;
    if !may_replace(&home, args, asks)? {
        return Ok(NOT_FINE);
    }
    let answers = match answers(args, asks, &home)? {
        Asked::Said(answers) => answers,
        Asked::Interrupted => return Ok(INTERRUPTED),
    };
    let secrets = files::write(&home, &answers)?;
    if let Err(findings) = daemon::load(&home.config, &Surroundings::of_process()) {
        eprint!("{}", daemon::lines(&findings));
        return Ok(NOT_FINE);
    }
    if global.json {
        screen.line(&paste::as_json(&home, &answers, &secrets).to_string())?;
    } else {
        screen.print(&paste::render(&home, &answers, secrets.len()))?;
    }
    Ok(FINE)
}

/// A configuration that is there stays, unless somebody says otherwise.
fn may_replace(home: &Home, args: &InitArgs, asks: bool) -> Result<bool, Failure> {
    if !home.config.exists() || args.force {
        return Ok(true);
    }
    let shown = home.config.display();
    if !asks {
        eprintln!("error: {shown} is there already");
        eprintln!("   = replace it, and keep it as {shown}.old:  deskspool init --force …");
        return Ok(false);
    }
    let question = format!("{shown} is there already. Replace it, and keep it as {shown}.old? [y/N] ");
    let answer = terminal::line(&question)?;
    Ok(matches!(answer.as_deref(), Some("y" | "Y" | "yes")))
}

fn answers(args: &InitArgs, asks: bool, home: &Home) -> Result<Asked<Answers>, Failure> {
    let desk = desk(args, asks)?;
    let (api_key, tested) = match api_key(args, asks, &desk)? {
        Asked::Said(both) => both,
        Asked::Interrupted => return Ok(Asked::Interrupted),
    };
    let named = platforms(args, asks)?;
    let public_url = public_url(args, asks)?;
    let mut sources = Vec::new();
    for (name, preset) in named {
        match secrets(args, (asks, home), name, preset)? {
            Asked::Said(chosen) => sources.push(chosen),
            Asked::Interrupted => return Ok(Asked::Interrupted),
        }
    }
    let spool = args.spool.as_deref().map(std::path::absolute).transpose()?;
    Ok(Asked::Said(Answers { desk, api_key, tested, sources, public_url, spool }))
}

/// The option's text, or the answer to the question; again until it is understood, or the option's fault is told.
fn until_good<T>(
    said: Option<&str>,
    asks: bool,
    question: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    if let Some(said) = said {
        return read(said).map_err(Failure::Usage);
    }
    if !asks {
        return read("").map_err(Failure::Usage);
    }
    loop {
        let line = terminal::line(question)?.ok_or_else(|| anyhow!("the questions were not answered"))?;
        match read(&line) {
            Ok(value) => return Ok(value),
            Err(fault) => eprintln!("  {fault}"),
        }
    }
}

fn desk(args: &InitArgs, asks: bool) -> Result<(&'static str, String), Failure> {
    if let Some(url) = &args.url {
        let expected = "--url: expected https://host or, to this machine only, http://127.0.0.1:8090";
        return desk_address(url).map(|url| ("url", url)).ok_or_else(|| Failure::Usage(expected.to_owned()));
    }
    let read = |text: &str| match account_name(text) {
        Some(name) => Ok(("domain", name)),
        None if text.is_empty() => Err("--domain is missing: acme, of acme.freshdesk.com".to_owned()),
        None => Err("expected acme, acme.freshdesk.com or https://acme.freshdesk.com".to_owned()),
    };
    until_good(args.domain.as_deref(), asks, "Freshdesk domain (acme for acme.freshdesk.com): ", read)
}

/// The key and what its test came to. One that Freshdesk does not know is not taken.
fn api_key(args: &InitArgs, asks: bool, desk: &(&str, String)) -> Result<Asked<(String, String)>, Failure> {
    let said = said_key(args)?;
    if said.is_none() && !asks {
        return Err(Failure::Usage(
            "the key is missing: --api-key-file FILE (- for standard input)".to_owned(),
        ));
    }
    for left in (0..KEYS_MAX).rev() {
        let key = match &said {
            Some(key) => key.clone(),
            None => match terminal::hidden("Freshdesk API key (hidden): ")? {
                Asked::Said(key) => key,
                Asked::Interrupted => return Ok(Asked::Interrupted),
            },
        };
        match test(args, desk, &key) {
            Ok(tested) => {
                eprintln!("  {tested}");
                return Ok(Asked::Said((key, tested)));
            }
            Err(fault) if said.is_some() || left == 0 => return Err(anyhow!(fault).into()),
            Err(fault) => eprintln!("  {fault}"),
        }
    }
    Err(anyhow!("no key").into())
}

fn said_key(args: &InitArgs) -> Result<Option<String>, Failure> {
    let text = match (&args.api_key_file, &args.api_key_env) {
        (Some(path), _) if path.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input")?;
            text
        }
        (Some(path), _) => std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
        (None, Some(name)) => {
            std::env::var(name).map_err(|_| Failure::Usage(format!("{name} is not set")))?
        }
        (None, None) => return Ok(None),
    };
    match text.trim() {
        "" => Err(Failure::Usage("the key is empty".to_owned())),
        key => Ok(Some(key.to_owned())),
    }
}

/// What is known of the key, or why it is not taken.
fn test(args: &InitArgs, (word, desk): &(&str, String), key: &str) -> Result<String, String> {
    if args.offline {
        return Ok("not tested".to_owned());
    }
    let url = if *word == "url" { desk.clone() } else { format!("https://{desk}.freshdesk.com") };
    let config = ClientConfig {
        url,
        api_key: ApiKey::from(key.to_owned()),
        timeout: TIMEOUT,
        marker_field: None,
        ca_file: None,
        proxy: None,
    };
    let client = Client::new(config).map_err(|error| error.to_string())?;
    match client.probe() {
        Ok(agent) => {
            let rate = client.rate();
            let left = match (rate.remaining, rate.total) {
                (Some(remaining), Some(total)) => format!(", {remaining} of {total} calls left"),
                _ => String::new(),
            };
            Ok(format!("ok, {agent:?}{left}"))
        }
        Err(Answer::Deferred { cause: Cause::Denied, reason, .. }) => {
            Err(format!("{reason}. Profile settings > View API key shows it"))
        }
        Err(Answer::Deferred { reason, .. } | Answer::Rejected { reason } | Answer::Unknown { reason }) => {
            Ok(format!("could not be tested ({reason}); `deskspool check` does it later"))
        }
        Err(Answer::Delivered { .. }) => Ok("could not be tested".to_owned()),
    }
}

fn platforms(args: &InitArgs, asks: bool) -> Result<Vec<(String, &'static Preset)>, Failure> {
    let names: Vec<&str> = presets().iter().map(|preset| platform_of(preset.name)).collect();
    let read = |text: &str| {
        let words = text.split([' ', ',']).filter(|word| !word.is_empty());
        let chosen: Vec<_> = words.map(|word| platform(word, &names)).collect::<Result<_, _>>()?;
        let is_twice =
            |(at, (name, _)): (usize, &(String, _))| chosen[..at].iter().any(|(other, _)| other == name);
        match chosen.iter().enumerate().find(|one| is_twice((one.0, one.1))) {
            _ if chosen.is_empty() => Err(format!("name at least one platform: {}", names.join(" "))),
            Some((_, (name, _))) => Err(format!("{name} is there twice; say another name: {name}-2={name}")),
            None => Ok(chosen),
        }
    };
    let said = (!args.platforms.is_empty()).then(|| args.platforms.join(" "));
    let question = format!("Which platforms? {}: ", names.join(" "));
    until_good(said.as_deref(), asks, &question, read)
}

/// `sendpulse` of `sendpulse@1`.
fn platform_of(preset: &str) -> &str {
    preset.split('@').next().unwrap_or(preset)
}

/// `sendpulse`, `shop=generic`, `shop=generic@1`.
fn platform(word: &str, names: &[&str]) -> Result<(String, &'static Preset), String> {
    let (name, preset) = word.split_once('=').unwrap_or((platform_of(word), word));
    if !crate::config::is_source_name(name) {
        return Err(format!("{name:?} is not a name for a source: a-z, 0-9, - and _, at most 32 characters"));
    }
    let found = super::preset::latest(preset);
    let preset = found.ok_or_else(|| format!("there is no {preset:?}; there are {}", names.join(" ")))?;
    Ok((name.to_owned(), preset))
}

fn public_url(args: &InitArgs, asks: bool) -> Result<Option<String>, Failure> {
    let read = |text: &str| match (text, public_address(text)) {
        ("", _) => Ok(None),
        (_, None) => Err("expected an address like https://hooks.acme.com".to_owned()),
        (_, url) => Ok(url),
    };
    let question = "Public URL of this host (for the instructions): ";
    until_good(args.public_url.as_deref(), asks, question, read)
}

/// What the platform and we will know: what is there already, what it made, or a new one.
fn secrets(
    args: &InitArgs,
    (asks, home): (bool, &Home),
    name: String,
    preset: &'static Preset,
) -> Result<Asked<Chosen>, Failure> {
    let said = args.secret_files.iter().find_map(|one| one.strip_prefix(&format!("{name}=")));
    let mut secret = match said {
        Some(path) => Some(std::fs::read_to_string(path).with_context(|| path.to_owned())?.trim().to_owned()),
        None => home.existing(&name),
    };
    if secret.is_none() && asks && preset.is_secret_theirs() {
        match terminal::hidden(&format!("The secret that {name} shows (hidden; empty: later): "))? {
            Asked::Said(said) => secret = Some(said).filter(|said| !said.is_empty()),
            Asked::Interrupted => return Ok(Asked::Interrupted),
        }
    }
    // Whoever asks for a token before it posts says so in what it tells people to do.
    let asks_first = preset.guide().contains("verify_token");
    let token = match asks_first {
        true => Some(home.existing(&format!("{name}_verify")).map_or_else(files::random, Ok)?),
        false => None,
    };
    let is_secret_missing = secret.is_none() && preset.is_secret_theirs();
    let secret = secret.map_or_else(files::random, Ok)?;
    Ok(Asked::Said(Chosen { name, preset, secret, verify_token: token, is_secret_missing }))
}
