//! The messages that were promised word for word: brought about with the real binary (`tests/cli/messages.txt`), and
//! `tests/messages.txt`, the list of all of them, held against the goldens.

use crate::harness::events::message;
use crate::harness::{BINARY, Daemon, PATIENCE, Verb, World, sandbox};
use crate::transcripts::{MORNING, Session, at};
use deskspool::sandbox::{Effect, Fault, FaultBody, Sandbox};
use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const DAY: u64 = 86_400;

/// `[source.chat]` with a table more.
fn world(desk: &Sandbox, lines: &str) -> World {
    let mut world = World::new(desk);
    world.source("chat", &format!("preset = \"generic@1\"\nsecret = \"chat-secret\"\n{lines}"));
    world.set("delivery", "workers", "1");
    world
}

fn only(daemon: &Daemon, world: &World, state: &str) -> u64 {
    let row = daemon.eventually(state, || world.queue(state).pop());
    row["id"].as_u64().expect("a number")
}

#[test]
fn what_is_said_when_something_is_in_the_way() {
    let desk = sandbox();
    let group = world(&desk, "ticket.group_id = \"billing\"");
    group.write();
    let mut session = Session::new("messages", &group);
    session.note("no group has such a name").run("check");

    let key = world(&desk, "");
    let daemon = at(&key, MORNING);
    desk.set_key("another-key");
    daemon.chat(&message("ana", 0));
    let refused = || key.run(&["status"]).out.contains("refuses our key").then_some(());
    daemon.eventually("the key is refused", refused);
    session.at(&key).note("the key is wrong, and one waits").run("check").run("serve");
    let locked = std::fs::set_permissions(key.socket(), Permissions::from_mode(0o000));
    locked.expect("the socket is ours");
    session.note("somebody of another group").said("status", &without_rights(&key, &["status"]));
    daemon.stop();

    let occupied = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = format!("{:?}", occupied.local_addr().expect("it has one").to_string());
    let mut taken = world(&desk, "");
    taken.set("server", "listen", &address).write();
    session.at(&taken).note("somebody else listens").run("serve");

    let mut open = world(&desk, "");
    let secret = open.path("secrets/contako");
    std::fs::create_dir(open.path("secrets")).expect("the directory is ours");
    std::fs::write(&secret, "geheim").expect("the directory is ours");
    std::fs::set_permissions(&secret, Permissions::from_mode(0o644)).expect("the file is ours");
    let lines = format!("preset = \"contako@1\"\nsecret = {{ file = {:?} }}", secret.display().to_string());
    open.source("contako", &lines).write();
    session.at(&open).note("everybody may read the secret").run("serve").end();
}

#[test]
fn why_a_letter_is_dead() {
    let desk = sandbox();
    let empty = world(&desk, "ticket.subject = \"{{ event.customer.name }}\"");
    let daemon = at(&empty, MORNING);
    daemon.chat(&message("ana", 0));
    only(&daemon, &empty, "dead");
    let mut session = Session::new("dead", &empty);
    session.run("show 1");
    daemon.stop();

    let deleted = world(&desk, "");
    let daemon = at(&deleted, MORNING);
    daemon.chat(&message("ana", 0));
    only(&daemon, &deleted, "delivered");
    let gone = Effect::Status { status: 404, body: FaultBody::Empty, retry_after: None, commit: false };
    desk.add_fault(Fault::new(gone).on("POST", "/api/v2/tickets/*/notes"));
    daemon.chat(&message("ana", 1));
    only(&daemon, &deleted, "dead");
    session.at(&deleted).note("an agent deleted the ticket").run("show 2");
    daemon.stop();

    let mut phone = world(&desk, "");
    phone.set("freshdesk", "url", &format!("\"http://{}\"", refuses_phones()));
    let daemon = at(&phone, MORNING);
    daemon.chat(&message("ana", 0));
    only(&daemon, &phone, "dead");
    session.at(&phone).note("Freshdesk does not like the phone").run("show 1");
    daemon.stop();

    let down = Effect::Status { status: 503, body: FaultBody::Html, retry_after: None, commit: false };
    desk.add_fault(Fault::new(down).on("POST", "/api/v2/tickets"));
    let old = world(&desk, "");
    // Every second day it only looks whether it is there.
    for day in 0..9 {
        let daemon = at(&old, MORNING + day * DAY);
        if day == 0 {
            daemon.chat(&message("eva", 0));
        }
        // Tried, and due again some time, or dead.
        daemon.eventually("an attempt", || {
            let row = old.queue("deferred,dead").pop()?;
            (row["state"] == "dead" || row["due_seconds"].as_i64()? > 0).then_some(())
        });
        if day == 8 {
            session.at(&old).note("tried day after day").run("show 1").end();
        }
        daemon.stop();
    }
}

/// A Freshdesk that refuses every ticket for its phone; where it is. It ends with the test.
fn refuses_phones() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it has one");
    let body = r#"{"description":"Validation failed","errors":[{"field":"phone","message":"It should be a phone","code":"invalid_value"}]}"#;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let serve = move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            // Its JSON ends the request.
            while !request.ends_with(b"}") {
                match stream.read(&mut piece) {
                    Ok(length) if length > 0 => request.extend_from_slice(&piece[..length]),
                    _ => break,
                }
            }
            // Who has gone needs no answer.
            let _ = stream.write_all(answer.as_bytes());
        }
    };
    std::thread::Builder::new().name("freshdesk".to_owned()).spawn(serve).expect("a thread is to be had");
    address
}

/// What root may do beside the modes of files is taken from it.
fn without_rights(world: &World, arguments: &[&str]) -> Verb {
    if !rustix::process::geteuid().is_root() {
        return world.run(arguments);
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search", BINARY]).args(arguments);
    Verb::of(world.surround(command))
}

/// The lines of a golden without the signs of where they were said: stderr's `! `, and the columns of `check`'s list.
fn said(golden: &str) -> Vec<String> {
    let line = |line: &str| {
        let line = line.strip_prefix("! ").unwrap_or(line);
        let error = line.strip_prefix("  error ").map(|rest| format!("error: {rest}"));
        error.unwrap_or_else(|| line.strip_prefix("        ").unwrap_or(line).to_owned())
    };
    golden.lines().map(line).collect()
}

/// Whether a line is said so; `…` stands for anything.
fn is_said(promised: &str, line: &str) -> bool {
    let mut pieces = promised.split('…');
    let Some(mut rest) = line.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else { return rest.is_empty() };
    for piece in between {
        match rest.split_once(piece) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn every_promised_message_is_said_word_for_word_in_its_golden() {
    let list = std::fs::read_to_string("tests/messages.txt").expect("the list");
    let messages: Vec<(&str, &str)> =
        list.split("\n== ").skip(1).filter_map(|message| message.split_once('\n')).collect();
    for (file, promised) in &messages {
        let golden = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let (said, promised) = (said(&golden), promised.trim_end().lines().collect::<Vec<_>>());
        let is_there = said
            .windows(promised.len())
            .any(|lines| lines.iter().zip(&promised).all(|(line, promised)| is_said(promised, line)));
        assert!(is_there, "{file} does not say\n{}", promised.join("\n"));
    }
    assert_eq!(messages.len(), 20, "a message is missing in the list");
}

#[test]
fn a_changed_word_would_be_found() {
    let check = |promised: &str, line: &str, expect| assert_eq!(is_said(promised, line), expect, "{line}");
    check("error: … is in use", "error: 127.0.0.1:1 is in use", true);
    check("error: … is in use", "error: 127.0.0.1:1 is in use by nginx", false);
    check("error: … is in use…", "error: 127.0.0.1:1 is in use by nginx", true);
    check("error: a…b…c", "error: a1c2b", false);
    check("plain", "plain", true);
    check("plain", "plain too", false);
}
