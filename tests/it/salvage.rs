//! A spool with a damaged segment: what `deskspool salvage` saves, keeps aside and says, and what is delivered after it.

use crate::harness::events::{delivered, message};
use crate::harness::{Daemon, PATIENCE, World, sandbox};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const EVENTS: usize = 5;
const HIT: usize = 2;

fn names(directory: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    names
}

/// Changes a byte in the middle of the third event's body.
fn damage(spool: &Path) {
    let text = message("ana", HIT).into_bytes();
    let hit = names(&spool.join("journal")).into_iter().find_map(|segment| {
        let bytes = fs::read(&segment).expect("a segment");
        bytes.windows(text.len()).position(|window| window == text).map(|at| (segment, bytes, at))
    });
    let (segment, mut bytes, at) = hit.expect("the journal holds the body as it came");
    bytes[at + text.len() / 2] ^= 1;
    fs::write(segment, bytes).expect("a segment");
}

#[test]
fn damage_is_told_by_number_and_segment_in_log_status_and_metrics() {
    let desk = sandbox();
    desk.set_down(true).unwrap();
    let mut world = World::new(&desk);
    world.chat().set("status_page", "listen", "\"127.0.0.1:0\"");
    let daemon = world.start();
    for number in 0..EVENTS {
        daemon.chat(&message("ana", number));
    }
    let metrics = |daemon: &Daemon| daemon.page("/metrics").body;
    assert!(metrics(&daemon).contains("\ndeskspool_spool_damaged_records_total 0\n"));
    daemon.stop();
    damage(&world.path("spool"));

    let daemon = world.start();
    daemon.wait_for(&format!("envelope dead id={}", HIT + 1));
    daemon.wait_for("journal damaged segment=1 bytes=");
    let told = metrics(&daemon);
    assert!(told.contains("\ndeskspool_spool_damaged_records_total 1\n"), "{told}");
    assert!(told.contains("\ndeskspool_spool_damaged_bytes{segment=\"1\"} "), "{told}");
    let status = world.run(&["status"]);
    let why = format!("the journal is damaged in segment 1 (text lost of {})", HIT + 1);
    assert!(status.code == 1 && status.out.contains(&why), "{status:?}");
    desk.set_down(false).unwrap();
    daemon.eventually("an empty queue", || world.queue("queued,deferred,in-flight").is_empty().then_some(()));
    assert_eq!(delivered(&desk.tickets(), "ana"), [0, 1, 3, 4]);
    daemon.stop();
}

#[test]
fn salvage_saves_what_is_whole_keeps_the_rest_aside_and_says_what_is_missing() {
    let desk = sandbox();
    desk.set_down(true).unwrap();
    let mut world = World::new(&desk);
    world.chat();
    let daemon = world.start();
    for number in 0..EVENTS {
        daemon.chat(&message("ana", number));
    }
    let refused = world.run(&["salvage"]);
    assert_eq!(refused.code, 1, "a daemon has the spool: {refused:?}");
    daemon.stop();
    let spool = world.path("spool");
    damage(&spool);

    let said = world.run(&["--json", "salvage"]);
    assert_eq!(said.code, 1, "{said:?}");
    let said: Value = serde_json::from_str(&said.out).expect("one object");
    let missing = said["missing"].as_array().expect("a list");
    assert_eq!((missing.len(), missing[0]["id"].as_u64()), (1, Some(HIT as u64 + 1)), "{said}");
    let kept = PathBuf::from(said["damaged"][0]["kept"].as_str().expect("a file"));
    assert!(kept.starts_with(spool.join("salvaged")), "{said}");
    assert!(!fs::read(&kept).unwrap().is_empty());

    desk.set_down(false).unwrap();
    let daemon = world.start();
    let dead = daemon.eventually("a dead letter", || world.queue("dead").into_iter().next());
    assert_eq!(dead["id"].as_u64(), Some(HIT as u64 + 1), "{dead}");
    daemon.eventually("an empty queue", || world.queue("queued,deferred,in-flight").is_empty().then_some(()));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "no ticket");
    assert_eq!(delivered(&desk.tickets(), "ana"), [0, 1, 3, 4]);
    daemon.stop();
    let again = world.run(&["salvage"]);
    assert!(again.out.contains("saved"), "{again:?}");
}
