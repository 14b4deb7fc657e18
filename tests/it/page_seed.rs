//! A past for the status page: thirty days of five platforms, an outage, a platform that stopped calling.

use deskspool::clock::{Clock, SystemClock};
use deskspool::spool::{Limits, Spool};
use deskspool::status::history::History;
use deskspool::status::period::Mark;
use deskspool::status::{Count, Gauges, Period};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Minutes of the past that are written.
const MINUTES: u64 = 30 * 24 * 60;
/// The outage: from and to, in minutes before now.
const OUTAGE: std::ops::Range<u64> = 300..360;

/// Writes it into the spool in `directory`, which no daemon has open.
pub fn seed(directory: &Path, sources: &[&str]) {
    let clock = SystemClock::new();
    let now = clock.now().unix_seconds() / 60;
    let (spool, _) = Spool::open(directory, Limits::default(), clock).expect("nobody has it");
    let history = History::new(Arc::new(spool));
    for ago in (1..MINUTES).rev().filter(|ago| *ago < 2 * 24 * 60 || ago % 15 == 0) {
        history.put_minute(now - ago, &minute(ago, sources)).expect("there is room");
        if ago % (24 * 60) == 0 {
            history.roll_up(now - ago).expect("there is room");
        }
    }
    history.roll_up(now).expect("there is room");
}

fn minute(ago: u64, sources: &[&str]) -> Period {
    let mut period = Period::default();
    let is_down = OUTAGE.contains(&ago);
    let daily = ((ago as f64 / 1440.0 * std::f64::consts::TAU).cos() + 1.2) * 1.5;
    for (index, source) in sources.iter().enumerate() {
        let times = ((ago * 7 + index as u64 * 13) % 5) as f64 * daily / (index + 1) as f64;
        // The last one has stopped calling.
        let times = if index + 1 == sources.len() && ago < 500 { 0 } else { times as usize };
        if times == 0 {
            continue;
        }
        period.count(source, Count::Accepted, times);
        if is_down {
            period.count(source, Count::Deferred, times);
            period.reason(if ago % 3 == 0 {
                "timeout after the request was sent"
            } else {
                "503 Service Unavailable"
            });
        } else {
            period.count(source, Count::Delivered, times);
            for one in 0..times {
                period.age(Duration::from_millis(600 + 700 * one as u64 + (ago % 7) * 300));
            }
        }
        if index == 1 && ago % 700 == 3 {
            period.count(source, Count::Refused, 1);
        }
        if index == 0 && ago % 900 == 4 {
            period.count(source, Count::Dead, 1);
            period.reason("freshdesk 400: phone is invalid (requester.phone)");
        }
    }
    let waiting = if is_down { (OUTAGE.end - ago) * 4 } else { u64::from(ago % 9 == 0) * 3 };
    period.observe(Gauges {
        queued: waiting / 4,
        in_flight: 1,
        deferred: waiting - waiting / 4,
        held: 0,
        dead: if ago < 900 { 3 } else { 1 },
        oldest_seconds: if is_down { (OUTAGE.end - ago) * 60 } else { ago % 40 },
        calls: Some((if is_down { 50 } else { 50 - ago % 35 }, 50)),
    });
    if ago == 700 {
        let at = SystemClock::new().now().unix_seconds() - ago * 60;
        period.mark(Mark(at, "reloaded".to_owned()));
    }
    period
}
