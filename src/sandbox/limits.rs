//! The account's budget: calls per minute by plan, with the vendor's limits per endpoint.
//!
//! **Invariants:** the budget belongs to the account, so every key and every connection spends it; refused and
//! invalid requests count too. The window is fixed and begins with the first call after the last one ended
//! (the real shape is unknown; a client may only rely on `Retry-After`).

use super::knobs::Knobs;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(60);

/// What an account may do in a minute (vendor's table of March 2024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The word for it on the command line.
    pub name: &'static str,
    /// Calls per minute.
    pub total: u64,
    /// Of them, tickets created.
    pub ticket_create: Option<u64>,
    /// Of them, tickets updated.
    pub ticket_update: Option<u64>,
    /// Of them, pages of the ticket list.
    pub ticket_list: Option<u64>,
    /// Of them, pages of the contact list.
    pub contact_list: Option<u64>,
}

impl Plan {
    /// 50 calls and no finer limits.
    pub const TRIAL: Plan = Plan::flat("trial", 50);
    /// 200 calls: 80 creates, 80 updates, 20 lists of tickets, 20 of contacts.
    pub const GROWTH: Plan = Plan::of("growth", 200, 80, 20);
    /// 400 calls: 160, 160, 100, 100.
    pub const PRO: Plan = Plan::of("pro", 400, 160, 100);
    /// 700 calls: 280, 280, 200, 200.
    pub const ENTERPRISE: Plan = Plan::of("enterprise", 700, 280, 200);
    /// More than anybody can send: for load tests.
    pub const UNLIMITED: Plan = Plan::flat("unlimited", 1_000_000_000);
    /// All of them, in the order of the table.
    pub const ALL: [Plan; 5] = [Plan::TRIAL, Plan::GROWTH, Plan::PRO, Plan::ENTERPRISE, Plan::UNLIMITED];

    /// A plan without finer limits.
    pub const fn flat(name: &'static str, total: u64) -> Plan {
        Plan { name, total, ticket_create: None, ticket_update: None, ticket_list: None, contact_list: None }
    }

    const fn of(name: &'static str, total: u64, writes: u64, lists: u64) -> Plan {
        Plan {
            name,
            total,
            ticket_create: Some(writes),
            ticket_update: Some(writes),
            ticket_list: Some(lists),
            contact_list: Some(lists),
        }
    }

    /// The plan of that name.
    pub fn named(name: &str) -> Option<Plan> {
        Plan::ALL.into_iter().find(|plan| plan.name == name)
    }

    fn limit(&self, endpoint: Endpoint) -> Option<u64> {
        match endpoint {
            Endpoint::TicketCreate => self.ticket_create,
            Endpoint::TicketUpdate => self.ticket_update,
            Endpoint::TicketList => self.ticket_list,
            Endpoint::ContactList => self.contact_list,
            Endpoint::Other => None,
        }
    }
}

/// What a call is for, as far as limits tell calls apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    TicketCreate,
    TicketUpdate,
    TicketList,
    ContactList,
    Other,
}

/// What one call costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) endpoint: Endpoint,
    /// 1, and more for what is embedded.
    pub(crate) credits: u64,
}

/// The budget after a call was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) total: u64,
    pub(crate) remaining: u64,
    pub(crate) used: u64,
    /// Seconds to wait, when the call is over the limit.
    pub(crate) retry_after: Option<u64>,
}

/// The account's meter.
pub(crate) struct Limits {
    plan: Plan,
    window_began: Option<Duration>,
    used: u64,
    by_endpoint: [u64; 5],
}

impl Limits {
    pub(crate) fn new(plan: Plan) -> Limits {
        Limits { plan, window_began: None, used: 0, by_endpoint: [0; 5] }
    }

    /// Asks for `call` at the monotonic moment `now`, and takes it from the budget when there is enough.
    pub(crate) fn charge(&mut self, call: Call, now: Duration, knobs: &Knobs) -> Charge {
        let began = self.window(now, knobs);
        let slot = call.endpoint as usize;
        let sub_limit_spent =
            self.plan.limit(call.endpoint).is_some_and(|limit| self.by_endpoint[slot] >= limit);
        let refused = sub_limit_spent || self.used + call.credits > self.plan.total;
        if !refused || knobs.count_rejected_429 {
            self.used += call.credits;
            self.by_endpoint[slot] += 1;
        }
        let left = (began + WINDOW).saturating_sub(now);
        Charge {
            total: self.plan.total,
            remaining: self.plan.total.saturating_sub(self.used),
            used: call.credits,
            retry_after: refused.then(|| left.as_millis().div_ceil(1000).max(1) as u64),
        }
    }

    /// Gives back what a call took (for the knob that says that 401 is free).
    pub(crate) fn refund(&mut self, call: Call) {
        self.used = self.used.saturating_sub(call.credits);
        let slot = &mut self.by_endpoint[call.endpoint as usize];
        *slot = slot.saturating_sub(1);
    }

    fn window(&mut self, now: Duration, knobs: &Knobs) -> Duration {
        match self.window_began {
            Some(began) if now.saturating_sub(began) < WINDOW => began,
            _ => {
                self.window_began = Some(now);
                self.used = knobs.used_by_others;
                self.by_endpoint = [0; 5];
                now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: Call = Call { endpoint: Endpoint::TicketList, credits: 3 };
    const OTHER: Call = Call { endpoint: Endpoint::Other, credits: 1 };

    #[test]
    fn the_total_is_spent_by_credits_and_comes_back_with_the_window() {
        let mut limits = Limits::new(Plan::flat("test", 5));
        let knobs = Knobs::default();
        let mut at = |seconds, call| limits.charge(call, Duration::from_secs(seconds), &knobs);
        assert_eq!(at(10, LIST).remaining, 2);
        assert_eq!(at(20, LIST).retry_after, Some(50), "three credits do not fit into two");
        assert_eq!(at(20, OTHER).remaining, 1);
        assert_eq!(at(69, OTHER).remaining, 0);
        assert_eq!(at(69, OTHER).retry_after, Some(1));
        assert_eq!(at(70, OTHER), Charge { total: 5, remaining: 4, used: 1, retry_after: None });
    }

    #[test]
    fn an_endpoint_can_be_spent_before_the_total_is() {
        let mut limits = Limits::new(Plan { ticket_list: Some(1), ..Plan::flat("test", 50) });
        let knobs = Knobs::default();
        assert_eq!(limits.charge(LIST, Duration::ZERO, &knobs).retry_after, None);
        let second = limits.charge(LIST, Duration::ZERO, &knobs);
        assert_eq!((second.retry_after, second.remaining), (Some(60), 47));
        assert_eq!(limits.charge(OTHER, Duration::ZERO, &knobs).retry_after, None);
    }

    #[test]
    fn others_spend_the_same_budget() {
        let mut limits = Limits::new(Plan::flat("test", 5));
        let knobs = Knobs { used_by_others: 4, ..Knobs::default() };
        assert_eq!(limits.charge(OTHER, Duration::ZERO, &knobs).remaining, 0);
        assert!(limits.charge(OTHER, Duration::ZERO, &knobs).retry_after.is_some());
    }

    #[test]
    fn every_plan_has_the_vendors_numbers() {
        let check = |name: &str, expect: (u64, Option<u64>, Option<u64>)| {
            let plan = Plan::named(name).unwrap();
            assert_eq!((plan.total, plan.ticket_create, plan.ticket_list), expect, "{name}");
        };
        check("trial", (50, None, None));
        check("growth", (200, Some(80), Some(20)));
        check("pro", (400, Some(160), Some(100)));
        check("enterprise", (700, Some(280), Some(200)));
        assert_eq!(Plan::named("platinum"), None);
    }
}
