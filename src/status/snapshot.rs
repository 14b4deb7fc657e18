//! The snapshot: is it receiving, is it delivering, what needs me.

use super::period::{Count, Gauges};
use super::tally::{SourceTally, Tally};
use crate::clock::{Clock, Timestamp, spell};
use crate::dispatch::{Dispatch, Standing};
use crate::freshdesk::outcome::Cause;
use crate::pauses::{DELIVERY, INTAKE, Pause, Pauses};
use crate::spool::{Damage, QueueError, Spool, State};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A certificate that ends sooner than in two weeks needs a person: what renews it by itself did not.
const RENEW_CERTIFICATE_SECONDS: u64 = 14 * 86_400;

/// Everything one screen shows. Durations are whole seconds, moments are RFC 3339 in UTC.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Snapshot {
    /// Of the running daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds it has been up.
    pub up_seconds: u64,
    /// Seconds since its configuration was loaded.
    pub config_age_seconds: u64,
    /// Is it receiving?
    pub intake: IntakeView,
    /// Is it delivering?
    pub delivery: DeliveryView,
    /// Does Freshdesk answer?
    pub freshdesk: FreshdeskView,
    /// How many envelopes stand where.
    pub spool: SpoolView,
    /// Source by source.
    pub sources: Vec<SourceView>,
    /// What a person has to look at.
    pub needs_you: Vec<Need>,
    /// Set when no daemon runs: the spool that was read instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_from: Option<String>,
}

/// Is it receiving?
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct IntakeView {
    /// Why platforms get 503, if they do: `spool full`, `disk low`.
    pub refusing: Option<String>,
    /// Events of the last hour.
    pub per_hour: u64,
    /// Seconds since the last one.
    pub last_event_seconds: Option<u64>,
    /// Where systemd listens for us; `server.listen` is ignored then. Empty when we listen ourselves.
    #[serde(default)]
    pub passed: Vec<SocketAddr>,
    /// When the certificate of `server.tls` ends, in seconds since 1970.
    #[serde(default)]
    pub certificate_ends: Option<u64>,
}

/// Is it delivering?
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct DeliveryView {
    /// Deliveries of the last hour.
    pub per_hour: u64,
    /// Median from event to ticket in the last hour.
    pub median_seconds: Option<f64>,
    /// Seconds a `Retry-After` still runs.
    pub paused_seconds: u64,
    /// By an admin: `paused: migrating, resumes in 2h`.
    #[serde(default)]
    pub paused: Option<String>,
}

/// Does Freshdesk answer?
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct FreshdeskView {
    /// The account, as configured.
    pub account: String,
    /// `reachable`, `unreachable`, `refuses our key`, `failing` or `not asked yet`.
    pub state: String,
    /// Why, when it is not reachable.
    pub reason: Option<String>,
    /// For how many seconds it has been so.
    pub trouble_seconds: Option<u64>,
    /// Seconds to the next probe.
    pub next_probe_seconds: Option<u64>,
    /// Seconds since it last did what was asked.
    pub last_success_seconds: Option<u64>,
    /// Calls left in this minute.
    pub calls_left: Option<u64>,
    /// Calls per minute.
    pub calls_total: Option<u64>,
}

/// How many envelopes stand where.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct SpoolView {
    /// Due now, or behind an earlier one of their conversation.
    pub queued: u64,
    /// Being sent.
    pub in_flight: u64,
    /// Waiting for the next try.
    pub deferred: u64,
    /// Set aside.
    pub held: u64,
    /// Not tried until an admin says so.
    pub dead: u64,
    /// Age of the oldest that waits for delivery.
    pub oldest_waiting_seconds: Option<u64>,
    /// Bytes of the journal.
    pub bytes: u64,
    /// Envelopes at which platforms get 503.
    #[serde(default)]
    pub envelopes_max: u64,
    /// Bytes at which platforms get 503.
    #[serde(default)]
    pub bytes_max: u64,
    /// Envelopes whose record was found damaged since the start: dead letters without their text.
    #[serde(default)]
    pub damaged_records: u64,
    /// Bytes of the journal that could not be read at the start, by segment.
    #[serde(default)]
    pub damaged_bytes: BTreeMap<u64, u64>,
}

/// One source.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// Seconds since its last event; none when it never sent one.
    pub last_event_seconds: Option<u64>,
    /// New events of the last 24 hours; the following four likewise.
    pub accepted: u64,
    /// In Freshdesk.
    pub delivered: u64,
    /// Ignored on purpose.
    pub filtered: u64,
    /// Sent again.
    pub duplicate: u64,
    /// Turned away.
    pub refused: u64,
    /// Envelopes that wait now.
    pub waiting: u64,
    /// Dead letters now.
    pub dead: u64,
}

/// Something for a person.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Need {
    /// How many.
    pub count: u64,
    /// `dead`, `held`, `refused`, `freshdesk`, `intake`, `config`, `certificate`, `damage`, `daemon`.
    pub what: String,
    /// Why, without customer text.
    pub why: String,
    /// The line to type.
    pub next: String,
}

/// What the daemon knows that no room does.
pub struct Daemon {
    /// Monotonic moment of its start.
    pub started: Duration,
    /// Monotonic moment its configuration was loaded.
    pub configured: Duration,
    /// The account, for people: `acme`.
    pub account: String,
    /// Names of the configured sources.
    pub sources: Vec<String>,
    /// Monotonic moment at which a configuration was last refused, if the one that runs is not the one on disk.
    pub refused: Option<Duration>,
    /// Freshdesk's address, for links to tickets.
    pub freshdesk_url: String,
    /// What platforms call, when the admin says so.
    pub public_url: Option<String>,
    /// What is not shown of customers.
    pub redact: Arc<[String]>,
    /// Envelopes at which platforms get 503.
    pub envelopes_max: u64,
    /// Bytes at which platforms get 503.
    pub bytes_max: u64,
    /// Where systemd listens for us.
    pub passed: Vec<SocketAddr>,
    /// When the certificate that platforms see ends, in seconds since 1970.
    pub certificate_ends: Option<u64>,
}

/// Takes the snapshot.
pub fn snapshot(
    daemon: &Daemon,
    clock: &dyn Clock,
    (spool, dispatch, tally, pauses): (&Spool, &Dispatch, &Tally, &Pauses),
) -> Result<Snapshot, QueueError> {
    taken(daemon, (clock, &dispatch.standing()), (spool, tally, pauses))
}

/// The same of a spool whose daemon does not run.
pub fn at_rest(
    daemon: &Daemon,
    clock: &dyn Clock,
    (spool, tally, pauses): (&Spool, &Tally, &Pauses),
) -> Result<Snapshot, QueueError> {
    let mut snapshot = taken(daemon, (clock, &Standing::default()), (spool, tally, pauses))?;
    let why = "the daemon is not running, platforms get no answer".to_owned();
    let next = "systemctl status deskspool".to_owned();
    snapshot.needs_you.retain(|need| need.what != "intake");
    snapshot.needs_you.insert(0, Need { count: 1, what: "daemon".to_owned(), why, next });
    snapshot.intake.refusing = Some("not running".to_owned());
    (snapshot.pid, snapshot.up_seconds, snapshot.config_age_seconds) = (0, 0, 0);
    Ok(snapshot)
}

fn taken(
    daemon: &Daemon,
    (clock, standing): (&dyn Clock, &Standing),
    (spool, tally, pauses): (&Spool, &Tally, &Pauses),
) -> Result<Snapshot, QueueError> {
    let (now, monotonic) = (clock.now(), clock.monotonic());
    let mut tallies = tally.sources();
    for name in &daemon.sources {
        tallies.entry(name.clone()).or_default();
    }
    let pauses = pauses.all();
    let paused = |what: &str| pauses.get(what).map(|pause| said(pause, now));
    let refusing = paused(INTAKE).map(|said| format!("paused{said}")).or_else(|| spool.unhealthy_reason());
    let freshdesk = freshdesk_view(&daemon.account, standing, monotonic);
    let mut needs_you = needs(&refusing, &freshdesk);
    needs_you.extend(pauses.iter().map(|(what, pause)| paused_need(what, pause, now)));
    needs_you.extend(daemon.refused.map(|at| not_applied(monotonic.saturating_sub(at))));
    needs_you.extend(daemon.certificate_ends.and_then(|ends| certificate(ends, now)));
    needs_you.extend(damage_need(&spool.damage()));
    needs_you.extend(letters(spool)?);
    needs_you.extend(refusals(&tallies));
    Ok(Snapshot {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        up_seconds: monotonic.saturating_sub(daemon.started).as_secs(),
        config_age_seconds: monotonic.saturating_sub(daemon.configured).as_secs(),
        intake: IntakeView {
            refusing,
            per_hour: sum_of(&tallies, Count::Accepted),
            last_event_seconds: tallies
                .values()
                .filter_map(|one| one.last_event)
                .max()
                .map(|at| now.since(at).as_secs()),
            passed: daemon.passed.clone(),
            certificate_ends: daemon.certificate_ends,
        },
        delivery: DeliveryView {
            per_hour: sum_of(&tallies, Count::Delivered),
            median_seconds: tally.median_age().map(|age| age.as_secs_f64()),
            paused_seconds: standing.paused_for.as_secs(),
            paused: paused(DELIVERY).map(|said| format!("paused{said}")),
        },
        freshdesk,
        spool: spool_view(daemon, spool, now)?,
        sources: source_views(&tallies, spool, now),
        needs_you,
        read_from: None,
    })
}

fn sum_of(tallies: &BTreeMap<String, SourceTally>, what: Count) -> u64 {
    tallies.values().map(|one| one.hour[what as usize]).sum()
}

fn freshdesk_view(account: &str, standing: &Standing, monotonic: Duration) -> FreshdeskView {
    let state = match (&standing.trouble, standing.last_success) {
        (Some(trouble), _) => match trouble.cause {
            Cause::Unreachable => "unreachable",
            Cause::Denied => "refuses our key",
            Cause::Server | Cause::RateLimited => "failing",
        },
        (None, Some(_)) => "reachable",
        (None, None) => "not asked yet",
    };
    let trouble = standing.trouble.as_ref();
    FreshdeskView {
        account: account.to_owned(),
        state: state.to_owned(),
        reason: trouble.map(|trouble| trouble.reason.clone()),
        trouble_seconds: trouble.map(|trouble| monotonic.saturating_sub(trouble.since).as_secs()),
        next_probe_seconds: trouble.map(|trouble| trouble.probe_at.saturating_sub(monotonic).as_secs()),
        last_success_seconds: standing.last_success.map(|ago| ago.as_secs()),
        calls_left: standing.rate.remaining,
        calls_total: standing.rate.total,
    }
}

/// How things stand, for the history.
pub fn gauges(clock: &dyn Clock, rooms: (&Spool, &Dispatch)) -> Result<Gauges, QueueError> {
    let (spool, dispatch) = rooms;
    let view = counted(spool, clock.now())?;
    let rate = dispatch.standing().rate;
    Ok(Gauges {
        queued: view.queued,
        in_flight: view.in_flight,
        deferred: view.deferred,
        held: view.held,
        dead: view.dead,
        oldest_seconds: view.oldest_waiting_seconds.unwrap_or(0),
        calls: rate.remaining.zip(rate.total),
    })
}

fn spool_view(daemon: &Daemon, spool: &Spool, now: Timestamp) -> Result<SpoolView, QueueError> {
    let (envelopes_max, bytes_max) = (daemon.envelopes_max, daemon.bytes_max);
    let Damage { lost, stretches } = spool.damage();
    let mut damaged_bytes = BTreeMap::new();
    for (segment, range) in stretches {
        *damaged_bytes.entry(segment).or_default() += range.end - range.start;
    }
    Ok(SpoolView {
        bytes: spool.journal_bytes(),
        envelopes_max,
        bytes_max,
        damaged_records: lost.len() as u64,
        damaged_bytes,
        ..counted(spool, now)?
    })
}

fn counted(spool: &Spool, now: Timestamp) -> Result<SpoolView, QueueError> {
    let mut view = SpoolView::default();
    for (_, state, count) in spool.counts() {
        match state {
            State::Queued => view.queued += count,
            State::Deferred => view.deferred += count,
            State::Held => view.held += count,
            State::Dead => view.dead += count,
        }
    }
    for (_, state) in spool.in_flight() {
        view.in_flight += 1;
        let counted = if state == State::Deferred { &mut view.deferred } else { &mut view.queued };
        *counted = counted.saturating_sub(1);
    }
    view.oldest_waiting_seconds = spool.oldest_waiting()?.map(|at| now.since(at).as_secs());
    Ok(view)
}

fn source_views(tallies: &BTreeMap<String, SourceTally>, spool: &Spool, now: Timestamp) -> Vec<SourceView> {
    let mut views: BTreeMap<&str, SourceView> = BTreeMap::new();
    let counts = spool.counts();
    for (name, tally) in tallies {
        let day = |what: Count| tally.day[what as usize];
        let view = SourceView {
            name: name.clone(),
            last_event_seconds: tally.last_event.map(|at| now.since(at).as_secs()),
            accepted: day(Count::Accepted),
            delivered: day(Count::Delivered),
            filtered: day(Count::Filtered),
            duplicate: day(Count::Duplicate),
            refused: day(Count::Refused),
            ..SourceView::default()
        };
        views.insert(name, view);
    }
    for (name, state, count) in &counts {
        let view =
            views.entry(name).or_insert_with(|| SourceView { name: name.clone(), ..SourceView::default() });
        if *state == State::Dead {
            view.dead += count;
        } else {
            view.waiting += count;
        }
    }
    views.into_values().collect()
}

/// ` by ana: migrating, resumes in 2h`.
fn said(pause: &Pause, now: Timestamp) -> String {
    let by = if pause.by.is_empty() { String::new() } else { format!(" by {}", pause.by) };
    let reason = if pause.reason.is_empty() { String::new() } else { format!(": {}", pause.reason) };
    let ends =
        pause.until.map(|until| format!(", resumes in {}", spell(Timestamp(until).since(now).as_secs())));
    by + &reason + &ends.unwrap_or_default()
}

fn paused_need(what: &str, pause: &Pause, now: Timestamp) -> Need {
    let effect = match what {
        INTAKE => "platforms get 503 and keep their events",
        DELIVERY => "events are taken and wait",
        _ => "its events are taken and held",
    };
    let why = format!("{what}{}; {effect}", said(pause, now));
    Need { count: 1, what: "paused".to_owned(), why, next: format!("deskspool resume {what}") }
}

fn needs(refusing: &Option<String>, freshdesk: &FreshdeskView) -> Vec<Need> {
    let mut needs = Vec::new();
    if let Some(reason) = refusing.as_ref().filter(|reason| !reason.starts_with("paused")) {
        let why = format!("{reason}, platforms get 503 and keep their events");
        let next = if reason == "disk low" { "df -h" } else { "deskspool queue" };
        needs.push(Need { count: 1, what: "intake".to_owned(), why, next: next.to_owned() });
    }
    if freshdesk.state == "refuses our key" {
        let why = freshdesk.reason.clone().unwrap_or_default();
        needs.push(Need { count: 1, what: "freshdesk".to_owned(), why, next: "deskspool check".to_owned() });
    }
    needs
}

/// The configuration on disk is not the one that runs.
fn not_applied(ago: Duration) -> Need {
    let why = format!("not applied {} ago, the one before still runs", crate::clock::spell(ago.as_secs()));
    Need { count: 1, what: "config".to_owned(), why, next: "deskspool check".to_owned() }
}

/// The certificate should have been renewed by now, or is of no use any more.
fn certificate(ends: u64, now: Timestamp) -> Option<Need> {
    let why = match ends.checked_sub(now.unix_seconds()) {
        Some(left) if left >= RENEW_CERTIFICATE_SECONDS => return None,
        Some(left) => format!("expires in {}", spell(left)),
        None => {
            let ago = spell(now.unix_seconds() - ends);
            format!("expired {ago} ago, platforms do not connect any more")
        }
    };
    let next = "renew server.tls.cert, then: deskspool reload".to_owned();
    Some(Need { count: 1, what: "certificate".to_owned(), why, next })
}

/// The journal is damaged: where, and whose text that was.
fn damage_need(damage: &Damage) -> Option<Need> {
    /// Numbers that are told; `salvage` tells all.
    const TOLD: usize = 5;
    let Damage { lost, stretches } = damage;
    if lost.is_empty() && stretches.is_empty() {
        return None;
    }
    let of = |segment: u64| lost.iter().filter(move |(_, other)| *other == segment);
    let segments: BTreeSet<u64> = stretches
        .iter()
        .map(|(segment, _)| *segment)
        .chain(lost.iter().map(|(_, segment)| *segment))
        .collect();
    let told = segments.iter().take(TOLD).map(|segment| {
        let ids: Vec<String> = of(*segment).take(TOLD).map(|(id, _)| id.to_string()).collect();
        let more = of(*segment).count().saturating_sub(TOLD);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        match ids.is_empty() {
            true => format!("segment {segment} (no event is lost)"),
            false => format!("segment {segment} (text lost of {}{more})", ids.join(", ")),
        }
    });
    let told: Vec<String> = told.collect();
    let more = segments.len().saturating_sub(TOLD);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(Need {
        count: (lost.len() as u64).max(1),
        what: "damage".to_owned(),
        why: format!("the journal is damaged in {}{more}", told.join(", ")),
        next: "systemctl stop deskspool; deskspool salvage".to_owned(),
    })
}

/// Dead and held envelopes, grouped by source and reason. They are walked only when there are any.
fn letters(spool: &Spool) -> Result<Vec<Need>, QueueError> {
    if !spool.counts().iter().any(|(_, state, _)| matches!(state, State::Dead | State::Held)) {
        return Ok(Vec::new());
    }
    let mut groups: BTreeMap<(&'static str, String), u64> = BTreeMap::new();
    let mut from = 0;
    loop {
        let page = spool.entries(from)?;
        for (_, entry, _) in &page {
            let what = match entry.state {
                State::Dead => "dead",
                State::Held => "held",
                State::Queued | State::Deferred => continue,
            };
            *groups.entry((what, format!("{}: {}", entry.source, entry.reason))).or_default() += 1;
        }
        match page.last() {
            Some((last, ..)) => from = last + 1,
            None => break,
        }
    }
    let need = |((what, why), count): ((&'static str, String), u64)| Need {
        count,
        what: what.to_owned(),
        why,
        next: format!("deskspool queue --state {what}"),
    };
    Ok(groups.into_iter().map(need).collect())
}

fn refusals(tallies: &BTreeMap<String, SourceTally>) -> Vec<Need> {
    let refused = tallies.iter().filter(|(_, one)| one.day[Count::Refused as usize] > 0);
    refused
        .map(|(source, one)| {
            let why = one.last_refusal.as_deref().unwrap_or("before the last restart");
            Need {
                count: one.day[Count::Refused as usize],
                what: "refused".to_owned(),
                why: format!("{source}: {why}"),
                next: format!("deskspool refused {source}"),
            }
        })
        .collect()
}
