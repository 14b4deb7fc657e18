//! What needs a person, from the snapshot that every view shows.

use crate::clock::spell;
use crate::status::Snapshot;
use std::collections::BTreeMap;
use std::time::Duration;

/// The spool is filling above this share.
const FULL_PERCENT: u64 = 80;
/// A source is silent after so many times its usual gap.
const GAPS: u32 = 3;
/// No gap is so usual that less than this is silence.
const GAP_MIN: Duration = Duration::from_secs(600);

/// Something a person has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matter {
    /// What it is about; the same while it lasts: `dead`, `silent:contako`.
    pub key: String,
    /// One line, without customer text.
    pub text: String,
    /// What to type.
    pub next: String,
}

/// What the admin finds worth an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Age of the oldest that waits.
    pub oldest_waiting: Duration,
}

/// All there is now. `gaps` are the usual longest gaps between two events, of sources that have some.
pub fn matters(snapshot: &Snapshot, gaps: &BTreeMap<String, Duration>, limits: Limits) -> Vec<Matter> {
    let mut matters = Vec::new();
    let mut add = |key: &str, text: String, next: &str| {
        matters.push(Matter { key: key.to_owned(), text, next: next.to_owned() });
    };
    let spool = &snapshot.spool;
    if spool.dead > 0 {
        let why = snapshot.needs_you.iter().find(|need| need.what == "dead");
        let why = why.map(|need| format!(", {}", need.why)).unwrap_or_default();
        let letters = if spool.dead == 1 { "letter" } else { "letters" };
        add("dead", format!("{} dead {letters}{why}", spool.dead), "deskspool queue --state dead");
    }
    for need in &snapshot.needs_you {
        match need.what.as_str() {
            "freshdesk" => add("freshdesk", format!("delivery waits: {}", need.why), &need.next),
            "intake" => add("intake", need.why.clone(), &need.next),
            "certificate" => {
                let text = format!("the certificate {}", need.why);
                // That it has ended is a matter of its own, beside that it would.
                if need.why.starts_with("expired") {
                    add("certificate-expired", text.clone(), &need.next);
                }
                add("certificate", text, &need.next);
            }
            "damage" => add("damage", need.why.clone(), &need.next),
            "config" => add("config", format!("configuration {}", need.why), &need.next),
            _ => {}
        }
    }
    if let Some(age) = spool.oldest_waiting_seconds.filter(|age| *age > limits.oldest_waiting.as_secs()) {
        let reason = snapshot.freshdesk.reason.as_deref().map(|reason| format!(" ({reason})"));
        let text = format!("the oldest event has waited for {}{}", spell(age), reason.unwrap_or_default());
        add("oldest", text, "deskspool status");
    }
    let held = spool.queued + spool.deferred + spool.held + spool.dead + spool.in_flight;
    let percent = |part: u64, whole: u64| part.saturating_mul(100).checked_div(whole).unwrap_or(0);
    let full = percent(held, spool.envelopes_max).max(percent(spool.bytes, spool.bytes_max));
    if full > FULL_PERCENT {
        add(
            "spool",
            format!("the spool is {full} % full; when it is full, platforms get 503"),
            "deskspool queue",
        );
    }
    for view in &snapshot.sources {
        let (Some(ago), Some(gap)) = (view.last_event_seconds, gaps.get(&view.name)) else { continue };
        let usual = (*gap).max(GAP_MIN);
        if Duration::from_secs(ago) > usual * GAPS {
            let text = format!(
                "{} has been silent for {}, its longest gap of the last week was {}",
                view.name,
                spell(ago),
                spell(gap.as_secs())
            );
            add(&format!("silent:{}", view.name), text, &format!("deskspool refused {}", view.name));
        }
    }
    matters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::{Need, SourceView};

    fn keys(change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
        let mut snapshot = Snapshot::default();
        snapshot.spool.envelopes_max = 100;
        snapshot.spool.bytes_max = 1000;
        change(&mut snapshot);
        let gaps = [("often", 60), ("seldom", 7200)];
        let gaps = gaps.map(|(name, seconds)| (name.to_owned(), Duration::from_secs(seconds))).into();
        let limits = Limits { oldest_waiting: Duration::from_secs(900) };
        matters(&snapshot, &gaps, limits).into_iter().map(|matter| matter.key).collect()
    }

    #[test]
    fn each_matter_has_its_moment() {
        let check = |change: fn(&mut Snapshot), expect: &[&str]| assert_eq!(keys(change), expect);
        check(|_| (), &[]);
        check(|snapshot| snapshot.spool.dead = 1, &["dead"]);
        check(|snapshot| snapshot.spool.oldest_waiting_seconds = Some(900), &[]);
        check(|snapshot| snapshot.spool.oldest_waiting_seconds = Some(901), &["oldest"]);
        check(|snapshot| snapshot.spool.queued = 80, &[]);
        check(|snapshot| snapshot.spool.queued = 81, &["spool"]);
        check(|snapshot| snapshot.spool.bytes = 900, &["spool"]);
        let need = |what: &str| Need { count: 1, what: what.into(), why: "401".into(), next: "x".into() };
        let certificate = |why: &str| Need { why: why.into(), ..need("certificate") };
        let keys_of = |why: &str| keys(|snapshot| snapshot.needs_you.push(certificate(why)));
        assert_eq!(keys_of("expires in 3d"), ["certificate"]);
        assert_eq!(keys_of("expired 1m ago, …"), ["certificate-expired", "certificate"]);
        assert_eq!(keys(|snapshot| snapshot.needs_you.push(need("freshdesk"))), ["freshdesk"]);
        assert_eq!(keys(|snapshot| snapshot.needs_you.push(need("refused"))), [""; 0]);
    }

    #[test]
    fn a_source_is_silent_after_three_times_its_usual_gap() {
        let silent = |name: &str, ago: Option<u64>| {
            let view = SourceView { name: name.into(), last_event_seconds: ago, ..SourceView::default() };
            keys(|snapshot| snapshot.sources.push(view))
        };
        assert_eq!(silent("often", Some(1800)), [""; 0], "ten minutes are never unusual");
        assert_eq!(silent("often", Some(1801)), ["silent:often"]);
        assert_eq!(silent("seldom", Some(21_600)), [""; 0]);
        assert_eq!(silent("seldom", Some(21_601)), ["silent:seldom"]);
        assert_eq!(silent("new", Some(1_000_000)), [""; 0], "nothing is known of it");
        assert_eq!(silent("often", None), [""; 0]);
    }
}
