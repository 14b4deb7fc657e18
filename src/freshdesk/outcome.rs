//! What an attempt came to. A timed-out create is neither success nor failure, so there are four arms.

use std::time::Duration;

/// The result of one attempt at one write.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Freshdesk has it.
    Delivered {
        /// The ticket that was created or added to.
        ticket: u64,
    },
    /// Surely not done; try again later.
    Deferred {
        /// Freshdesk's own `Retry-After`, when it gave one.
        not_before: Option<Duration>,
        /// Who is in trouble, which decides who waits.
        cause: Cause,
        /// One line for admins, without customer text: `503 Service Unavailable`.
        reason: String,
    },
    /// Surely not done and never will be as it stands: dead until an admin mends the mapping.
    Rejected {
        /// One line for admins: `freshdesk 400: phone is invalid (requester.phone)`.
        reason: String,
    },
    /// Bytes left the house and no answer told what became of them: look before sending again.
    Unknown {
        /// One line for admins: `timeout after the request was sent`.
        reason: String,
    },
}

/// Why a write was deferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// 429: the account's budget is used up. Not an attempt; everybody waits.
    RateLimited,
    /// No write was sent (refused, DNS, TLS, proxy), or a question got no answer. One probe waits for all.
    Unreachable,
    /// 401, or 403 for the whole account, or 404 on `POST /tickets`: wrong key or domain. Delivery pauses and probes.
    Denied,
    /// Freshdesk answered that this one write failed for now.
    Server,
}

/// The answer to "is what I may have sent already there?".
#[derive(Clone, Debug, PartialEq)]
pub enum Looked {
    /// It is: this ticket carries the marker.
    Found {
        /// Its number.
        ticket: u64,
    },
    /// The list was read to its end and it is not there.
    Absent,
    /// The question could not be answered now.
    Deferred {
        /// Freshdesk's own `Retry-After`, when it gave one.
        not_before: Option<Duration>,
        /// Who is in trouble.
        cause: Cause,
        /// One line for admins.
        reason: String,
    },
    /// The account's calls of this minute are used up: the look begins again then.
    Later {
        /// How long that is.
        after: Duration,
    },
    /// The question can never be answered (the ticket is gone, the requester cannot be listed).
    Undecidable {
        /// One line for admins.
        reason: String,
    },
}

/// What Freshdesk said of the account's budget in its last answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// `X-Ratelimit-Total`: calls per minute.
    pub total: Option<u64>,
    /// `X-Ratelimit-Remaining`: calls left in this minute.
    pub remaining: Option<u64>,
}

/// Calls of one undertaking, by the limits that Freshdesk has for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// All of them.
    pub all: usize,
    /// Of them, pages of the list of tickets: 20 a minute on the smallest paid plan.
    pub ticket_lists: usize,
    /// Of them, pages of the list of contacts: as few.
    pub contact_lists: usize,
}

impl Calls {
    /// That many calls that nothing but the account's own limit counts.
    pub fn plain(all: usize) -> Calls {
        Calls { all, ..Calls::default() }
    }

    /// Whether there are no more of any kind than in `other`.
    pub fn fits(self, other: Calls) -> bool {
        self.all <= other.all
            && self.ticket_lists <= other.ticket_lists
            && self.contact_lists <= other.contact_lists
    }

    /// Those of both.
    pub fn and(self, other: Calls) -> Calls {
        Calls {
            all: self.all + other.all,
            ticket_lists: self.ticket_lists + other.ticket_lists,
            contact_lists: self.contact_lists + other.contact_lists,
        }
    }
}
