//! Telling it: a command that gets the message as JSON on its stdin, or a URL it is posted to.

use super::Matter;
use crate::clock::{Timestamp, spell};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;
use thiserror::Error;

/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `begun` or `over`.
    pub state: &'static str,
    /// The matter's key.
    pub matter: String,
    /// One line for people; chat services show a member of this name.
    pub text: String,
    /// What to type.
    pub next: String,
    /// RFC 3339, UTC.
    pub at: String,
}

impl Message {
    pub(super) fn begun(matter: &Matter, now: Timestamp) -> Message {
        Message {
            state: "begun",
            matter: matter.key.clone(),
            text: format!("deskspool: {} (next: {})", matter.text, matter.next),
            next: matter.next.clone(),
            at: now.to_string(),
        }
    }

    pub(super) fn over(key: &str, text: &str, since: u64, now: Timestamp) -> Message {
        let lasted = spell(now.unix_seconds().saturating_sub(since));
        Message {
            state: "over",
            matter: key.to_owned(),
            text: format!("deskspool: over after {lasted}: {text}"),
            next: String::new(),
            at: now.to_string(),
        }
    }
}

/// It could not be told.
#[derive(Debug, Error)]
pub enum SendError {
    /// The command could not be run, or did not end well.
    #[error("alert.command: {0}")]
    Command(String),
    /// The URL did not take it.
    #[error("alert.url: {0}")]
    Url(String),
}

/// Runs the admin's command with `message` on its stdin, `DESKSPOOL_ALERT` and `DESKSPOOL_ALERT_TEXT` in its
/// environment, and nothing of ours on its stdout.
pub fn run_command(command: &[String], message: &Message) -> Result<(), SendError> {
    let failed = |why: String| SendError::Command(why);
    let (program, arguments) = command.split_first().ok_or_else(|| failed("is empty".to_owned()))?;
    let mut child = Command::new(program)
        .args(arguments)
        // It is us that systemd passed sockets to.
        .env_remove("LISTEN_PID")
        .env("DESKSPOOL_ALERT", message.state)
        .env("DESKSPOOL_ALERT_TEXT", &message.text)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(format!("{program}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        let text = serde_json::to_string(message).expect("a message holds nothing that JSON cannot");
        // A command that does not read closes its end; whether it did its work shows in its exit.
        let _ = stdin.write_all(text.as_bytes());
    }
    wait(child, COMMAND_TIMEOUT).map_err(|why| failed(format!("{program}: {why}")))
}

/// Waits for a child, and kills one that takes too long.
fn wait(mut child: Child, timeout: Duration) -> Result<(), String> {
    let pid = Pid::from_child(&child);
    let (tell, told) = channel();
    let waiting = std::thread::Builder::new().name("alert-command".to_owned());
    let waiting = waiting.spawn(move || drop(tell.send(child.wait()))).map_err(|error| error.to_string())?;
    let ended = told.recv_timeout(timeout);
    if ended.is_err() {
        // It may have ended in this very moment; nobody has its number until it is waited for.
        let _ = kill_process(pid, Signal::KILL);
    }
    // It ends with the child.
    let _ = waiting.join();
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(status.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("killed after {}s", timeout.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let matter =
            Matter { key: "dead".into(), text: "1 dead letter".into(), next: "deskspool queue".into() };
        Message::begun(&matter, Timestamp(1_763_712_000_000))
    }

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_command_gets_the_message() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("told");
        let script = format!("cat > {0}; echo \" $DESKSPOOL_ALERT\" >> {0}", file.display());
        run_command(&shell(&script), &message()).unwrap();
        let expect = "{\"state\":\"begun\",\"matter\":\"dead\",\
            \"text\":\"deskspool: 1 dead letter (next: deskspool queue)\",\"next\":\"deskspool queue\",\
            \"at\":\"2025-11-21T08:00:00Z\"} begun\n";
        assert_eq!(std::fs::read_to_string(file).unwrap(), expect);
    }

    #[test]
    fn a_command_that_fails_says_so() {
        let check = |command: &[String], expect: &str| {
            let error = run_command(command, &message()).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(&shell("exit 3"), "exit status: 3");
        check(&["/nowhere/at/all".to_owned()], "/nowhere/at/all: No such file");
        check(&[], "is empty");
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let child = Command::new("tail").args(["-f", "/dev/null"]).spawn().unwrap();
        let error = wait(child, Duration::from_millis(50)).unwrap_err();
        assert!(error.starts_with("killed after"), "{error}");
    }

    #[test]
    fn the_end_says_how_long_it_lasted() {
        let over = Message::over("dead", "1 dead letter", 60, Timestamp(720_000));
        assert_eq!((over.state, over.text.as_str()), ("over", "deskspool: over after 11m: 1 dead letter"));
    }
}
