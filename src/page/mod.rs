//! The status page: what it answers to which request. Read-only unless `status_page.actions`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 `ok` while a request would be answered, else 503 |
//! | `GET /readyz` | 200 `ok` while an event would be taken, else 503 with the bland reason |
//! | `GET /status.json` | the [`Snapshot`](crate::status::Snapshot) |
//! | `GET /metrics` | the same and more for Prometheus |
//!
//! **Invariant:** Freshdesk being down makes neither `healthz` nor `readyz` fail: that is what the spool is for.

use crate::clock::Timestamp;
use crate::control::Rooms;
use crate::spool::{QueueError, State};
use crate::status::listener::{Answer, Asked};
use crate::status::prometheus::{self, Exposed};
use crate::status::{Snapshot, snapshot};
use std::sync::{Arc, PoisonError};

/// What the page is made of.
pub struct Page {
    /// What it shows.
    pub rooms: Arc<Rooms>,
    /// Whether a platform's request would get an answer.
    pub is_alive: Box<dyn Fn() -> bool + Send + Sync>,
    /// Requests that the public gate refused because of their size.
    pub too_large: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Page {
    /// Answers a request.
    pub fn answer(&self, asked: &Asked) -> Answer {
        if !matches!(asked.method.as_str(), "GET" | "HEAD") {
            return text(405, "only GET\n");
        }
        let answer = match asked.path.as_str() {
            "/healthz" => Ok(self.health()),
            "/readyz" => Ok(self.readiness()),
            "/status.json" => self.snapshot().map(|snapshot| json(&snapshot)),
            "/metrics" => self.metrics(),
            _ => Ok(text(404, "not found\n")),
        };
        answer.unwrap_or_else(|error| {
            log::error!("status page cannot read the spool error={:?}", error.to_string());
            text(500, "the spool cannot be read\n")
        })
    }

    fn health(&self) -> Answer {
        if (self.is_alive)() { text(200, "ok\n") } else { text(503, "not answering\n") }
    }

    fn readiness(&self) -> Answer {
        match self.rooms.spool.unhealthy_reason() {
            None => text(200, "ok\n"),
            Some(reason) => text(503, &format!("{reason}\n")),
        }
    }

    fn snapshot(&self) -> Result<Snapshot, QueueError> {
        let daemon = self.rooms.daemon.read().unwrap_or_else(PoisonError::into_inner);
        let rooms = &*self.rooms;
        snapshot(&daemon, &*rooms.clock, (&rooms.spool, &rooms.dispatch, &rooms.tally))
    }

    fn metrics(&self) -> Result<Answer, QueueError> {
        let rooms = &*self.rooms;
        let snapshot = self.snapshot()?;
        let now = rooms.clock.now();
        let (configured_ago, is_configured_as_on_disk) = {
            let daemon = rooms.daemon.read().unwrap_or_else(PoisonError::into_inner);
            (rooms.clock.monotonic().saturating_sub(daemon.configured), daemon.refused.is_none())
        };
        let oldest = rooms.spool.oldest(&[State::Queued, State::Deferred, State::Held, State::Dead])?;
        let exposition = prometheus::expose(&Exposed {
            snapshot: &snapshot,
            numbers: &rooms.tally.meters().read(),
            now,
            oldest: oldest.into_iter().map(|(state, at)| (state_label(state), at)).collect(),
            answers: rooms.dispatch.standing().answers,
            too_large: (self.too_large)(),
            configured_at: Timestamp(now.0.saturating_sub(millis(configured_ago))),
            is_configured_as_on_disk,
            paused: vec![("delivery".to_owned(), snapshot.delivery.paused_seconds > 0)],
        });
        Ok(Answer { body: exposition, ..typed(200, prometheus::CONTENT_TYPE) })
    }
}

fn state_label(state: State) -> &'static str {
    match state {
        State::Queued => "queued",
        State::Deferred => "deferred",
        State::Held => "held",
        State::Dead => "dead",
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn typed(status: u16, content_type: &str) -> Answer {
    let headers = vec![
        ("Content-Type", content_type.to_owned()),
        ("Cache-Control", "no-store".to_owned()),
        ("X-Content-Type-Options", "nosniff".to_owned()),
    ];
    Answer { status, headers, body: String::new() }
}

fn text(status: u16, body: &str) -> Answer {
    Answer { body: body.to_owned(), ..typed(status, "text/plain; charset=utf-8") }
}

fn json(snapshot: &Snapshot) -> Answer {
    let body = serde_json::to_string(snapshot).expect("a snapshot holds nothing that JSON cannot");
    Answer { body, ..typed(200, "application/json") }
}
