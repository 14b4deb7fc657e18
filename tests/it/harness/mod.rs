//! What every test here stands on: a directory with a configuration (`World`), the real binary run as a child
//! (`Daemon`), a raw HTTP client (`http`), and events to post (`events`).
//!
//! Nothing sleeps: waits are on the daemon's log, on the sandbox's bell, or on sockets with deadlines.

pub mod daemon;
pub mod events;
pub mod http;
pub mod log;

pub use daemon::{Daemon, Verb};
pub use http::{Answer, Client, post, send};

use deskspool::sandbox::{Options, Sandbox};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Far more than anything here needs on a busy machine; reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The key of every sandbox here.
pub const KEY: &str = "sandbox-key";
/// Who types.
pub const USER: &str = "ana";
/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_deskspool");

/// Variables that would make a child behave as under systemd, or read another configuration.
const STRAY: [&str; 9] = [
    "DESKSPOOL_CONFIG",
    "DESKSPOOL_SOCKET",
    "DESKSPOOL_LOG",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "RUNTIME_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
];

/// A directory with a configuration and a spool.
pub struct World {
    directory: TempDir,
    tables: BTreeMap<String, Vec<String>>,
}

/// A sandbox that says yes to everything.
pub fn sandbox() -> Sandbox {
    Sandbox::start(Options::default()).expect("loopback has a free port")
}

impl World {
    /// A daemon for `desk` on any port, with quick retries and room on the disk.
    pub fn new(desk: &Sandbox) -> World {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let mut world = World { directory, tables: BTreeMap::new() };
        let spool = world.path("spool");
        world.set("freshdesk", "url", &format!("{:?}", desk.url()));
        world.set("freshdesk", "api_key", &format!("{KEY:?}"));
        world.set("freshdesk", "rate_per_minute", "100000");
        world.set("freshdesk", "timeout", "\"1s\"");
        world.set("server", "listen", "\"127.0.0.1:0\"");
        world.set("status_page", "listen", "\"off\"");
        world.set("spool", "dir", &format!("{:?}", spool.display().to_string()));
        world.set("spool", "disk_free_min", "\"1MiB\"");
        world.set("delivery", "backoff", "{ first = \"100ms\", factor = 2.0, max = \"1s\", jitter = 0.0 }");
        world
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Sets a key of a table to a TOML value, in place of what it was.
    pub fn set(&mut self, table: &str, key: &str, value: &str) -> &mut World {
        let lines = self.tables.entry(table.to_owned()).or_default();
        lines.retain(|line| !line.starts_with(&format!("{key} = ")));
        lines.push(format!("{key} = {value}"));
        self
    }

    /// Adds `[source.<name>]` with these lines.
    pub fn source(&mut self, name: &str, lines: &str) -> &mut World {
        let lines = lines.lines().map(|line| line.trim().to_owned()).collect();
        self.tables.insert(format!("source.{name}"), lines);
        self
    }

    /// Takes a table away.
    pub fn remove(&mut self, table: &str) -> &mut World {
        self.tables.remove(table);
        self
    }

    /// Adds `[source.chat]`: any JSON, the secret in a header.
    pub fn chat(&mut self) -> &mut World {
        self.source("chat", "preset = \"generic@1\"\nsecret = \"chat-secret\"")
    }

    /// Where the configuration is.
    pub fn config(&self) -> PathBuf {
        self.path("deskspool.toml")
    }

    /// Where the control socket is.
    pub fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// Writes the configuration.
    pub fn write(&self) {
        let tables = self.tables.iter().map(|(name, lines)| format!("[{name}]\n{}\n\n", lines.join("\n")));
        std::fs::write(self.config(), tables.collect::<String>()).expect("the directory is ours");
    }

    /// Writes the configuration and starts a daemon; it is up when this returns.
    pub fn start(&self) -> Daemon {
        self.start_with(&[], None)
    }

    /// The same with variables, and a limit of open files.
    pub fn start_with(&self, variables: &[(&str, &str)], open_files: Option<u32>) -> Daemon {
        self.write();
        let mut command = match open_files {
            None => self.command(&["serve"]),
            Some(limit) => self.limited(limit),
        };
        command.envs(variables.iter().copied());
        Daemon::start(command)
    }

    /// The binary with this world's configuration and socket.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments);
        self.surround(command)
    }

    fn limited(&self, open_files: u32) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n \"$1\"; shift; exec \"$@\"", "sh"]);
        command.args([&open_files.to_string(), BINARY, "serve"]);
        self.surround(command)
    }

    /// A command that runs the binary somehow, in this world.
    pub fn surround(&self, mut command: Command) -> Command {
        STRAY.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.arg("--config").arg(self.config()).arg("--socket").arg(self.socket());
        command.env("NO_COLOR", "1").env("SUDO_USER", USER).stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end.
    pub fn run(&self, arguments: &[&str]) -> Verb {
        Verb::of(self.command(arguments))
    }

    /// The envelopes in these states (`dead`, `queued,deferred` …), as `queue --json` prints them.
    pub fn queue(&self, states: &str) -> Vec<serde_json::Value> {
        let verb = self.run(&["queue", "--json", "--state", states]);
        assert_eq!(verb.code, 0, "{verb:?}");
        verb.out.lines().map(|line| serde_json::from_str(line).expect("one object per line")).collect()
    }
}
