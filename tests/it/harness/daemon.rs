//! The real binary as a child: `serve` in the background, and verbs that run to their end.

use super::http::{Answer, Client};
use super::log::Log;
use super::{PATIENCE, http};
use rustix::process::{Pid, Signal, kill_process};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running `deskspool serve`. It is killed when this is dropped; a failing test shows the end of its log.
pub struct Daemon {
    child: Child,
    /// What it has logged.
    pub log: Log,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its status page is, if it is on.
    pub page: Option<SocketAddr>,
}

impl Daemon {
    /// Starts it and waits until it is up.
    pub fn start(mut command: Command) -> Daemon {
        let mut child = spawn(&mut command);
        let log = Log::of(child.stderr.take().expect("it is piped"));
        let up = log.wait_for(" is up pid=", 0, PATIENCE);
        let told = |name: &str| {
            let rest = up.as_deref()?.split(name).nth(1)?;
            rest.split([' ', ',']).next()?.parse().ok()
        };
        let (address, page) = (told("listen="), told("page="));
        let Some(address) = address else {
            // It has ended already, or it never will.
            let _ = child.kill();
            let _ = child.wait();
            panic!("the daemon did not come up:\n{}", log.tail());
        };
        Daemon { child, log, address, page }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One POST of JSON to a source with `authorization`.
    pub fn post(&self, target: &str, authorization: &str, body: &str) -> Answer {
        let headers = [("Content-Type", "application/json"), ("Authorization", authorization)];
        http::post(self.address, target, &headers, body.as_bytes()).expect("the daemon answers")
    }

    /// One GET of the status page.
    pub fn page(&self, target: &str) -> Answer {
        http::get(self.page.expect("the page is on"), target).expect("the page answers")
    }

    /// Posts an event to `[source.chat]`, which must take it.
    pub fn chat(&self, body: &str) {
        let answer = self.post("/in/chat", "chat-secret", body);
        assert_eq!((answer.status, answer.body.as_str()), (200, "{\"ok\":true}"));
    }

    /// A connection that is kept.
    pub fn connect(&self) -> Client {
        Client::connect(self.address).expect("the daemon accepts")
    }

    /// Waits for a line with `text`, from the log's beginning.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_after(text, 0)
    }

    /// Waits for a line with `text` that is not among the first `lines`.
    pub fn wait_for_after(&self, text: &str, lines: usize) -> String {
        let line = self.log.wait_for(text, lines, PATIENCE);
        line.unwrap_or_else(|| panic!("no line with {text:?} in the log"))
    }

    /// Asks again and again, at most once per line of the log or 50 ms, until there is an answer.
    pub fn eventually<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < deadline, "it never came to this: {what}");
            self.log.wait_a_moment();
        }
    }

    /// Lines so far.
    pub fn lines(&self) -> usize {
        self.log.all().len()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the child is there, dead or alive");
    }

    /// Waits until it has ended by itself.
    pub fn wait_for_end(&mut self, deadline: Duration) -> ExitStatus {
        assert!(self.log.wait_for_end(deadline), "it does not end");
        self.child.wait().expect("the child is ours")
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and it must end well.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_for_end(PATIENCE);
        assert_eq!(status.code(), Some(0));
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("---- the daemon's log ends so:\n{}\n----", self.log.tail());
        }
    }
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

/// What a verb came to.
#[derive(Debug)]
pub struct Verb {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

impl Verb {
    /// Runs it to its end.
    pub fn of(mut command: Command) -> Verb {
        let output = command.output().expect("the binary starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it speaks UTF-8");
        Verb { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}
