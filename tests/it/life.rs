//! Signals, starts and stops.

use crate::harness::events::{delivered, message};
use crate::harness::http::request;
use crate::harness::{PATIENCE, World, sandbox};
use deskspool::sandbox::{Effect, Fault};
use rustix::process::Signal;
use std::time::Duration;

const TICKETS: &str = "/api/v2/tickets";

#[test]
fn a_stop_finishes_what_is_in_flight() {
    let desk = sandbox();
    let hold = Duration::from_secs(5);
    desk.add_fault(Fault::new(Effect::Stall { hold, commit: true }).on("POST", TICKETS).times(1));
    let mut world = World::new(&desk);
    world.chat().set("freshdesk", "timeout", "\"30s\"").set("delivery", "stop_timeout", "\"50s\"");
    let mut daemon = world.start();
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no attempt is in flight");
    let mut half = daemon.connect();
    let headers = [("Authorization", "chat-secret"), ("Expect", "100-continue")];
    let whole = request("POST", "/in/chat", &headers, message("luis", 0).as_bytes());
    let (first, second) = whole.split_at(whole.len() - 20);
    half.send(first).unwrap();
    assert_eq!(half.answer().unwrap().status, 100, "the daemon has read the head");
    daemon.signal(Signal::TERM);
    daemon.wait_for("stopping signal=15");
    daemon.eventually("nobody is let in any more", || std::net::TcpStream::connect(daemon.address).err());
    half.send(second).unwrap();
    let answer = half.answer().expect("the request that was under way is answered");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    let status = daemon.wait_for_end(PATIENCE);
    assert_eq!(status.code(), Some(0));
    daemon.wait_for("stopped");
    let log = daemon.log.all();
    let line = |text: &str| log.iter().position(|line| line.contains(text));
    assert!(line("stopping") < line("attempt delivered id=1"), "the attempt in flight was waited for");
    assert_eq!((line("outlasted"), line("cut off")), (None, None));
    // What was taken meanwhile is delivered by the next daemon; nothing twice.
    let daemon = world.start();
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 2), "not all is delivered");
    daemon.eventually("an empty queue", || world.queue("queued,deferred,in-flight").is_empty().then_some(()));
    for conversation in ["ana", "luis"] {
        assert_eq!(delivered(&desk.tickets(), conversation), [0], "{conversation}");
    }
    daemon.stop();
}

#[test]
fn an_attempt_that_outlasts_the_stop_is_looked_for_by_the_next_daemon() {
    let desk = sandbox();
    let hold = Duration::from_secs(600);
    desk.add_fault(Fault::new(Effect::Stall { hold, commit: true }).on("POST", TICKETS).times(1));
    let mut world = World::new(&desk);
    world.chat().set("freshdesk", "timeout", "\"60s\"").set("delivery", "stop_timeout", "\"1s\"");
    let mut daemon = world.start();
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_end(PATIENCE).code(), Some(0));
    daemon.wait_for("an attempt outlasted stop_timeout");
    world.set("freshdesk", "timeout", "\"1s\"");
    let daemon = world.start();
    daemon.chat(&message("ana", 1));
    assert!(desk.wait_until(PATIENCE, |state| state.note_count() == 1), "the conversation does not go on");
    let tickets = desk.tickets();
    assert_eq!((tickets.len(), delivered(&tickets, "ana")), (1, vec![0, 1]));
    daemon.stop();
}

#[test]
fn sighup_rereads_the_configuration_and_keeps_the_old_on_error() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    world.source("news", "preset = \"generic@1\"\nsecret = \"news-secret\"").write();
    daemon.signal(Signal::HUP);
    daemon.wait_for("source.news added");
    assert_eq!(daemon.post("/in/news", "news-secret", &message("n", 0)).status, 200);
    world.source("third", "preset = \"generic@1\"\nsecrt = \"third-secret\"").write();
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for("configuration not applied");
    assert!(line.contains("did you mean secret?"), "{line}");
    assert!(!line.contains("third-secret"), "{line}");
    assert_eq!(daemon.post("/in/third", "third-secret", &message("t", 0)).status, 404);
    assert_eq!(daemon.post("/in/news", "news-secret", &message("n", 1)).status, 200);
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 2), "it does not deliver any more");
    daemon.stop();
}

#[test]
fn a_second_daemon_on_the_same_spool_is_refused() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    let second = world.run(&["serve"]);
    assert_eq!(second.code, 1, "{second:?}");
    let expect = format!(
        "is open by another deskspool (pid {})\n   = use `deskspool queue` without sudo -u, it asks that process\n",
        daemon.pid()
    );
    assert!(second.err.ends_with(&expect), "{}", second.err);
    // The first has not noticed.
    assert_eq!(world.run(&["status"]).code, 0);
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    daemon.stop();
}

#[test]
fn a_daemon_that_was_killed_leaves_nothing_in_the_next_ones_way() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    daemon.chat(&message("ana", 0));
    daemon.kill();
    assert!(world.socket().exists(), "nobody could tidy up");
    assert_eq!(world.run(&["status"]).code, 3);
    let daemon = world.start();
    assert_eq!(world.run(&["status"]).code, 0);
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    daemon.stop();
}

#[test]
fn log_lines_carry_priorities_for_the_journal() {
    let desk = sandbox();
    desk.add_fault(Fault::new(Effect::WrongKey).times(1));
    let mut world = World::new(&desk);
    world.chat();
    for variable in ["INVOCATION_ID", "JOURNAL_STREAM"] {
        let daemon = world.start_with(&[(variable, "8:12345")], None);
        daemon.chat(&message("ana", 0));
        assert_eq!(daemon.post("/in/chat", "wrong", "{}").status, 401);
        let log = daemon.log.clone();
        daemon.stop();
        let lines = log.all();
        let priority = |line: &String| line.strip_prefix('<')?.split_once('>')?.0.parse::<u8>().ok();
        for line in &lines {
            assert!(priority(line).is_some_and(|priority| (3..=7).contains(&priority)), "{line}");
        }
        assert!(lines.iter().any(|line| line.starts_with("<4>event refused source=chat ")), "{lines:?}");
        let accepted = |line: &String| line.starts_with("<6>event ") && line.contains("source=chat");
        assert!(lines.iter().any(accepted), "{lines:?}");
    }
    let daemon = world.start();
    assert!(
        !daemon.log.all().iter().any(|line| line.starts_with('<')),
        "outside of the journal they have times"
    );
    daemon.stop();
}
