//! What is drawn on a terminal: the screen that is watched, and the bar of long work.

use crate::harness::log::Log;
use crate::harness::{PATIENCE, World, sandbox};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::process::{Child, Command, Stdio};

const ROWS: u16 = 9;
const COLUMNS: u16 = 50;

/// Starts it on a terminal of its own; what is drawn there. Each `\n` ends a line, its escapes are left in it.
fn on_a_terminal(mut command: Command) -> (Child, Log) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it is ours");
    let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).expect("it has a size");
    let name = ptsname(&terminal, Vec::new()).expect("it has a name");
    let other: File = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("it opens").into();
    command.stdout(other.try_clone().expect("a descriptor")).stderr(other).stdin(Stdio::null());
    let child = command.spawn().expect("it starts");
    // The command holds the other end; without it the terminal ends with the child.
    drop(command);
    (child, Log::of(File::from(terminal)))
}

/// Columns that a drawn line takes.
fn width(line: &str) -> usize {
    let mut width = 0;
    let mut is_escape = false;
    for c in line.chars().filter(|c| *c != '\r') {
        match (is_escape, c) {
            (_, '\x1b') => is_escape = true,
            (true, c) => is_escape = !c.is_ascii_alphabetic(),
            _ => width += 1,
        }
    }
    width
}

#[test]
fn status_is_drawn_in_place_and_the_terminal_is_given_back() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let daemon = world.chat().start();
    let (mut child, drawn) = on_a_terminal(world.command(&["status", "--watch"]));
    let more = format!("lines: deskspool status\x1b[K\x1b[J\x1b[Hdeskspool {}", env!("CARGO_PKG_VERSION"));
    drawn.wait_for(&more, 0, PATIENCE).expect("it is drawn again, over what was there");
    daemon.chat(&crate::harness::events::message("ana", 0));
    drawn.wait_for("receiving       1/h", 0, PATIENCE).expect("it is drawn anew");
    daemon.stop();
    drawn.wait_for("asking each second until it is; Ctrl-C ends", 0, PATIENCE).expect("it goes on asking");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it is there");
    assert_eq!(child.wait().expect("it is ours").code(), Some(130));
    assert!(drawn.wait_for_end(PATIENCE), "it holds the terminal");
    let lines = drawn.all();
    assert!(lines[0].starts_with("\x1b[?1049h\x1b[?25l\x1b[Hdeskspool "), "{:?}", lines[0]);
    assert!(lines[ROWS as usize - 1].starts_with("… "), "as many lines as there are rows: {lines:?}");
    assert!(lines.last().is_some_and(|last| last.ends_with("\x1b[?25h\x1b[?1049l")), "{:?}", lines.last());
    let frames = lines.iter().flat_map(|line| line.split("\x1b[J"));
    let widest = frames.map(width).max();
    assert!(widest <= Some(usize::from(COLUMNS)), "{widest:?}: {lines:?}");
}

#[test]
fn a_check_of_many_sources_draws_a_bar_and_takes_it_away() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    for number in 0..24 {
        world.source(&format!("s{number}"), "preset = \"sendpulse@1\"\nsecret = \"abc\"");
    }
    world.write();
    let (mut child, drawn) = on_a_terminal(world.command(&["check", "--offline"]));
    assert_eq!(child.wait().expect("it is ours").code(), Some(0));
    assert!(drawn.wait_for_end(PATIENCE), "it holds the terminal");
    let text = drawn.all().join("\n");
    assert!(text.starts_with("\rchecking  ") && text.contains("  23 left of 24"), "{text}");
    let (bars, rest) = text.rsplit_once("\r\x1b[K").expect("it is taken away");
    assert!(!rest.contains("checking") && rest.contains("1 preset, 24 sources"), "{rest}");
    assert!(bars.split('\r').map(width).max() < Some(usize::from(COLUMNS)), "{bars}");
    // Elsewhere nothing is said of what is over in a moment.
    let piped = world.run(&["check", "--offline"]);
    assert_eq!((piped.code, piped.err.as_str()), (0, ""), "{piped:?}");
}
