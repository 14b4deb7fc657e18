//! Alerts without Prometheus: told once, not again after a restart, and once more when it is over.

use crate::harness::{PATIENCE, World, sandbox};
use std::io::{Read, Write};
use std::net::TcpListener;

#[test]
fn a_dead_letter_is_told_once_across_restarts_and_so_is_its_end() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    assert_eq!(daemon.post("/in/chat", "chat-secret", "not json").status, 200);
    daemon.stop();
    let told = world.path("told");
    let command = format!("[\"sh\", \"-c\", \"cat >> {0}; echo >> {0}\"]", told.display());
    let daemon = world.set("alert", "command", &command).start();
    daemon.wait_for("alert sent matter=dead state=begun");
    daemon.stop();
    let daemon = world.start();
    assert_eq!(world.run(&["drop", "--state", "dead", "--yes"]).code, 0);
    daemon.stop();
    let daemon = world.start();
    daemon.wait_for("alert sent matter=dead state=over");
    daemon.stop();
    let text = std::fs::read_to_string(told).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<_> = lines.iter().map(|line| line["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["begun", "over"], "{text}");
    assert!(
        lines[0]["text"].as_str().unwrap().starts_with("deskspool: 1 dead letter, chat: not JSON"),
        "{text}"
    );
}

#[test]
fn an_alert_is_posted_and_its_address_is_not_logged() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    assert_eq!(daemon.post("/in/chat", "chat-secret", "not json").status, 200);
    daemon.stop();
    let chat = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("\"http://{}/services/hunter2\"", chat.local_addr().unwrap());
    let daemon = world.set("alert", "url", &url).start();
    let (mut stream, _) = chat.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    while !text.contains("\"at\":") {
        let mut piece = [0; 1024];
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    assert!(
        text.starts_with("POST /services/hunter2 HTTP/1.1\r\n") && text.contains("1 dead letter"),
        "{text}"
    );
    daemon.wait_for("alert sent matter=dead state=begun");
    let log = daemon.log.clone();
    daemon.stop();
    assert!(!log.all().iter().any(|line| line.contains("hunter2")), "the address is in the log");
}
