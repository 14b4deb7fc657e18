//! The corpus through the real binary: each request of `tests/corpus` as raw bytes to a daemon of its own, whose
//! Freshdesk is an empty sandbox; what is then in the desk is compared with what a support admin expects.
//! `cargo test --test corpus -- --nocapture` prints the table per platform.
//!
//! `DESKSPOOL_CORPUS=contako` runs only the cases whose name contains that, and prints what came of each.

#[path = "it/harness/mod.rs"]
#[allow(dead_code, unused_imports)]
mod harness;
mod preset_cases;

use deskspool::control::client;
use deskspool::freshdesk::write::Requester;
use deskspool::sandbox::{ContactView, Sandbox, TicketView};
use harness::{Daemon, PATIENCE, World, sandbox};
use preset_cases::Case;
use preset_cases::compare::{Classes, Outcome, Seen, judge};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Daemons at a time. They mostly wait for disks and sockets.
const LANES: usize = 6;
const CASES: usize = 200;

/// Cases that do not pass yet, and why. A case that passes must not be listed.
const NOT_YET: &[(&str, &str)] = &[];

#[test]
fn the_corpus_passes() {
    let cases = Case::all();
    let only = std::env::var("DESKSPOOL_CORPUS").ok();
    let all: Vec<&Case> = cases.iter().filter(|case| case.is_corpus).collect();
    assert_eq!(all.len(), CASES, "the corpus is complete");
    let wanted = |case: &&Case| only.as_ref().is_none_or(|only| case.name.contains(only.as_str()));
    let wanted: Vec<&Case> = all.into_iter().filter(wanted).collect();
    let wrong = run_all(&wanted, &cases, only.is_some());
    let mut table: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for (case, wrong) in wanted.iter().zip(&wrong) {
        let row = table.entry(&case.platform).or_default();
        row.0 += u32::from(wrong.is_empty());
        row.1 += 1;
    }
    let passed: u32 = table.values().map(|(passed, _)| passed).sum();
    for (platform, (passed, all)) in &table {
        println!("{platform:20} {passed:3} of {all:3}");
    }
    println!("{:20} {passed:3} of {:3}", "all", wanted.len());
    let mut unexpected = Vec::new();
    for (case, wrong) in wanted.iter().zip(&wrong) {
        let listed = NOT_YET.iter().find(|(name, _)| *name == case.name);
        match (listed, wrong.as_slice()) {
            (None, []) => {}
            (Some((name, reason)), [_, ..]) => println!("not yet    {name}: {reason}"),
            (Some((name, _)), []) => unexpected.push(format!("{name} passes and must not be listed")),
            (None, wrong) => {
                unexpected.push(format!("{}\n           {}", case.name, wrong.join("\n           ")))
            }
        }
    }
    assert!(unexpected.is_empty(), "{} cases:\n{}", unexpected.len(), unexpected.join("\n"));
}

/// What is wrong with each, in their order.
fn run_all(wanted: &[&Case], cases: &[Case], shows: bool) -> Vec<Vec<String>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, Vec<String>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..LANES.min(wanted.len()) {
            scope.spawn(|| {
                while let Some(case) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let index = wanted.iter().position(|other| std::ptr::eq(*other, *case));
                    // One that breaks must not hide the table.
                    let wrong = catch_unwind(AssertUnwindSafe(|| run(case, cases, shows)))
                        .unwrap_or_else(|_| vec!["it panicked, see above".to_owned()]);
                    results
                        .lock()
                        .expect("no lane panics here")
                        .insert(index.expect("it is one of them"), wrong);
                }
            });
        }
    });
    let results = results.into_inner().expect("all lanes have ended well");
    results.into_values().collect()
}

/// One case on a machine of its own.
fn run(case: &Case, cases: &[Case], shows: bool) -> Vec<String> {
    let desk = sandbox();
    let mut world = World::new(&desk);
    let secret = case.secret().map(|secret| format!("secret = {secret:?}\n")).unwrap_or_default();
    world.source(&case.platform, &format!("{}{secret}", case.table()));
    if let Some(url) = case.public_url() {
        world.set("server", "public_url", &format!("{url:?}"));
    }
    let mut daemon = start(&world, case.clock());
    for before in case.before(cases) {
        if let Err(error) = exchange(daemon.address, &before.raw) {
            return vec![format!("{} before it: {error}", before.name)];
        }
        settle(&world, &daemon);
    }
    if let Some(delay) = case.delay_seconds() {
        // Another time is a daemon that is started then.
        daemon.stop();
        daemon = start(&world, Some(case.clock().unwrap_or(1_763_712_073) + delay));
    }
    let before = Desk::of(&desk);
    let answer = match exchange(daemon.address, &case.raw) {
        Ok(answer) => answer,
        Err(error) => return vec![format!("no answer: {error}")],
    };
    settle(&world, &daemon);
    let outcome = outcome(answer, &before, &Desk::of(&desk), dead(&world));
    if shows {
        println!("======== {}\n{outcome:#?}", case.name);
    }
    daemon.kill();
    judge(case, &outcome, &mut Classes::default())
}

fn start(world: &World, clock: Option<u64>) -> Daemon {
    world.write();
    let clock = clock.map(|seconds| seconds.to_string());
    let mut arguments = vec!["serve"];
    arguments.extend(clock.iter().flat_map(|seconds| ["--clock", seconds]));
    Daemon::start(world.command(&arguments))
}

/// Waits until everything that was accepted is delivered or dead. It is counted before it is answered, but may be on
/// its way into the queue still.
fn settle(world: &World, daemon: &Daemon) {
    let accepted = || {
        let status = client::Daemon::at(&world.socket()).get("/status").expect("the daemon answers");
        let status: serde_json::Value = serde_json::from_str(&status).expect("it is JSON");
        let sources = status["sources"].as_array().cloned().unwrap_or_default();
        sources.iter().filter_map(|source| source["accepted"].as_u64()).sum::<u64>()
    };
    daemon.eventually("everything is settled", || {
        (rows(world, "delivered,dropped,dead").len() as u64 == accepted()).then_some(())
    });
}

fn rows(world: &World, states: &str) -> Vec<serde_json::Value> {
    let asked = client::Daemon::at(&world.socket()).get(&format!("/queue?state={states}"));
    let rows = asked.expect("the daemon answers");
    rows.lines().map(|line| serde_json::from_str(line).expect("one object per line")).collect()
}

/// Why each dead letter is one.
fn dead(world: &World) -> Vec<String> {
    let reason = |row: &serde_json::Value| row["last_error"].as_str().unwrap_or_default().to_owned();
    rows(world, "dead").iter().map(reason).collect()
}

/// What is in Freshdesk.
struct Desk {
    tickets: Vec<TicketView>,
    contacts: Vec<ContactView>,
}

impl Desk {
    fn of(desk: &Sandbox) -> Desk {
        Desk { tickets: desk.tickets(), contacts: desk.contacts() }
    }
}

/// What a request came to, from its answer and from what is in the desk now and was not before.
fn outcome(answer: Answer, before: &Desk, now: &Desk, dead: Vec<String>) -> Outcome {
    let mut events = Vec::new();
    for ticket in &now.tickets {
        let known = before.tickets.iter().find(|other| other.id == ticket.id);
        let notes_before = known.map_or(0, |known| known.notes.len());
        if known.is_none() {
            events.push(created(ticket));
        }
        let mut notes = ticket.notes[notes_before..].iter().map(|note| Seen {
            actions: vec!["add_note"],
            text: Some(note.body.clone()),
            has_attachment: !note.attachments.is_empty(),
            is_sanitised: true,
            tags: Some(ticket.tags.clone()),
            ..Seen::default()
        });
        let is_updated = known.is_some_and(|known| is_changed(known, ticket));
        let first = notes.next();
        if let (true, first) = (is_updated, &first) {
            let mut updated = first.clone().unwrap_or_default();
            updated.actions.push("update_ticket");
            updated.tags = Some(ticket.tags.clone());
            events.push(updated);
        } else {
            events.extend(first);
        }
        events.extend(notes);
    }
    let is_contact_of_a_new_ticket = |contact: &ContactView| {
        let is_new = |ticket: &&TicketView| before.tickets.iter().all(|other| other.id != ticket.id);
        now.tickets.iter().filter(is_new).any(|ticket| ticket.requester.id == contact.id)
    };
    let contacts = now.contacts.iter().filter(|contact| !before.contacts.contains(contact));
    events.extend(contacts.filter(|contact| !is_contact_of_a_new_ticket(contact)).map(written));
    events.extend(dead.into_iter().map(|reason| Seen { dead: Some(reason), ..Seen::default() }));
    Outcome {
        is_rejected: !(200..300).contains(&answer.status),
        status: Some(answer.status),
        body: Some(answer.body),
        content_type: answer.content_type,
        tickets: now.tickets.len() as u64,
        events,
    }
}

fn created(ticket: &TicketView) -> Seen {
    let requester = &ticket.requester;
    Seen {
        actions: vec!["create_ticket"],
        requester: Some(Requester {
            // The desk makes a name of an id that has none.
            name: requester.name.clone().filter(|name| Some(name) != requester.unique_external_id.as_ref()),
            email: requester.email.clone(),
            phone: requester.phone.clone(),
            external_id: requester.unique_external_id.clone(),
        }),
        subject: Some(ticket.subject.clone()),
        text: Some(ticket.description.clone()),
        tags: Some(ticket.tags.clone()),
        has_attachment: !ticket.attachments.is_empty(),
        is_sanitised: true,
        ..Seen::default()
    }
}

fn is_changed(before: &TicketView, now: &TicketView) -> bool {
    let fields = |ticket: &TicketView| {
        let numbers =
            (ticket.status, ticket.priority, ticket.group_id, ticket.responder_id, ticket.product_id);
        (numbers, ticket.ticket_type.clone(), ticket.tags.clone(), ticket.custom_fields.clone())
    };
    fields(before) != fields(now)
}

fn written(contact: &ContactView) -> Seen {
    Seen {
        actions: vec!["upsert_contact"],
        requester: Some(Requester {
            name: contact.name.clone(),
            email: contact.email.clone(),
            phone: contact.phone.clone().or(contact.mobile.clone()),
            external_id: contact.unique_external_id.clone(),
        }),
        ..Seen::default()
    }
}

struct Answer {
    status: u16,
    content_type: Option<String>,
    body: String,
}

/// Sends the bytes on a plain socket, closes our half, and reads all that comes back.
fn exchange(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A refusal may come, and the connection be closed, before all was sent.
    let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut received = Vec::new();
    let read = stream.read_to_end(&mut received);
    match parse(&String::from_utf8_lossy(&received)) {
        Some(answer) => Ok(answer),
        None => Err(sent.and(read).err().unwrap_or_else(|| std::io::Error::other("no status line"))),
    }
}

/// The first answer that is not `100 Continue`.
fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if status == 100 {
        return parse(body);
    }
    let content_type = lines
        .filter_map(|line| line.split_once(": "))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("content-type").then(|| value.to_owned()));
    Some(Answer { status, content_type, body: body.to_owned() })
}
