//! One request and what becomes of it: the true answer, or a fault.
//!
//! **Invariants:** while the API is down nothing is stored, not even what was read before. Every wait is on the
//! socket or on the bell of [`Shared`] and ends when the sandbox stops.

use super::answer::Answer;
use super::faults::{Effect, FaultBody};
use super::routes;
use super::state::{Shared, State};
use super::wire::{Manner, Request, Wire};
use std::time::Duration;

/// A request that was read, and the sandbox it came to.
pub(crate) struct Exchange<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) request: Request,
}

impl Exchange<'_> {
    /// Answers as the service would; nothing when the API went down meanwhile.
    pub(crate) fn answer(&self) -> Option<Answer> {
        self.change(|state| {
            let answer = routes::api(state, &self.request, false);
            let head = &self.request.head;
            state.record(head, answer.status, None);
            answer
        })
    }

    /// Does what the request asks, and logs that the client was told `told` (or the true status) under `effect`.
    fn spoilt(&self, effect: &Effect, told: Option<u16>) -> Option<Answer> {
        self.change(|state| {
            let answer = routes::api(state, &self.request, *effect == Effect::WrongKey);
            let head = &self.request.head;
            state.record(head, told.unwrap_or(answer.status), Some(effect.name()));
            answer
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.shared.change(|state| (!state.down && !state.stopping).then(|| change(state)))
    }

    fn record(&self, status: u16, effect: &Effect) {
        let head = &self.request.head;
        self.shared.change(|state| state.record(head, status, Some(effect.name())));
    }

    /// Lets the fault happen; the connection, when it may go on.
    pub(crate) fn spoil(&self, wire: Wire, effect: &Effect) -> Option<Wire> {
        match effect {
            Effect::Refuse | Effect::ResetBeforeReading => wire.reset(),
            Effect::CommitThenReset => {
                self.spoilt(effect, Some(0));
                wire.reset();
            }
            Effect::WrongKey => {
                let answer = self.spoilt(effect, None)?;
                return self.send(wire, &answer);
            }
            Effect::Stall { hold, commit } => return self.stall(wire, *hold, *commit),
            Effect::Status { status, body, retry_after, commit } => {
                let answer = self.other_answer(effect, (*status, *body), *commit)?;
                let answer = match retry_after {
                    Some(seconds) if answer.status == *status => {
                        answer.with("Retry-After", seconds.to_string())
                    }
                    _ => answer,
                };
                return self.send(wire, &answer);
            }
            Effect::TruncatedJson { location } => {
                let mut answer = self.spoilt(effect, None)?;
                answer.headers.retain(|(name, _)| *location || *name != "Location");
                let _ = wire.truncated(&answer);
            }
            Effect::Garbage200 { commit } => {
                if *commit {
                    self.spoilt(effect, Some(200))?;
                } else {
                    self.record(200, effect);
                }
                let page = "<!doctype html><html><head><title>Sign in</title></head><body>Welcome to Wi-Fi</body></html>";
                return self.send(wire, &Answer::html(200, page.to_owned()));
            }
            Effect::Slow { delay } => {
                // Not by the socket: the write is done even if the client has left.
                self.shared.wait_until(*delay, |state| state.stopping);
                let answer = self.spoilt(effect, None)?;
                return self.send(wire, &answer);
            }
        }
        None
    }

    fn stall(&self, wire: Wire, hold: Duration, commit: bool) -> Option<Wire> {
        let effect = Effect::Stall { hold, commit };
        let answer = if commit {
            self.spoilt(&effect, Some(0))
        } else {
            self.record(0, &effect);
            None
        };
        let stands = wire.stays_open(hold);
        answer.filter(|_| stands).and_then(|answer| self.send(wire, &answer))
    }

    /// The answer of a `status` fault. The vendor's own errors spend the budget; the edge's do not.
    fn other_answer(
        &self,
        effect: &Effect,
        (status, body): (u16, FaultBody),
        commit: bool,
    ) -> Option<Answer> {
        let answer = match body {
            FaultBody::Json => error_body(status),
            FaultBody::Html => Answer::edge(status),
            FaultBody::Empty => Answer::empty(status),
        };
        if commit {
            let done = self.spoilt(effect, Some(status))?;
            let budget = done
                .headers
                .into_iter()
                .filter(|(name, _)| name.starts_with("X-") && body != FaultBody::Html);
            return Some(budget.fold(answer, |answer, (name, value)| answer.with(name, value)));
        }
        self.change(|state| {
            let head = &self.request.head;
            let answer = match body {
                FaultBody::Html => answer,
                _ => routes::metered(state, head, |_| answer),
            };
            state.record(head, answer.status, Some("status"));
            answer
        })
    }

    /// Sends; the connection, when the client wants to go on.
    pub(crate) fn send(&self, mut wire: Wire, answer: &Answer) -> Option<Wire> {
        let head = &self.request.head;
        let mode = self.shared.state().knobs.response_mode;
        let keep_alive = head.keeps_alive();
        let manner = Manner { mode, keep_alive, without_body: head.method == "HEAD" };
        wire.answer(answer, manner).ok()?;
        if !keep_alive {
            wire.finish();
            return None;
        }
        Some(wire)
    }
}

/// The vendor's body for a status.
fn error_body(status: u16) -> Answer {
    match status {
        401 => Answer::unauthorized(),
        403 => Answer::coded(403, "access_denied", "You are not authorized to perform this action."),
        404 => Answer::empty(404),
        400 => super::answer::invalid("subject", "invalid_value", "It is refused by the sandbox"),
        429 => Answer::message(429, "You have exceeded the limit of requests per minute"),
        500 => Answer::internal_error(),
        _ => Answer::message(status, super::answer::reason(status)),
    }
}
