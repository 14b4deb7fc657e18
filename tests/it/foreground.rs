//! What is said by verbs that stay until something comes or somebody ends them: `capture`, `sandbox`, `demo`
//! (`tests/cli/foreground.txt`).

use crate::harness::log::Log;
use crate::harness::{PATIENCE, Verb, World, sandbox};
use crate::transcripts::{MORNING, Session, at};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Stdio};

/// One that stays.
struct Staying {
    child: Child,
    out: Log,
    err: Log,
}

impl Staying {
    fn start(world: &World, arguments: &[&str]) -> Staying {
        let mut command = world.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = Log::of(child.stdout.take().expect("it is piped"));
        let err = Log::of(child.stderr.take().expect("it is piped"));
        Staying { child, out, err }
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it is there");
    }

    /// What it has said when it is over.
    fn end(mut self) -> Verb {
        let code = self.child.wait().expect("it is ours").code().unwrap_or(-1);
        assert!(self.out.wait_for_end(PATIENCE) && self.err.wait_for_end(PATIENCE), "its output goes on");
        Verb { code, out: self.out.all().join("\n"), err: self.err.all().join("\n") }
    }
}

#[test]
fn what_is_said_while_it_stays() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat();
    let mut session = Session::new("foreground", &world);
    let daemon = at(&world, MORNING);
    let directory = world.path("").display().to_string();
    let capture = Staying::start(&world, &["capture", "chat", "--directory", &directory]);
    capture.err.wait_for("Waiting for a POST", 0, PATIENCE).expect("it says that it waits");
    let body = r#"{"message_id":"m1","chat":{"id":"k1"},"customer":{"name":"Eva"},"text":"precio?"}"#;
    // Its line says that it is about to ask; until it has asked, nothing is captured.
    daemon.eventually("it is captured", || {
        daemon.post("/in/chat", "chat-secret", body);
        capture.out.wait_for("deskspool try", 0, std::time::Duration::from_millis(50))
    });
    session.said("capture chat --directory DIR", &capture.end());
    daemon.stop();

    let stand_in = Staying::start(&world, &["sandbox", "--port", "0"]);
    stand_in.out.wait_for("Ctrl-C stops it.", 0, PATIENCE).expect("it listens");
    stand_in.interrupt();
    session.said("sandbox --port 0", &stand_in.end());
    session.run("sandbox --faults DIR/nothing.toml").run("sandbox --plan large");

    let demo = Staying::start(&world, &["demo"]);
    demo.out.wait_for("and at the daemon as an admin would", 0, PATIENCE).expect("it is up");
    demo.interrupt();
    let said = demo.end();
    session.said("demo", &Verb { out: in_any_order(&said.out), ..said }).end();
}

/// The tickets, sorted: which of two customers' comes first is nobody's promise.
fn in_any_order(out: &str) -> String {
    let (mut tickets, others): (Vec<&str>, Vec<&str>) = out.lines().partition(|line| line.contains(", ds-"));
    let head = others.iter().position(|line| line.starts_with("TICKET")).map_or(0, |at| at + 1);
    tickets.sort_by_key(|line| line.trim_start_matches([' ', '1', '2', '3']));
    let tickets = tickets.iter().map(|line| line.replacen(['1', '2', '3'], "N", 1));
    let (before, after) = others.split_at(head);
    let all = before.iter().map(|line| (*line).to_owned()).chain(tickets);
    all.chain(after.iter().map(|line| (*line).to_owned())).collect::<Vec<_>>().join("\n")
}
