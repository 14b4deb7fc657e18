//! A queue whose opener fails, hangs or dies: the daemon finds out in a process of its own, keeps the queue aside,
//! builds another one from the journal, and every event is delivered once.

use crate::harness::events::{delivered, message};
use crate::harness::{Daemon, PATIENCE, World, sandbox};
use deskspool::sandbox::Sandbox;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

const EVENTS: usize = 12;

/// A daemon was killed while events waited; the database of its queue.
fn cut_off(desk: &Sandbox) -> (World, PathBuf) {
    desk.set_down(true).expect("the sandbox is there");
    let mut world = World::new(desk);
    world.chat();
    let daemon = world.start();
    for number in 0..EVENTS {
        daemon.chat(&message("ana", number));
    }
    daemon.kill();
    let home = world.path("spool/queue");
    let current = fs::read_to_string(home.join("current")).expect("a queue says which generation counts");
    let generation = current.split(' ').next().expect("a number").to_owned();
    (world, home.join(generation))
}

/// Reading it never ends.
fn hang(database: &Path) {
    let conf = database.join("conf");
    fs::remove_file(&conf).expect("sled has one");
    let made = std::process::Command::new("mkfifo").arg(&conf).status();
    assert!(made.expect("mkfifo is there").success());
}

fn start(world: &World, patience: &str) -> Daemon {
    world.write();
    Daemon::start(world.command(&["serve", "--probe-patience", patience]))
}

/// The queue was set aside for that reason, and nothing is lost or doubled.
fn check(desk: &Sandbox, world: &World, daemon: Daemon, why: &str) {
    let told = daemon.wait_for("queue is unreadable");
    assert!(told.contains(why) && told.contains("kept=queue.damaged.1"), "{told}");
    assert!(world.path("spool/queue.damaged.1").is_dir());
    assert_eq!(world.queue("queued,deferred,in-flight").len(), EVENTS);
    desk.set_down(false).expect("the sandbox is there");
    daemon.eventually("an empty queue", || world.queue("queued,deferred,in-flight").is_empty().then_some(()));
    assert_eq!(delivered(&desk.tickets(), "ana"), (0..EVENTS).collect::<Vec<_>>());
    assert_eq!(desk.tickets().len(), 1);
    daemon.stop();
}

#[test]
fn a_queue_whose_bytes_are_damaged_is_rebuilt_from_the_journal() {
    let desk = sandbox();
    let (world, database) = cut_off(&desk);
    let conf = database.join("conf");
    let mut bytes = fs::read(&conf).expect("sled has one");
    bytes[3] ^= 0x20;
    fs::write(&conf, bytes).expect("it is ours");
    check(&desk, &world, start(&world, "60"), "its bytes are damaged");
}

#[test]
fn a_queue_that_hangs_who_opens_it_is_rebuilt_from_the_journal() {
    let desk = sandbox();
    let (world, database) = cut_off(&desk);
    hang(&database);
    check(&desk, &world, start(&world, "2"), "it hung for 2 s");
}

#[test]
fn a_queue_that_kills_who_opens_it_is_rebuilt_from_the_journal() {
    let desk = sandbox();
    let (world, database) = cut_off(&desk);
    // It holds still while the test does what sled would: end the process from inside.
    hang(&database);
    let daemon = std::thread::scope(|scope| {
        let started = scope.spawn(|| start(&world, "60"));
        kill_process(prober_of(&database), Signal::ABORT).expect("the child is ours");
        started.join().expect("it comes up")
    });
    check(&desk, &world, daemon, "the probe ended with signal: 6");
}

/// The process that tries this database.
fn prober_of(database: &Path) -> Pid {
    let wanted = database.display().to_string();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
            let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<&str> = command.split('\0').collect();
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            let is_it = words.get(1) == Some(&"probe-queue") && words.contains(&wanted.as_str());
            if let Some(pid) = pid.filter(|_| is_it) {
                return pid;
            }
        }
        std::thread::yield_now();
    }
    panic!("nobody tries {wanted}");
}
