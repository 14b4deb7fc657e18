//! The metrics in Prometheus' text format, version 0.0.4.
//!
//! **Invariant:** the names and labels are those of the documentation; they are a contract. Base units, counters end
//! in `_total`; a gauge whose value is not known is left out.

use super::meters::{BySourceAnd, Histogram, Numbers};
use super::period::{COUNTS, Count};
use super::snapshot::Snapshot;
use crate::clock::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The `Content-Type` of an exposition.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the metrics are made of.
pub struct Exposed<'a> {
    /// What every view shows.
    pub snapshot: &'a Snapshot,
    /// What was counted since the start.
    pub numbers: &'a Numbers,
    /// Wall time.
    pub now: Timestamp,
    /// When the oldest envelope came in, by state.
    pub oldest: Vec<(&'static str, Timestamp)>,
    /// Freshdesk's answers by status; 0 stands for none.
    pub answers: Vec<(u16, u64)>,
    /// Requests the gate refused because of their size.
    pub too_large: u64,
    /// When the running configuration was loaded.
    pub configured_at: Timestamp,
    /// Whether the last reload was applied.
    pub is_configured_as_on_disk: bool,
    /// What can be paused, and whether it is.
    pub paused: Vec<(String, bool)>,
}

/// Writes it.
pub fn expose(exposed: &Exposed<'_>) -> String {
    let mut text = Text { out: String::with_capacity(16 * 1024) };
    let version = [("version", exposed.snapshot.version.as_str())];
    text.family("deskspool_build_info", "gauge", "The running version; always 1.");
    text.sample("deskspool_build_info", &version, 1);
    text.intake(exposed);
    text.spool(exposed);
    text.delivery(exposed);
    text.freshdesk(exposed);
    text.daemon(exposed);
    text.out
}

struct Text {
    out: String,
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.out.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{opening}{label}=\"{}\"", escaped(text));
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{closing} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.family(name, "gauge", help);
            self.sample(name, &[], value);
        }
    }

    fn pairs(&mut self, name: &str, help: &str, label: &str, counts: &BySourceAnd) {
        self.family(name, "counter", help);
        for ((source, word), count) in counts {
            self.sample(name, &[("source", source), (label, word)], count);
        }
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut sum = 0;
        let bounds = histogram.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&histogram.counts) {
            sum += count;
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.sample(&format!("{name}_bucket"), &labels, sum);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, sum);
    }

    fn histograms(&mut self, name: &str, help: &str, histograms: &BTreeMap<String, Histogram>) {
        self.family(name, "histogram", help);
        for (source, histogram) in histograms {
            self.histogram(name, &[("source", source)], histogram);
        }
    }

    fn intake(&mut self, exposed: &Exposed<'_>) {
        let Numbers { events, refused, requests, .. } = exposed.numbers;
        self.family("deskspool_events_total", "counter", "Events by what became of them at intake.");
        const RESULTS: [(&str, Count); 5] = [
            ("accepted", Count::Accepted),
            ("duplicate", Count::Duplicate),
            ("filtered", Count::Filtered),
            ("refused", Count::Refused),
            ("unavailable", Count::Unavailable),
        ];
        // Sources that nothing came from are shown too: a rate over a series that appears late starts wrong.
        for view in &exposed.snapshot.sources {
            let counts = events.get(&view.name).copied().unwrap_or([0; COUNTS]);
            for (result, what) in RESULTS {
                let labels = [("source", view.name.as_str()), ("result", result)];
                self.sample("deskspool_events_total", &labels, counts[what as usize]);
            }
        }
        let mut refused = refused.clone();
        if exposed.too_large > 0 {
            refused.insert((String::new(), "too_large"), exposed.too_large);
        }
        let help = "Requests by why they were turned away; no source where none could be told.";
        self.pairs("deskspool_refused_total", help, "reason", &refused);
        let help = "From a request's arrival to its answer.";
        self.histograms("deskspool_request_duration_seconds", help, requests);
        let name = "deskspool_last_event_timestamp_seconds";
        self.family(name, "gauge", "When the last event of a source came in.");
        let now = exposed.now.unix_seconds();
        for view in &exposed.snapshot.sources {
            if let Some(ago) = view.last_event_seconds {
                self.sample(name, &[("source", &view.name)], now.saturating_sub(ago));
            }
        }
    }

    fn spool(&mut self, exposed: &Exposed<'_>) {
        let spool = &exposed.snapshot.spool;
        self.family("deskspool_spool_envelopes", "gauge", "Envelopes that are not settled, by state.");
        let states = [
            ("queued", spool.queued),
            ("in_flight", spool.in_flight),
            ("deferred", spool.deferred),
            ("held", spool.held),
            ("dead", spool.dead),
        ];
        for (state, count) in states {
            self.sample("deskspool_spool_envelopes", &[("state", state)], count);
        }
        let name = "deskspool_spool_oldest_age_seconds";
        self.family(name, "gauge", "Age of the oldest envelope of a state; 0 when there is none.");
        for (state, _) in states.iter().filter(|(state, _)| *state != "in_flight") {
            let oldest = exposed.oldest.iter().find(|(other, _)| other == state);
            let age = oldest.map_or(0.0, |(_, at)| exposed.now.since(*at).as_secs_f64());
            self.sample(name, &[("state", state)], age);
        }
        self.gauge("deskspool_spool_bytes", "Bytes of the journal on disk.", Some(spool.bytes));
        let help = "Bytes of the journal at which platforms get 503.";
        self.gauge("deskspool_spool_bytes_limit", help, Some(spool.bytes_max));
        let help = "Envelopes at which platforms get 503.";
        self.gauge("deskspool_spool_envelopes_limit", help, Some(spool.envelopes_max));
        let name = "deskspool_spool_damaged_records_total";
        let help =
            "Envelopes whose record in the journal was found damaged: dead letters without their text.";
        self.family(name, "counter", help);
        self.sample(name, &[], spool.damaged_records);
        let name = "deskspool_spool_damaged_bytes";
        self.family(name, "gauge", "Bytes of the journal that could not be read at the start, by segment.");
        for (segment, bytes) in &spool.damaged_bytes {
            self.sample(name, &[("segment", &segment.to_string())], bytes);
        }
        let name = "deskspool_spool_write_duration_seconds";
        self.family(name, "histogram", "From putting events into the spool to their being on disk.");
        self.histogram(name, &[], &exposed.numbers.spool_writes);
    }

    fn delivery(&mut self, exposed: &Exposed<'_>) {
        let numbers = exposed.numbers;
        self.pairs("deskspool_attempts_total", "Attempts by how they ended.", "outcome", &numbers.attempts);
        let name = "deskspool_attempt_duration_seconds";
        self.family(name, "histogram", "How long attempts took.");
        self.histogram(name, &[], &numbers.attempt_seconds);
        let help = "Writes that are in Freshdesk, by what was done.";
        self.pairs("deskspool_delivered_total", help, "action", &numbers.delivered);
        let help = "From an event's arrival to its being in Freshdesk.";
        self.histograms("deskspool_event_to_ticket_seconds", help, &numbers.ages);
        self.pairs("deskspool_dead_total", "Envelopes that became dead letters.", "reason", &numbers.dead);
    }

    fn freshdesk(&mut self, exposed: &Exposed<'_>) {
        let name = "deskspool_freshdesk_responses_total";
        self.family(name, "counter", "Freshdesk's answers by status; none where no answer came.");
        for (status, count) in &exposed.answers {
            let code = if *status == 0 { "none".to_owned() } else { status.to_string() };
            self.sample(name, &[("code", &code)], count);
        }
        let view = &exposed.snapshot.freshdesk;
        let help = "Calls that were left in the account's minute, as its last answer said.";
        self.gauge("deskspool_freshdesk_rate_remaining", help, view.calls_left);
        self.gauge("deskspool_freshdesk_rate_limit", "Calls per minute of the account.", view.calls_total);
        let success = view.last_success_seconds.map(|ago| exposed.now.unix_seconds().saturating_sub(ago));
        let help = "When Freshdesk last did what was asked.";
        self.gauge("deskspool_freshdesk_last_success_timestamp_seconds", help, success);
    }

    fn daemon(&mut self, exposed: &Exposed<'_>) {
        let help = "When the certificate that platforms see ends.";
        let ends = exposed.snapshot.intake.certificate_ends;
        self.gauge("deskspool_tls_certificate_expiry_timestamp_seconds", help, ends);
        self.family("deskspool_paused", "gauge", "1 where an admin has paused something.");
        for (what, is_paused) in &exposed.paused {
            self.sample("deskspool_paused", &[("what", what)], u8::from(*is_paused));
        }
        let name = "deskspool_config_last_reload_successful";
        let help = "1 when the configuration on disk, as of the last reload, is the one that runs.";
        self.gauge(name, help, Some(u8::from(exposed.is_configured_as_on_disk)));
        let name = "deskspool_config_last_reload_success_timestamp_seconds";
        let help = "When the running configuration was loaded.";
        self.gauge(name, help, Some(exposed.configured_at.unix_seconds()));
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text { out: String::new() };
        text.sample("a", &[("b", "c\"d\\e\nf"), ("g", "")], 1);
        assert_eq!(text.out, "a{b=\"c\\\"d\\\\e\\nf\",g=\"\"} 1\n");
    }

    #[test]
    fn histograms_are_cumulative_and_end_in_infinity() {
        let mut text = Text { out: String::new() };
        let histogram = Histogram { bounds: &[0.5, 1.0], counts: vec![2, 0, 1], sum: 9.5 };
        text.histogram("h", &[("source", "a")], &histogram);
        let expect = "h_bucket{source=\"a\",le=\"0.5\"} 2\nh_bucket{source=\"a\",le=\"1\"} 2\n\
            h_bucket{source=\"a\",le=\"+Inf\"} 3\nh_sum{source=\"a\"} 9.5\nh_count{source=\"a\"} 3\n";
        assert_eq!(text.out, expect);
    }
}
