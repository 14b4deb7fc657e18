//! What is going to happen, and when.

use super::super::desk::{Call, Fate, Reply};
use super::State;
use crate::spool::Envelope;
use std::time::Duration;

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Happening {
    Arrive,
    Post(Box<Envelope>),
    Done {
        call: Call,
        began: Duration,
    },
    /// By chance, or in the middle of a call.
    Kill {
        repeats: bool,
    },
    Restart,
    Weather,
    Admin,
    Jump,
}

impl Happening {
    pub fn name(&self) -> &'static str {
        match self {
            Happening::Arrive => "arrive",
            Happening::Post(_) => "post",
            Happening::Done { .. } => "done",
            Happening::Kill { .. } => "kill",
            Happening::Restart => "restart",
            Happening::Weather => "weather",
            Happening::Admin => "admin",
            Happening::Jump => "jump",
        }
    }
}

impl State {
    pub fn schedule_at(&mut self, at: Duration, happening: Happening) {
        self.serial += 1;
        self.agenda.insert((at, self.serial), happening);
    }

    /// Again after a while, `hours` in the mean.
    pub fn repeat(&mut self, now: Duration, hours: f64, happening: Happening) {
        let after = -(1.0 - self.dice.throw()).ln() * hours * 3600.0;
        self.schedule_at(now + Duration::from_secs_f64(after), happening);
    }

    pub fn take_due(&mut self, now: Duration) -> Option<Happening> {
        let first = self.agenda.first_entry()?;
        if first.key().0 > now { None } else { Some(first.remove()) }
    }

    /// Bad events are refused for what they are; sick ones fail for days.
    pub fn judge_illness(&mut self, call: &Call, fate: &mut Fate, now: Duration) {
        let (Some(text), Some(marker)) = (call.text(), call.marker()) else { return };
        if !matches!(fate.reply, Reply::Fine) {
            return;
        }
        let is_sick = || {
            let event = self.markers.get(marker).and_then(|id| self.events.get(id));
            event.is_some_and(|event| now < event.sick_until)
        };
        if text.starts_with("bad") {
            (fate.reply, fate.done_after) = (Reply::Rejected, None);
        } else if is_sick() {
            (fate.reply, fate.done_after) = (Reply::Unknown("500"), None);
        }
    }
}
