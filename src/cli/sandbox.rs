//! `deskspool sandbox`: a local stand-in for Freshdesk, in the foreground until Ctrl-C.

use crate::sandbox::{Options, Plan, Sandbox, Script};
use anyhow::{Context, Result};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::path::PathBuf;

/// The arguments of `deskspool sandbox`.
#[derive(Args, Clone, Debug)]
#[command(
    about = "A local stand-in for Freshdesk, with a page that shows the tickets",
    long_about = "A local stand-in for the Freshdesk API v2, with a page that shows the tickets as an agent would \
                  see them. It listens on 127.0.0.1 only and keeps everything in memory: when it ends, all is gone.",
    after_long_help = FAULT_FILE
)]
pub struct SandboxArgs {
    /// Port of the API and the page; 0 takes any free one
    #[arg(long, default_value_t = 8090)]
    pub port: u16,
    /// A second port for the page and the control path, up even while the API is down
    #[arg(long, value_name = "PORT")]
    pub control_port: Option<u16>,
    /// The API key that is accepted
    #[arg(long, default_value = "sandbox-key")]
    pub key: String,
    /// Rate limits: trial, growth, pro, enterprise, unlimited
    #[arg(long, default_value = "trial", value_parser = plan)]
    pub plan: Plan,
    /// What goes wrong, and the account's form: TOML, or JSON when the name ends in .json
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Where to write all tickets and contacts as JSON at the end
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
}

const FAULT_FILE: &str = "\
Examples:
  deskspool sandbox                            on port 8090, with the key sandbox-key
  deskspool sandbox --faults ./bad-day.toml    with what goes wrong
  deskspool sandbox --plan growth --state ./tickets.json

The fault file:
  [knobs]                          # what Freshdesk leaves open; GET /_sandbox/knobs shows all
  list_delay_s = 5

  [form]                           # groups, products, agents, ticket_types, custom_fields …
  required_for_agents = [\"subject\", \"description\", \"type\"]

  [[fault]]                        # every fifth new ticket is stored, and the answer is a reset
  effect = \"commit_then_reset\"
  method = \"POST\"
  path   = \"/api/v2/tickets\"       # without the query; * is one segment, ** is anything
  every  = 5

  [[fault]]                        # the first three calls meet the balancer's error page
  effect = \"status\"
  status = 503
  body   = \"html\"                  # json (default), html, empty
  first  = 3

  A fault picks requests by: method, path, after (not the first n), every (nth), first (n),
  times (hits at most), probability with seed. The first one that fires decides.

  effect                their own keys
  refuse                none, and no method or path: closes connections as they come
  reset_before_reading  none: nothing is done
  commit_then_reset     none: the write is done
  stall                 hold_s (3600), commit (false)
  status                status, body, retry_after (seconds), commit (false)
  wrong_key             none: 401
  truncated_json        location (true): the write is done, half of the answer comes
  garbage_200           commit (false): 200 with somebody's HTML page
  slow                  delay_ms: the write is done late, even if the client has left

While it runs:
  curl -X POST   127.0.0.1:8090/_sandbox/faults -d '{\"effect\": \"status\", \"status\": 500, \"times\": 3}'
  curl -X DELETE 127.0.0.1:8090/_sandbox/faults
  curl -X POST   127.0.0.1:8090/_sandbox/knobs -d '{\"list_includes_tags\": false}'
  curl           127.0.0.1:8090/_sandbox/state        (also: requests, faults, knobs)
  curl -X POST   127.0.0.1:8091/_sandbox/down -d '{\"down\": true}'       (with --control-port 8091)";

fn plan(name: &str) -> Result<Plan, String> {
    let names = Plan::ALL.map(|plan| plan.name).join(", ");
    Plan::named(name).ok_or_else(|| format!("there are {names}"))
}

/// Serves until SIGINT or SIGTERM.
pub fn run(args: &SandboxArgs) -> Result<()> {
    // Before anything is served, so that no signal is missed once the address is printed.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot wait for signals")?;
    let mut desk = start(args)?;
    tell(&welcome(&desk, args))?;
    signals.forever().next();
    let tickets = desk.tickets().len();
    desk.stop();
    if let Some(path) = &args.state {
        let state = serde_json::json!({"tickets": desk.tickets(), "contacts": desk.contacts()});
        let write = std::fs::write(path, format!("{state:#}\n"));
        write.with_context(|| format!("cannot write {}", path.display()))?;
    }
    tell(&format!(
        "stopped, {tickets} tickets {}\n",
        if args.state.is_some() { "written" } else { "forgotten" }
    ))
}

fn start(args: &SandboxArgs) -> Result<Sandbox> {
    let script = match &args.faults {
        Some(path) => Script::read(path).with_context(|| format!("cannot use {}", path.display()))?,
        None => Script::default(),
    };
    let options = Options {
        port: args.port,
        control_port: args.control_port,
        key: args.key.clone(),
        plan: args.plan,
        knobs: script.knobs,
        form: script.form,
        faults: script.faults,
        ..Options::default()
    };
    Sandbox::start(options).with_context(|| format!("cannot listen on 127.0.0.1:{}", args.port))
}

fn welcome(desk: &Sandbox, args: &SandboxArgs) -> String {
    let url = desk.url();
    let limit = match args.plan {
        Plan::UNLIMITED => "no rate limit".to_owned(),
        plan => format!("{} calls per minute ({})", plan.total, plan.name),
    };
    let control = desk.control_address();
    let control =
        control.map_or_else(String::new, |address| format!("  control  http://{address}/_sandbox/\n"));
    format!(
        "A stand-in for Freshdesk, in memory: {limit}\n\n  page     {url}/\n  API      {url}/api/v2/\n{control}\n\
         In deskspool.toml:\n\n  [freshdesk]\n  url     = \"{url}\"\n  api_key = {}\n\nCtrl-C stops it.\n",
        serde_json::Value::from(args.key.as_str())
    )
}

/// Prints; a reader who has left is no reason to stop serving.
fn tell(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        sandbox: SandboxArgs,
    }

    fn args(line: &[&str]) -> Result<SandboxArgs, String> {
        let words = std::iter::once("sandbox").chain(line.iter().copied());
        Line::try_parse_from(words).map(|line| line.sandbox).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_have_defaults_and_are_checked() {
        let plain = args(&[]).unwrap();
        let seen = (plain.port, plain.control_port, plain.key.as_str(), plain.plan);
        assert_eq!(seen, (8090, None, "sandbox-key", Plan::TRIAL));
        assert!(args(&["--plan", "gold"]).unwrap_err().contains("trial, growth, pro, enterprise, unlimited"));
    }

    #[test]
    fn the_welcome_can_be_pasted_into_a_configuration() {
        let args =
            args(&["--port", "0", "--control-port", "0", "--key", "k\"1", "--plan", "growth"]).unwrap();
        let desk = start(&args).unwrap();
        let text = welcome(&desk, &args);
        let (_, toml) = text.split_once("In deskspool.toml:\n").unwrap();
        let toml: toml::Table = toml::from_str(toml.split_once("Ctrl-C").unwrap().0).unwrap();
        let table = toml["freshdesk"].as_table().unwrap();
        assert_eq!(
            (table["url"].as_str(), table["api_key"].as_str()),
            (Some(desk.url().as_str()), Some("k\"1"))
        );
        assert!(text.contains("200 calls per minute (growth)"), "{text}");
        assert!(text.contains(&format!("http://{}/_sandbox/", desk.control_address().unwrap())), "{text}");
    }

    #[test]
    fn the_file_in_the_help_is_a_good_one() {
        let file =
            FAULT_FILE.split_once("A fault picks").unwrap().0.split_once("The fault file:\n").unwrap().1;
        let script = Script::from_toml(file).unwrap();
        assert_eq!((script.faults.len(), script.knobs.list_delay_s), (2, 5));
    }

    #[test]
    fn a_broken_file_is_named_with_its_fault() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("faults.toml");
        std::fs::write(&path, "[[fault]]\neffect = \"explode\"\n").unwrap();
        let args = args(&["--port", "0", "--faults", path.to_str().unwrap()]).unwrap();
        let error = format!("{:#}", start(&args).err().unwrap());
        assert!(error.contains("faults.toml") && error.contains("unknown effect \"explode\""), "{error}");
    }
}
