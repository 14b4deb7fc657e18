//! `deskspool demo`: daemon, sandbox and sample events on this machine alone. It stays up until Ctrl-C and
//! leaves nothing behind.

use super::render::{numbers, one_line, table, words};
use super::{FINE, Outcome};
use crate::clock::SystemClock;
use crate::config::Surroundings;
use crate::daemon::{self, Daemon, Places};
use crate::sandbox::{Options, Plan, Sandbox, TicketView};
use crate::systemd::sockets::Sockets;
use anyhow::{Context, bail};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// `deskspool demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// End as soon as the tickets are there, instead of at Ctrl-C
    #[arg(long)]
    once: bool,
}

/// Far more than the demo needs, even on a slow router.
const PATIENCE: Duration = Duration::from_secs(60);
const PAGE_PORT: u16 = 8090;
const KEY: &str = "demo-key";
const SENDPULSE: &str = "/in/sendpulse?token=demo-token";

/// One request of a platform.
struct Sample {
    what: &'static str,
    target: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

const SAMPLES: &[Sample] = &[
    Sample {
        what: "SendPulse: Ana writes on WhatsApp",
        target: SENDPULSE,
        headers: &[JSON],
        body: include_str!("demo/sendpulse-1.json"),
    },
    Sample {
        what: "SendPulse: the same request again, with the form header of its documentation",
        target: SENDPULSE,
        headers: &[FORM],
        body: include_str!("demo/sendpulse-1.json"),
    },
    Sample {
        what: "SendPulse: Ana's second message",
        target: SENDPULSE,
        headers: &[FORM],
        body: include_str!("demo/sendpulse-2.json"),
    },
    Sample {
        what: "SendPulse: one request with two events, a chat opened and a new subscriber",
        target: SENDPULSE,
        headers: &[JSON],
        body: include_str!("demo/sendpulse-3.json"),
    },
    Sample {
        what: "Botpress: the bot hands Lucía over",
        target: "/in/botpress",
        headers: &[JSON, ("x-bp-secret", "demo-secret")],
        body: include_str!("demo/botpress.json"),
    },
    Sample {
        what: "Somebody without the secret",
        target: "/in/botpress",
        headers: &[JSON],
        body: include_str!("demo/botpress.json"),
    },
];
/// What the samples come to.
const TICKETS: usize = 3;
const NOTES: usize = 1;

/// Everything the demo made on disk; gone when it ends, however it ends.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> anyhow::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("deskspool-demo-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}

/// Runs the demo.
pub fn run(args: &DemoArgs) -> Outcome {
    // Before any thread is started, so that Ctrl-C is ours.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("signals cannot be received")?;
    let scratch = Scratch::new()?;
    let sandbox = start_sandbox()?;
    let daemon = start_daemon(&scratch.path, &sandbox)?;
    let address = *daemon.addresses().first().context("the daemon listens nowhere")?;
    println!("deskspool demo: a daemon on {address}, a stand-in for Freshdesk on {}\n", sandbox.address());
    for sample in SAMPLES {
        let status = post(address, sample)?;
        println!(
            "  POST {:<14} → {status}   {}",
            sample.target.split('?').next().unwrap_or_default(),
            sample.what
        );
    }
    let complete =
        sandbox.wait_until(PATIENCE, |state| state.ticket_count() >= TICKETS && state.note_count() >= NOTES);
    let tickets = sandbox.tickets();
    println!("\n{}", ticket_table(&tickets));
    if !complete {
        bail_incomplete(tickets.len())?;
    }
    if !args.once {
        println!(
            "look at them as an agent would: {}/     Ctrl-C ends it and leaves nothing behind",
            sandbox.url()
        );
        if let Some(page) = daemon.page_addresses().first() {
            println!("and at the daemon as an admin would: http://{page}/");
        }
        signals.forever().next();
        println!();
    }
    daemon.stop();
    drop(daemon);
    drop(sandbox);
    drop(scratch);
    Ok(FINE)
}

fn bail_incomplete(tickets: usize) -> anyhow::Result<()> {
    bail!("only {tickets} of {TICKETS} tickets after {}s", PATIENCE.as_secs())
}

fn start_sandbox() -> anyhow::Result<Sandbox> {
    let options = |port| Options { port, key: KEY.to_owned(), plan: Plan::TRIAL, ..Options::default() };
    // The port that the documentation names, if nobody has it.
    Sandbox::start(options(PAGE_PORT))
        .or_else(|_| Sandbox::start(options(0)))
        .context("the sandbox does not start")
}

fn start_daemon(directory: &Path, sandbox: &Sandbox) -> anyhow::Result<Arc<Daemon>> {
    let config = directory.join("deskspool.toml");
    let text = format!(
        "[freshdesk]\nurl = {:?}\napi_key = {KEY:?}\n\n\
         [server]\nlisten = \"127.0.0.1:0\"\n\n\
         [status_page]\nlisten = \"127.0.0.1:0\"\n\n\
         [spool]\ndir = {:?}\ndisk_free_min = \"1MiB\"\n\n\
         [source.sendpulse]\npreset = \"sendpulse@1\"\nsecret = \"demo-token\"\n\n\
         [source.botpress]\npreset = \"botpress@1\"\nsecret = \"demo-secret\"\n",
        sandbox.url(),
        directory.join("spool").display().to_string(),
    );
    std::fs::write(&config, text).context("the demo's configuration cannot be written")?;
    let loaded = daemon::load(&config, &Surroundings::of_process());
    let loaded = loaded
        .map_err(|findings| anyhow::anyhow!("the demo's configuration\n{}", daemon::lines(&findings)))?;
    let places = Places {
        control: directory.join("control.sock"),
        private: directory.join("gate"),
        probe: None,
        passed: Sockets::default(),
    };
    let (daemon, _) =
        Daemon::start(loaded, &places, SystemClock::new(), |why| eprintln!("the daemon broke: {why}"))?;
    Ok(daemon)
}

/// Posts as a platform does, over real HTTP; the status of the answer.
fn post(address: SocketAddr, sample: &Sample) -> anyhow::Result<String> {
    let mut request = format!("POST {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n", sample.target);
    for (name, value) in sample.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = sample.body.trim_end();
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    let mut stream = TcpStream::connect(address).context("the daemon cannot be reached")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("the daemon does not answer")?;
    let head = String::from_utf8_lossy(&answer);
    let line = head.lines().next().unwrap_or_default();
    Ok(line.strip_prefix("HTTP/1.1 ").unwrap_or(line).to_owned())
}

fn ticket_table(tickets: &[TicketView]) -> String {
    let columns = [numbers("TICKET"), words("REQUESTER"), words("SUBJECT"), numbers("NOTES"), words("TAGS")];
    let rows = tickets.iter().map(|ticket| {
        vec![
            ticket.id.to_string(),
            ticket.requester.name.clone().unwrap_or_default(),
            one_line(&ticket.subject, 48),
            ticket.notes.len().to_string(),
            ticket.tags.join(", "),
        ]
    });
    table(&columns, &rows.collect::<Vec<_>>())
}
