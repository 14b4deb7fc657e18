//! The command line: one file per verb. Verbs that act on the spool ask the running daemon.
//!
//! Exit codes: 0 fine, 1 the asked thing is not fine, 2 usage, 3 daemon not reachable, 130 interrupted.

mod account;
mod aside;
pub mod capture;
pub mod change;
pub mod check;
pub mod completions;
pub mod config;
pub mod demo;
pub mod init;
pub mod man;
pub mod preset;
pub mod probe;
pub mod queue;
pub mod refused;
pub mod render;
pub mod salvage;
pub mod sandbox;
pub mod serve;
pub mod show;
pub mod status;
pub mod trial;

use crate::control::client::{AskError, Daemon};
use crate::control::view::Filter;
use clap::{Args, CommandFactory, Parser, Subcommand};
use render::Screen;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the package puts the configuration.
const CONFIG_DEFAULT: &str = "/etc/deskspool/deskspool.toml";
/// Where systemd's `RuntimeDirectory=` puts the control socket.
const SOCKET_DEFAULT: &str = "/run/deskspool/control.sock";

/// Fine.
pub const FINE: u8 = 0;
/// The asked thing is not fine.
pub const NOT_FINE: u8 = 1;
/// The daemon is not reachable.
pub const NOT_REACHABLE: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  deskspool check                              is the configuration right?
  deskspool status                             is it receiving, is it delivering, what needs me?
  deskspool queue --state dead                 what was given up, and why
  deskspool retry --all --state dead           after the mapping or the key was mended
  deskspool demo                               all of it on this machine, with a stand-in for Freshdesk

Exit codes: 0 fine, 1 not fine, 2 usage, 3 daemon not reachable, 130 interrupted.";

/// Webhooks in, Freshdesk tickets out, nothing lost in between.
#[derive(Parser)]
#[command(name = "deskspool", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// The configuration file
    #[arg(long, global = true, value_name = "PATH", env = "DESKSPOOL_CONFIG", default_value = CONFIG_DEFAULT)]
    pub config: PathBuf,
    /// The daemon's control socket [default: /run/deskspool/control.sock, else in the spool]
    #[arg(long, global = true, value_name = "PATH", env = "DESKSPOOL_SOCKET")]
    pub socket: Option<PathBuf>,
    /// Print JSON; lists are one object per line
    #[arg(long, global = true)]
    pub json: bool,
    /// When to colour: auto, always, never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"])]
    pub color: String,
    /// Print less
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the daemon (systemd does this)
    Serve(serve::ServeArgs),
    /// Write a first configuration, asking four questions
    Init(init::InitArgs),
    /// Is this configuration right? Secrets, templates, ports, Freshdesk
    Check(check::CheckArgs),
    /// The effective configuration, and where each value was written
    Config(config::ConfigArgs),
    /// Apply the configuration; tells what changed and what needs a restart
    Reload,
    /// One screen: is it receiving, is it delivering, what needs me
    Status,
    /// What is waiting
    #[command(visible_alias = "mailq")]
    Queue(FilterArgs),
    /// One envelope, its attempts, what it would write
    Show(show::ShowArgs),
    /// The last requests that were turned away, and why
    Refused(refused::RefusedArgs),
    /// Make envelopes due now
    Retry(change::ChangeArgs),
    /// Set envelopes aside
    Hold(aside::HoldArgs),
    /// Make held envelopes due now
    Release(aside::ReleaseArgs),
    /// Stop intake, delivery or a source for a while
    Pause(aside::PauseArgs),
    /// End a pause
    Resume(aside::ResumeArgs),
    /// Give up on envelopes
    Drop(change::DropArgs),
    /// Run a payload through verify and map; deliver nothing
    Try(trial::TryArgs),
    /// Wait for a real request, save it, suggest a mapping
    Capture(capture::CaptureArgs),
    /// What is known of each platform: the list, or one file
    Preset(preset::PresetArgs),
    /// Save what can be read of a damaged spool; the daemon must be stopped
    Salvage(salvage::SalvageArgs),
    /// A local stand-in for Freshdesk, with a page that shows the tickets
    Sandbox(sandbox::SandboxArgs),
    /// Daemon, sandbox and sample events, on this machine alone
    Demo(demo::DemoArgs),
    /// What makes a shell finish words
    Completions(completions::CompletionsArgs),
    /// The manual page, or the one of the configuration
    Man(man::ManArgs),
    /// Which words may stand there? The shell asks
    #[command(hide = true)]
    Complete(completions::CompleteArgs),
    /// Can this queue be opened? The daemon asks, of itself
    #[command(name = probe::PROBE_VERB, hide = true)]
    Probe(probe::ProbeArgs),
}

/// Which envelopes.
#[derive(Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// queued, deferred, in-flight, held, dead, delivered, dropped; several with commas
    #[arg(long, value_name = "STATES")]
    state: Option<String>,
    /// Of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Of this conversation
    #[arg(long, value_name = "KEY")]
    conversation: Option<String>,
    /// Received at most this long ago: 90s, 15m, 2h, 30d
    #[arg(long, value_name = "AGE")]
    since: Option<String>,
    /// Received at least this long ago
    #[arg(long, value_name = "AGE")]
    until: Option<String>,
    /// With this text in id, platform event id, requester or error
    #[arg(long = "match", value_name = "TEXT")]
    matches: Option<String>,
}

impl FilterArgs {
    fn pairs(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let options = [
            ("state", &self.state),
            ("source", &self.source),
            ("conversation", &self.conversation),
            ("since", &self.since),
            ("until", &self.until),
            ("match", &self.matches),
        ];
        options.into_iter().filter_map(|(name, text)| text.as_ref().map(|text| (name, text)))
    }

    /// The filter, or what is wrong with it.
    pub fn filter(&self) -> Result<Filter, Failure> {
        let mut filter = Filter::default();
        for (name, text) in self.pairs() {
            filter.set(name, text).map_err(Failure::Usage)?;
        }
        Ok(filter)
    }

    /// The filter as a query string.
    pub fn query(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(self.pairs()).finish()
    }
}

/// Why a verb ends without having done what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The words are off: exit 2.
    Usage(String),
    /// The daemon cannot be asked, or said no.
    Ask(AskError),
    /// Anything else: exit 1.
    Other(anyhow::Error),
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Failure::Ask(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Other(error.into())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::Other(
            anyhow::Error::new(error)
                .context("the daemon's answer is not understood; is it another version?"),
        )
    }
}

/// What a verb gives back: its exit code.
pub type Outcome = Result<u8, Failure>;

/// Parses the arguments, carries out the verb, and says how it went.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let mut screen = Screen::new(&cli.global.color);
    let outcome = match &cli.verb {
        Verb::Serve(args) => serve::run(&cli.global, args),
        Verb::Init(args) => init::run(&cli.global, args, &mut screen),
        Verb::Check(args) => check::run(&cli.global, args, &mut screen),
        Verb::Config(args) => config::run(&cli.global, args, &mut screen),
        Verb::Reload => change::reload(&cli.global, &mut screen),
        Verb::Status => status::run(&cli.global, &mut screen),
        Verb::Queue(args) => queue::run(&cli.global, args, &mut screen),
        Verb::Show(args) => show::run(&cli.global, args, &mut screen),
        Verb::Refused(args) => refused::run(&cli.global, args, &mut screen),
        Verb::Retry(args) => change::retry(&cli.global, args, &mut screen),
        Verb::Hold(args) => aside::hold(&cli.global, args, &mut screen),
        Verb::Release(args) => aside::release(&cli.global, args, &mut screen),
        Verb::Pause(args) => aside::pause(&cli.global, args, &mut screen),
        Verb::Resume(args) => aside::resume(&cli.global, args, &mut screen),
        Verb::Drop(args) => change::drop_envelopes(&cli.global, args, &mut screen),
        Verb::Try(args) => trial::run(&cli.global, args, &mut screen),
        Verb::Capture(args) => capture::run(&cli.global, args, &mut screen),
        Verb::Preset(args) => preset::run(&cli.global, args, &mut screen),
        Verb::Salvage(args) => salvage::run(&cli.global, args, &mut screen),
        Verb::Sandbox(args) => sandbox::run(args).map(|()| FINE).map_err(Failure::Other),
        Verb::Demo(args) => demo::run(args),
        Verb::Completions(args) => completions::run(args, &mut screen),
        Verb::Man(args) => man::run(args, &command(), &mut screen),
        Verb::Complete(args) => completions::complete(&cli.global, args, &command(), &mut screen),
        Verb::Probe(args) => Ok(probe::run(args)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => ExitCode::from(tell(&failure)),
    }
}

/// The command line, for those who describe it.
fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// Says on stderr what went wrong; the exit code.
fn tell(failure: &Failure) -> u8 {
    match failure {
        Failure::Usage(text) => {
            eprintln!("error: {text}");
            2
        }
        Failure::Ask(error) => {
            eprintln!("error: {error}");
            match error {
                AskError::NotRunning(_) => {
                    eprintln!("   = systemctl status deskspool; journalctl -u deskspool -n 50");
                    NOT_REACHABLE
                }
                AskError::Denied(_) => {
                    eprintln!(
                        "   = join the group:  sudo usermod -aG deskspool $USER   (log in again), or use sudo"
                    );
                    NOT_REACHABLE
                }
                AskError::Broken { .. } => NOT_REACHABLE,
                AskError::Refused { .. } => NOT_FINE,
            }
        }
        // Whoever read us has seen enough.
        Failure::Other(error) if is_broken_pipe(error) => FINE,
        Failure::Other(error) => {
            eprintln!("error: {error:#}");
            NOT_FINE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

impl Global {
    /// The running daemon.
    pub fn daemon(&self) -> Daemon {
        Daemon::at(&self.control_socket())
    }

    /// Where the control socket is: as told, where systemd puts it, or in the spool of the configuration.
    pub fn control_socket(&self) -> PathBuf {
        if let Some(socket) = &self.socket {
            return socket.clone();
        }
        let by_systemd = Path::new(SOCKET_DEFAULT);
        if by_systemd.exists() {
            return by_systemd.to_path_buf();
        }
        match crate::config::spool_directory(&self.config) {
            Some(directory) if directory.join("control.sock").exists() => directory.join("control.sock"),
            _ => by_systemd.to_path_buf(),
        }
    }
}
