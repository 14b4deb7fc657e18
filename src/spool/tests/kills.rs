//! A process that works on a spool is killed, again and again: what it had said before holds.
//!
//! The process is this test binary, told by an environment variable to be the child.

use super::super::*;
use super::cuts::{cases, scratch, seed};
use super::lives::limits;
use super::{RAN, START};
use crate::backoff::Dice;
use crate::clock::ManualClock;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const ROUNDS: usize = 220;
const LINES_MAX: u64 = 60;
const SPOOL: &str = "DESKSPOOL_TEST_KILLED_SPOOL";
const FIRST: &str = "DESKSPOOL_TEST_KILLED_FIRST";

fn envelope(number: u64) -> Envelope {
    let body = format!("{number} ").repeat(40 + usize::try_from(number % 700).expect("small"));
    Envelope {
        id: 0,
        received_at: START,
        source: "test".into(),
        kind: String::new(),
        event_id: number.to_string(),
        dedupe: hash_of(&[&number.to_le_bytes()]),
        dedupe_window: Duration::from_secs(1 << 30),
        conversation: (number % 7).to_string(),
        peer: String::new(),
        context: Vec::new(),
        body: body.into_bytes(),
        born_dead: None,
        origin: None,
    }
}

/// The child's life: says what it has, then works until it is killed.
fn work(directory: &Path, first: u64) {
    let ground = Ground { segment_bytes: 16 << 10, garbage_min: 32 << 10, ..Ground::default() };
    let opened = Spool::open_on(ground, directory, limits(), ManualClock::at(START));
    let (spool, recovery) = opened.expect("the spool opens");
    assert_eq!((recovery.lost, recovery.damaged), (vec![], vec![]));
    // The test's name is on the line that has begun.
    println!();
    let mut from = 0;
    loop {
        let page = spool.entries(from).expect("readable");
        let Some((last, ..)) = page.last() else { break };
        from = last + 1;
        for (id, entry, _) in page {
            let held = spool.envelope(&entry).expect("readable");
            let number = held.event_id.parse().expect("a number");
            assert_eq!(held, Envelope { id, ..envelope(number) });
            println!("@ has {number} {}", u8::from(entry.doubt.is_some()));
        }
    }
    println!("@ had 0 0");
    let mut dice = Dice::seeded(first);
    for number in first.. {
        println!("@ puts {number} 0");
        spool.put_and_wait(vec![envelope(number)]).expect("there is room");
        println!("@ put {number} 0");
        if dice.next_u64() % 8 == 0 {
            continue;
        }
        for _ in 0..2 {
            deliver(&spool);
        }
    }
}

fn deliver(spool: &Spool) {
    let Leased::One(lease) = spool.lease_due().expect("readable") else { return };
    let (id, number) = (lease.envelope.id, &lease.envelope.event_id);
    spool.begin(id, START, None).expect("writable");
    println!("@ begun {number} 0");
    let conversation = lease.envelope.conversation_hash();
    println!("@ settles {number} 0");
    let change = Change::Delivered { ticket: Some(1), conversation, ran: RAN };
    spool.settle(id, change).expect("writable");
    println!("@ settled {number} 0");
}

#[test]
fn child() {
    if let (Ok(directory), Ok(first)) = (std::env::var(SPOOL), std::env::var(FIRST)) {
        work(Path::new(&directory), first.parse().expect("a number"));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    /// Nobody said that it is there.
    Tried,
    Put,
    /// Perhaps settled, and perhaps the journal does not have it.
    Settling,
    Gone,
}

/// What the parent was told.
#[derive(Default)]
struct Told {
    known: BTreeMap<u64, Known>,
    has: BTreeMap<u64, bool>,
    next: u64,
    /// The last things that were said of each.
    story: BTreeMap<u64, Vec<String>>,
}

impl Told {
    fn line(&mut self, line: &str) {
        let mut words = line.split(' ');
        if words.next() != Some("@") {
            return;
        }
        let (Some(what), Some(number), Some(doubt)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let (Ok(number), is_in_doubt) = (number.parse::<u64>(), doubt == "1") else { return };
        self.story.entry(number).or_default().push(line.to_owned());
        match what {
            "has" => drop(self.has.insert(number, is_in_doubt)),
            "had" => self.compare(),
            "puts" => {
                self.next = number + 1;
                self.known.insert(number, Known::Tried);
            }
            "put" | "begun" => {
                // A sync that came after a settle has it, too.
                self.settle_all();
                self.known.insert(number, Known::Put);
            }
            "settles" | "settled" => drop(self.known.insert(number, Known::Settling)),
            other => panic!("{other} is no word of the child"),
        }
    }

    fn settle_all(&mut self) {
        for known in self.known.values_mut().filter(|known| **known == Known::Settling) {
            *known = Known::Gone;
        }
    }

    fn compare(&mut self) {
        let has = std::mem::take(&mut self.has);
        for (number, known) in &mut self.known {
            let found = has.get(number);
            match (*known, found) {
                (Known::Put, None) => panic!("{number} was put and is gone: {:?}", self.story[number]),
                (Known::Gone, Some(_)) => {
                    panic!("{number} was settled and is back: {:?}", self.story[number])
                }
                (Known::Settling, Some(false)) => panic!("{number} is back, and not in doubt"),
                _ => *known = if found.is_some() { Known::Put } else { Known::Gone },
            }
        }
        assert!(has.keys().all(|number| self.known.contains_key(number)), "{has:?}");
    }
}

#[test]
fn what_was_said_before_a_kill_holds_after_it() {
    let seed = seed();
    let mut dice = Dice::seeded(seed);
    let directory = scratch();
    let mut told = Told { next: 1, ..Told::default() };
    let rounds = cases(ROUNDS);
    for _ in 0..rounds {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "spool::tests::kills::child", "--nocapture", "--test-threads=1"])
            .env(SPOOL, directory.path().join("spool"))
            .env(FIRST, told.next.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
        let patience = usize::try_from(dice.next_u64() % LINES_MAX).expect("small");
        let mut lines = lines.map_while(Result::ok);
        // The lines about what is there are not counted; a kill may come before them, too.
        let mut heard = 0;
        while heard < patience {
            let Some(line) = lines.next() else { panic!("SEED={seed}: the child ended by itself") };
            heard += usize::from(!line.starts_with("@ has"));
            told.line(&line);
        }
        child.kill().expect("it can be killed");
        // What it said before it died counts.
        lines.for_each(|line| told.line(&line));
        child.wait().expect("it is gone");
        told.has.clear();
    }
    let waiting = told.known.values().filter(|known| **known == Known::Put).count();
    println!("{rounds} kills, {} events, {waiting} left; SEED={seed}", told.next - 1);
}
