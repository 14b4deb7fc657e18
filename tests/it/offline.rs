//! With the daemon down, verbs that only read open the spool themselves and say so; the others say what to do.

use crate::harness::events::message;
use crate::harness::{Daemon, Verb, World, sandbox};
use deskspool::sandbox::Sandbox;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One dead letter, one held, two that wait; and a daemon that delivers nothing.
fn world(desk: &Sandbox) -> (World, Daemon) {
    let mut world = World::new(desk);
    let lines = "preset = \"generic@1\"\nsecret = \"chat-secret\"\nticket = { type = \"Nothing we have\" }";
    world.chat().source("broken", lines);
    let daemon = world.start();
    assert_eq!(daemon.post("/in/broken", "chat-secret", &message("b", 0)).status, 200);
    daemon.eventually("the dead letter", || (world.queue("dead").len() == 1).then_some(()));
    assert_eq!(world.run(&["pause", "delivery"]).code, 0);
    for number in 0..3 {
        daemon.chat(&message("ana", number));
    }
    daemon.eventually("all wait", || (world.queue("queued").len() == 3).then_some(()));
    assert_eq!(world.run(&["hold", "3"]).code, 0);
    (world, daemon)
}

/// Names and bytes of everything below.
fn everything(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(directory).expect("it is a directory") {
        let path = file.expect("it can be listed").path();
        match path.is_dir() {
            true => found.extend(everything(&path)),
            false => drop(found.insert(path.clone(), fs::read(&path).unwrap_or_default())),
        }
    }
    found
}

/// The rows without what goes by the clock.
fn rows(verb: &Verb) -> Vec<Value> {
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).expect("one object per line");
        let object = row.as_object_mut().expect("an object");
        object.retain(|name, _| name != "age_seconds" && name != "due_seconds");
        row
    };
    verb.out.lines().map(row).collect()
}

fn says_so(world: &World, verb: &Verb) {
    let expect = format!("the daemon is not running; read from {}\n", world.path("spool").display());
    assert!(verb.err.starts_with(&expect), "{verb:?}");
}

#[test]
fn the_spool_answers_like_the_daemon_did_and_stays_as_it_is() {
    let desk = sandbox();
    let (world, daemon) = world(&desk);
    let questions: [&[&str]; 5] = [
        &["queue", "--json"],
        &["queue", "--json", "--state", "held,dead"],
        &["queue", "--json", "--conversation", "ana", "--match", "ana-2"],
        &["show", "2", "--json"],
        &["log", "--json"],
    ];
    let told: Vec<Vec<Value>> = questions.iter().map(|question| rows(&world.run(question))).collect();
    daemon.kill();
    let before = everything(&world.path("spool"));
    for (question, told) in questions.iter().zip(&told) {
        let read = world.run(question);
        assert_eq!(read.code, 0, "{question:?}: {read:?}");
        says_so(&world, &read);
        assert_eq!(&rows(&read), told, "{question:?}");
    }
    let queue = world.run(&["queue"]);
    assert!(queue.out.ends_with("1 dead not shown: deskspool queue --state dead\n"), "{}", queue.out);
    let status = world.run(&["status"]);
    assert_eq!(status.code, 3, "{status:?}");
    let first = format!("deskspool 0.1.0   not running; read from {}\n", world.path("spool").display());
    assert!(status.out.starts_with(&first), "{}", status.out);
    assert!(status.out.contains("queued 2   in-flight 0   deferred 0   held 1   dead 1 "), "{}", status.out);
    assert!(status.out.contains("1 daemon    the daemon is not running, "), "{}", status.out);
    let json: Value = serde_json::from_str(&world.run(&["status", "--json", "-q"]).out).unwrap();
    assert_eq!(json["read_from"], world.path("spool").display().to_string());
    let missing = world.run(&["show", "99"]);
    assert_eq!((missing.code, missing.err.contains("error: there is no envelope 99\n")), (1, true));
    for verb in [&["retry", "2"][..], &["refused"], &["drop", "2", "--yes"], &["drain"], &["import", "-"]] {
        let verb = world.run(verb);
        assert_eq!(verb.code, 3, "{verb:?}");
        assert!(verb.err.starts_with("error: deskspool is not running (no answer on "), "{verb:?}");
    }
    assert!(everything(&world.path("spool")) == before, "something was written");
    let daemon = world.start();
    assert_eq!(world.queue("queued,held,dead").len(), 4);
    daemon.stop();
}

#[test]
fn a_broken_configuration_costs_the_mapping_not_the_view() {
    let desk = sandbox();
    let (mut world, daemon) = world(&desk);
    daemon.stop();
    world.set("delivery", "workrs", "3").write();
    let shown = world.run(&["show", "2"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.err.contains("the configuration cannot be loaded (deskspool check)"), "{}", shown.err);
    assert!(
        shown.out.contains("will do      cannot be mapped: the configuration cannot be loaded"),
        "{}",
        shown.out
    );
}

#[test]
fn a_damaged_spool_is_read_as_far_as_it_goes_and_says_what_is_not() {
    let desk = sandbox();
    let (world, daemon) = world(&desk);
    daemon.kill();
    let spool = world.path("spool");
    let segment = spool.join("journal").join("00000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(6).rposition(|six| six == b"ana-1\"").expect("the event's text");
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    fs::remove_dir_all(spool.join("queue")).unwrap();
    let before = everything(&spool);
    let queue = world.run(&["queue", "--json"]);
    assert_eq!(queue.code, 0, "{queue:?}");
    assert!(queue.err.contains("   = its journal is damaged in segment 1, bytes "), "{}", queue.err);
    assert!(rows(&queue).len() >= 2, "{queue:?}");
    fs::write(spool.join("identity"), "").unwrap();
    assert_eq!(world.run(&["status"]).code, 3);
    fs::write(spool.join("identity"), &before[&spool.join("identity")]).unwrap();
    assert!(everything(&spool) == before, "something was written");
}

#[test]
fn who_has_the_spool_is_told_and_who_may_not_read_it_is_told_what_to_do() {
    let desk = sandbox();
    let (world, daemon) = world(&desk);
    // As when it listens where nobody asks.
    fs::remove_file(world.socket()).unwrap();
    let elsewhere = world.run(&["queue"]);
    assert_eq!(elsewhere.code, 3, "{elsewhere:?}");
    let pid = daemon.pid();
    let open =
        format!("is open by another deskspool (pid {pid}); does it listen on another socket? --socket PATH");
    assert!(elsewhere.err.contains(&open), "{}", elsewhere.err);
    daemon.stop();
    // Somebody reads it while a daemon is started: it waits.
    let lock = fs::File::open(world.path("spool").join("lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockShared).unwrap();
    let (told, up) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| told.send(world.start()).unwrap());
        // It cannot be up, whatever the machine's pace: the lock is ours.
        assert_eq!(world.run(&["queue"]).code, 0);
        assert!(up.try_recv().is_err());
        drop(lock);
        let daemon = up.recv().unwrap();
        daemon.stop();
    });
}
