//! Freshdesk is away for a while: nothing is lost, nobody hammers, and afterwards nobody floods.

use crate::harness::events::{delivered, message};
use crate::harness::{PATIENCE, World, sandbox};
use deskspool::backoff::Backoff;
use deskspool::sandbox::{Effect, Fault, RequestRecord, Sandbox};
use std::time::Duration;

/// Whole milliseconds are recorded.
const ROUNDING_MS: u64 = 1;

fn count(state: &deskspool::sandbox::State) -> usize {
    state.ticket_count() + state.note_count()
}

fn gaps_ms(requests: &[RequestRecord]) -> Vec<u64> {
    requests.windows(2).map(|pair| pair[1].at_ms.saturating_sub(pair[0].at_ms)).collect()
}

#[test]
fn everything_arrives_once_and_in_order_after_an_outage() {
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat();
    let daemon = world.start();
    daemon.chat(&message("early", 0));
    assert!(desk.wait_until(PATIENCE, |state| count(state) == 1), "nothing arrives before the outage");
    desk.set_down(true).unwrap();
    let calls_before = desk.requests().len();
    for number in 0..4 {
        for conversation in ["early", "ana", "luis", "eva"] {
            daemon.chat(&message(conversation, number + 1));
        }
    }
    // While it lasts, one probe speaks for all of them.
    let still_fails = |from: usize| {
        daemon.wait_for_after("freshdesk still fails", from);
        daemon.lines()
    };
    (0..4).fold(0, |from, _| still_fails(from));
    let attempts = daemon.log.all().iter().filter(|line| line.contains("attempt ")).count();
    assert!(
        attempts <= 1 + 4,
        "{attempts} attempts, where workers = 4 may begin at once and then one probes"
    );
    let status = world.run(&["status"]);
    assert!(status.out.contains("unreachable"), "{}", status.out);
    assert_eq!(desk.requests().len(), calls_before, "it is down");
    desk.set_down(false).unwrap();
    assert!(desk.wait_until(PATIENCE, |state| count(state) == 17), "not everything arrives");
    daemon.wait_for("freshdesk answers again");
    daemon.eventually("an empty queue", || world.queue("queued,deferred,in-flight").is_empty().then_some(()));
    let tickets = desk.tickets();
    assert_eq!(tickets.len(), 4);
    for conversation in ["ana", "luis", "eva"] {
        assert_eq!(delivered(&tickets, conversation), [1, 2, 3, 4], "{conversation}");
    }
    assert_eq!(delivered(&tickets, "early"), [0, 1, 2, 3, 4]);
    daemon.stop();
}

#[test]
fn the_gaps_between_probes_grow_with_the_backoff() {
    const REFUSED: usize = 7;
    let desk = sandbox();
    desk.add_fault(Fault::new(Effect::WrongKey).first(REFUSED as u64));
    let mut world = World::new(&desk);
    let backoff = "{ first = \"100ms\", factor = 2.0, max = \"2s\", jitter = 0.0 }";
    world.chat().set("delivery", "backoff", backoff).set("delivery", "workers", "1");
    let daemon = world.start();
    daemon.chat(&message("ana", 0));
    assert!(desk.wait_until(PATIENCE, |state| state.ticket_count() == 1), "it never arrives");
    let requests = desk.requests();
    let backoff =
        Backoff { first: Duration::from_millis(100), factor: 2.0, max: Duration::from_secs(2), jitter: 0.0 };
    let gaps = gaps_ms(&requests[..=REFUSED]);
    for (gap, failures) in gaps.iter().zip(1..) {
        let shortest = u64::try_from(backoff.bounds(failures).0.as_millis()).unwrap();
        assert!(gap + ROUNDING_MS >= shortest, "gap {failures} of {gaps:?} is shorter than {shortest} ms");
    }
    // One attempt showed it; then probes, which cost the envelope nothing; then the attempt that delivers.
    let is_probe = |request: &RequestRecord| request.path == "/api/v2/agents/me";
    let probes: Vec<bool> = requests.iter().map(is_probe).collect();
    assert_eq!(probes, [vec![false], vec![true; REFUSED], vec![false]].concat(), "{requests:?}");
    daemon.stop();
}

/// The most calls that fall into any minute, as Freshdesk saw them.
fn most_in_a_minute(desk: &Sandbox) -> usize {
    let at: Vec<u64> = desk.requests().iter().map(|request| request.at_ms).collect();
    let in_minute_from = |start: u64| at.iter().filter(|at| (start..start + 60_000).contains(at)).count();
    at.iter().map(|start| in_minute_from(*start)).max().unwrap_or_default()
}

#[test]
fn after_an_outage_no_minute_has_more_calls_than_configured() {
    const RATE: usize = 5;
    let desk = sandbox();
    let mut world = World::new(&desk);
    world.chat().set("freshdesk", "rate_per_minute", &RATE.to_string());
    let daemon = world.start();
    desk.set_down(true).unwrap();
    for conversation in 0..2 * RATE {
        daemon.chat(&message(&format!("c{conversation}"), 0));
    }
    daemon.wait_for("attempt deferred");
    desk.set_down(false).unwrap();
    // The second minute must have begun.
    let two_minutes = Duration::from_secs(120) + PATIENCE;
    assert!(desk.wait_until(two_minutes, |state| state.requests().len() > RATE), "calls stopped for good");
    let most = most_in_a_minute(&desk);
    assert!(most <= RATE, "{most} calls in a minute: {:?}", desk.requests());
    daemon.stop();
}
