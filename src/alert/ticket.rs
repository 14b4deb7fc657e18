//! The ticket of a matter: opened when it begins, told the end in a note, and then resolved. Pure; what has been done is
//! in here, so that it can be kept, and who carries it out is elsewhere.
//!
//! **Invariants:** a matter has one ticket. A write that has begun is in doubt until its end is kept, and is looked for
//! before it is made again. A matter that Freshdesk cannot be told of has none.

use super::Matter;
use crate::clock::{Timestamp, spell};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What Freshdesk cannot be told, because it is about its own being reached.
const UNTELLABLE: &str = "freshdesk";

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The ticket is opened.
    Open,
    /// When the matter is over: a note says so.
    Tell,
    /// And the ticket is resolved.
    Resolve,
    /// Nothing more.
    Nothing,
}

/// The ticket of one matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The matter's key.
    pub matter: String,
    /// As it was when the matter began.
    pub text: String,
    /// What to type.
    pub next: String,
    /// When it began, in milliseconds since 1970.
    pub since: u64,
    /// When it was over, likewise.
    pub over: Option<u64>,
    /// What is to be done.
    pub step: Step,
    /// Its number in Freshdesk.
    pub number: Option<u64>,
    /// When the step was last begun: it may be done.
    begun: Option<u64>,
    /// Looks in vain.
    looks: u32,
}

impl Ticket {
    fn of(matter: &Matter, now: Timestamp) -> Ticket {
        Ticket {
            matter: matter.key.clone(),
            text: matter.text.clone(),
            next: matter.next.clone(),
            since: now.0,
            over: None,
            step: Step::Open,
            number: None,
            begun: None,
            looks: 0,
        }
    }

    /// What the note says when it is over.
    pub fn end(&self) -> String {
        let lasted = self.over.unwrap_or(self.since).saturating_sub(self.since) / 1000;
        format!("over after {}: {}", spell(lasted), self.text)
    }

    /// Whether the step may have been done already.
    pub fn is_in_doubt(&self) -> bool {
        self.begun.is_some()
    }

    /// How long until there is something to do; `None` when there is nothing. What may still be under way is left alone
    /// for `guard`.
    pub fn due(&self, now: Timestamp, guard: Duration) -> Option<Duration> {
        let waits = match self.step {
            Step::Open => false,
            Step::Tell | Step::Resolve => self.over.is_none(),
            Step::Nothing => true,
        };
        // A clock that was set back would make us wait for it to come round again.
        let begun = self.begun.map(Timestamp).filter(|begun| *begun <= now);
        (!waits).then(|| begun.map_or(Duration::ZERO, |begun| begun.plus(guard).since(now)))
    }

    /// The step is begun.
    pub fn begin(&mut self, now: Timestamp) {
        self.begun = Some(now.0);
        self.looks = 0;
    }

    /// The step was surely not done.
    pub fn not_done(&mut self) {
        self.begun = None;
    }

    /// It is not there; after `enough` such looks it is made again.
    pub fn not_found(&mut self, now: Timestamp, enough: u32) {
        self.looks += 1;
        self.begun = (self.looks < enough).then_some(now.0);
    }

    /// The step is done, in this ticket.
    pub fn done(&mut self, number: u64) {
        (self.number, self.begun, self.looks) = (Some(number), None, 0);
        self.step = match self.step {
            Step::Open => Step::Tell,
            Step::Tell => Step::Resolve,
            Step::Resolve | Step::Nothing => Step::Nothing,
        };
    }

    /// It never will be.
    pub fn refused(&mut self) {
        (self.step, self.begun) = (Step::Nothing, None);
    }
}

/// The tickets of what is open, and of what is over and not through yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tickets(pub Vec<Ticket>);

impl Tickets {
    /// Compares with what there is now.
    pub fn follow(&mut self, now: Timestamp, matters: &[Matter]) {
        for ticket in &mut self.0 {
            if ticket.over.is_none() && !matters.iter().any(|matter| matter.key == ticket.matter) {
                ticket.over = Some(now.0);
            }
        }
        // What began and ended before anybody could be told is nobody's business any more.
        self.0.retain(|ticket| {
            let is_untold = ticket.step == Step::Open && !ticket.is_in_doubt();
            ticket.over.is_none() || !(is_untold || ticket.step == Step::Nothing)
        });
        let is_new = |tickets: &[Ticket], matter: &Matter| {
            !tickets.iter().any(|ticket| ticket.matter == matter.key && ticket.over.is_none())
        };
        for matter in matters.iter().filter(|matter| matter.key != UNTELLABLE) {
            if is_new(&self.0, matter) {
                self.0.push(Ticket::of(matter, now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: Duration = Duration::from_secs(25);

    fn matter(key: &str) -> Matter {
        Matter { key: key.to_owned(), text: format!("1 {key}"), next: "deskspool status".to_owned() }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn a_ticket_is_opened_told_the_end_and_resolved() {
        let mut tickets = Tickets::default();
        tickets.follow(at(60), &[matter("dead"), matter("freshdesk")]);
        assert_eq!(tickets.0.len(), 1, "Freshdesk cannot be told that it is not reached");
        let ticket = &mut tickets.0[0];
        assert_eq!((ticket.step, ticket.due(at(60), GUARD)), (Step::Open, Some(Duration::ZERO)));
        ticket.begin(at(60));
        ticket.done(7);
        assert_eq!((ticket.step, ticket.due(at(61), GUARD)), (Step::Tell, None), "it is not over");
        tickets.follow(at(90), &[matter("dead")]);
        assert_eq!(tickets.0.len(), 1);
        tickets.follow(at(720), &[]);
        let ticket = &mut tickets.0[0];
        assert_eq!((ticket.end().as_str(), ticket.number), ("over after 11m: 1 dead", Some(7)));
        assert_eq!(ticket.due(at(720), GUARD), Some(Duration::ZERO));
        ticket.done(7);
        ticket.done(7);
        assert_eq!(ticket.step, Step::Nothing);
        tickets.follow(at(750), &[]);
        assert_eq!(tickets, Tickets::default());
    }

    #[test]
    fn a_matter_that_comes_again_gets_another() {
        let mut tickets = Tickets::default();
        tickets.follow(at(60), &[matter("dead")]);
        tickets.0[0].done(7);
        tickets.follow(at(90), &[]);
        tickets.follow(at(120), &[matter("dead")]);
        let steps: Vec<_> = tickets.0.iter().map(|ticket| (ticket.step, ticket.over.is_some())).collect();
        assert_eq!(steps, [(Step::Tell, true), (Step::Open, false)]);
    }

    #[test]
    fn what_may_have_been_sent_is_looked_for_twice_and_kept_across_a_restart() {
        let mut tickets = Tickets::default();
        tickets.follow(at(60), &[matter("dead")]);
        tickets.0[0].begin(at(60));
        let kept = serde_json::to_string(&tickets).unwrap();
        let mut tickets: Tickets = serde_json::from_str(&kept).unwrap();
        tickets.follow(at(70), &[]);
        let ticket = &mut tickets.0[0];
        assert!(ticket.is_in_doubt(), "it is over, but a ticket may be there");
        assert_eq!(ticket.due(at(70), GUARD), Some(Duration::from_secs(15)));
        assert_eq!(ticket.due(at(10), GUARD), Some(Duration::ZERO), "the clock was set back");
        ticket.not_found(at(85), 2);
        assert_eq!((ticket.is_in_doubt(), ticket.due(at(85), GUARD)), (true, Some(GUARD)));
        ticket.not_found(at(110), 2);
        assert!(!ticket.is_in_doubt());
        tickets.follow(at(120), &[]);
        assert_eq!(tickets, Tickets::default(), "nobody knew");
    }

    #[test]
    fn what_is_refused_is_left_until_it_is_over() {
        let mut tickets = Tickets::default();
        tickets.follow(at(60), &[matter("dead")]);
        tickets.0[0].refused();
        tickets.follow(at(90), &[matter("dead")]);
        assert_eq!((tickets.0.len(), tickets.0[0].due(at(90), GUARD)), (1, None));
        tickets.follow(at(120), &[]);
        assert_eq!(tickets, Tickets::default());
    }
}
