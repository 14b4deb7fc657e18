//! Faults: which requests go wrong, and how.
//!
//! **Invariants:** the first armed fault that fires decides; a fault counts the requests it matches, whether it
//! fires or not, until an earlier one has fired for that request. Given the same requests in the same order, the
//! same ones are hit: chance comes from a seed.

use std::time::Duration;

/// A fault: a matcher and what happens to the requests it picks.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    effect: Effect,
    method: Option<String>,
    path: Option<String>,
    after: u64,
    every: u64,
    first: Option<u64>,
    times: Option<u64>,
    chance: Option<(f64, u64)>,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The connection is closed when it is accepted, before a byte is read. Such a fault counts connections, has
    /// neither method nor path, and hits the control path on the same port too.
    /// (For a port that refuses, see [`super::Sandbox::set_down`].)
    Refuse,
    /// The head was read, the body was not; nothing is done; the connection is reset.
    ResetBeforeReading,
    /// The write is done; instead of an answer comes a reset.
    CommitThenReset,
    /// Silence until `hold` is over or the client leaves. Then, with `commit` (done before the silence), the
    /// answer; without it, nothing was done and the connection closes.
    Stall {
        /// How long nobody says anything.
        hold: Duration,
        /// Whether the write is done.
        commit: bool,
    },
    /// An answer of any kind.
    Status {
        /// Its status.
        status: u16,
        /// Its body.
        body: FaultBody,
        /// Its `Retry-After`, in seconds.
        retry_after: Option<u64>,
        /// Whether the write is done nevertheless.
        commit: bool,
    },
    /// 401, as for a key that was changed.
    WrongKey,
    /// The write is done; the answer's head is complete and promises more body than comes.
    TruncatedJson {
        /// Whether the head has `Location`.
        location: bool,
    },
    /// 200 and the page of somebody else, as captive portals do.
    Garbage200 {
        /// Whether the write is done nevertheless.
        commit: bool,
    },
    /// All as ever, but later. The write is done even if the client has left by then: this is the late commit.
    Slow {
        /// How much later.
        delay: Duration,
    },
}

/// The body of [`Effect::Status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultBody {
    /// The vendor's shape for that status.
    Json,
    /// A page of the balancer in front; the budget is not charged for it.
    Html,
    /// Nothing.
    Empty,
}

impl Effect {
    /// A JSON answer with `status`, nothing done.
    pub fn status(status: u16) -> Effect {
        Effect::Status { status, body: FaultBody::Json, retry_after: None, commit: false }
    }

    /// The word for it in files, in the log of requests and on the control path.
    pub fn name(&self) -> &'static str {
        match self {
            Effect::Refuse => "refuse",
            Effect::ResetBeforeReading => "reset_before_reading",
            Effect::CommitThenReset => "commit_then_reset",
            Effect::Stall { .. } => "stall",
            Effect::Status { .. } => "status",
            Effect::WrongKey => "wrong_key",
            Effect::TruncatedJson { .. } => "truncated_json",
            Effect::Garbage200 { .. } => "garbage_200",
            Effect::Slow { .. } => "slow",
        }
    }
}

impl Fault {
    /// A fault that hits every request until [`Fault::on`] and its like narrow it.
    pub fn new(effect: Effect) -> Fault {
        Fault { effect, method: None, path: None, after: 0, every: 1, first: None, times: None, chance: None }
    }

    /// Only requests with this method and a path like `/api/v2/tickets/*/notes`: `*` stands for one segment,
    /// `**` for anything. The path is without the query.
    pub fn on(mut self, method: &str, path: &str) -> Fault {
        self.method = Some(method.to_ascii_uppercase());
        self.path = Some(path.to_owned());
        self
    }

    /// Only requests with this method.
    pub fn on_method(mut self, method: &str) -> Fault {
        self.method = Some(method.to_ascii_uppercase());
        self
    }

    /// Only requests with a path like this.
    pub fn on_path(mut self, path: &str) -> Fault {
        self.path = Some(path.to_owned());
        self
    }

    /// Not the first `count` matching requests.
    pub fn after(mut self, count: u64) -> Fault {
        self.after = count;
        self
    }

    /// Only every `n`th matching request.
    pub fn every(mut self, n: u64) -> Fault {
        self.every = n.max(1);
        self
    }

    /// Only among the first `n` matching requests (counted after [`Fault::after`]).
    pub fn first(mut self, n: u64) -> Fault {
        self.first = Some(n);
        self
    }

    /// At most `n` times.
    pub fn times(mut self, n: u64) -> Fault {
        self.times = Some(n);
        self
    }

    /// With this chance (0 to 1), drawn from `seed`.
    pub fn probability(mut self, chance: f64, seed: u64) -> Fault {
        self.chance = Some((chance, seed));
        self
    }

    /// What happens to the requests it picks.
    pub fn effect(&self) -> &Effect {
        &self.effect
    }

    pub(crate) fn has_matcher(&self) -> bool {
        self.method.is_some() || self.path.is_some()
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted == method)
            && self.path.as_deref().is_none_or(|pattern| path_matches(pattern.as_bytes(), path.as_bytes()))
    }
}

/// A fault with what it has counted.
#[derive(Clone, Debug)]
pub(crate) struct Armed {
    pub(crate) fault: Fault,
    /// Requests that matched.
    pub(crate) seen: u64,
    /// Requests that it spoilt.
    pub(crate) hits: u64,
    random: u64,
}

impl Armed {
    pub(crate) fn new(fault: Fault) -> Armed {
        let random = fault.chance.map_or(0, |(_, seed)| seed);
        Armed { fault, seen: 0, hits: 0, random }
    }

    fn fires(&mut self) -> bool {
        self.seen += 1;
        let Some(count) = self.seen.checked_sub(self.fault.after).filter(|count| *count > 0) else {
            return false;
        };
        let in_turn = count % self.fault.every == 0
            && self.fault.first.is_none_or(|first| count <= first)
            && self.fault.times.is_none_or(|times| self.hits < times);
        let fires = in_turn && self.draw();
        self.hits += u64::from(fires);
        fires
    }

    /// One draw of splitmix64 against the chance.
    fn draw(&mut self) -> bool {
        let Some((chance, _)) = self.fault.chance else { return true };
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((mixed >> 11) as f64) < chance * (1_u64 << 53) as f64
    }
}

/// What happens to this request.
pub(crate) fn choose(armed: &mut [Armed], method: &str, path: &str) -> Option<Effect> {
    let matching =
        |armed: &&mut Armed| armed.fault.effect != Effect::Refuse && armed.fault.matches(method, path);
    let mut matching = armed.iter_mut().filter(matching);
    matching.find_map(|armed| armed.fires().then(|| armed.fault.effect.clone()))
}

/// Whether this connection is closed at once.
pub(crate) fn refuses(armed: &mut [Armed]) -> bool {
    armed.iter_mut().filter(|armed| armed.fault.effect == Effect::Refuse).any(Armed::fires)
}

fn path_matches(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|at| path_matches(rest, &path[at..])),
        [b'*', rest @ ..] => {
            let segment = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (0..=segment).any(|at| path_matches(rest, &path[at..]))
        }
        [byte, rest @ ..] => path.first() == Some(byte) && path_matches(rest, &path[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of `requests` matching requests are hit.
    fn hits(fault: Fault, requests: u64) -> Vec<u64> {
        let mut armed = [Armed::new(fault)];
        (1..=requests).filter(|_| choose(&mut armed, "POST", "/api/v2/tickets").is_some()).collect()
    }

    #[test]
    fn a_fault_picks_its_requests() {
        let fault = || Fault::new(Effect::CommitThenReset);
        assert_eq!(hits(fault(), 3), [1, 2, 3]);
        assert_eq!(hits(fault().every(5), 12), [5, 10]);
        assert_eq!(hits(fault().first(2), 5), [1, 2]);
        assert_eq!(hits(fault().after(2).first(2), 6), [3, 4]);
        assert_eq!(hits(fault().every(2).times(2), 9), [2, 4]);
        assert_eq!(hits(fault().on("POST", "/api/v2/tickets").times(1), 3), [1]);
        assert_eq!(hits(fault().on("GET", "/api/v2/tickets"), 3), [0_u64; 0]);
    }

    #[test]
    fn chance_comes_from_the_seed() {
        let fault = |chance, seed| Fault::new(Effect::WrongKey).probability(chance, seed);
        let some = hits(fault(0.3, 7), 1000);
        assert!((200..400).contains(&some.len()), "{}", some.len());
        assert_eq!(hits(fault(0.3, 7), 1000), some);
        assert_ne!(hits(fault(0.3, 8), 1000), some);
        assert_eq!(hits(fault(1.0, 7), 50).len(), 50);
        assert_eq!(hits(fault(0.0, 7), 50).len(), 0);
    }

    #[test]
    fn the_first_that_fires_decides() {
        let mut armed = [
            Armed::new(Fault::new(Effect::WrongKey).every(2)),
            Armed::new(Fault::new(Effect::CommitThenReset)),
        ];
        let mut next = || choose(&mut armed, "GET", "/").map(|effect| effect.name());
        assert_eq!([next(), next()], [Some("commit_then_reset"), Some("wrong_key")]);
        assert_eq!(armed[1].seen, 1);
    }

    #[test]
    fn stars_match_segments_and_double_stars_anything() {
        let check = |pattern: &str, path: &str, expect: bool| {
            assert_eq!(path_matches(pattern.as_bytes(), path.as_bytes()), expect, "{pattern} {path}");
        };
        check("/api/v2/tickets", "/api/v2/tickets", true);
        check("/api/v2/tickets", "/api/v2/tickets/1", false);
        check("/api/v2/tickets/*", "/api/v2/tickets/1", true);
        check("/api/v2/tickets/*", "/api/v2/tickets/1/notes", false);
        check("/api/v2/tickets/*/notes", "/api/v2/tickets/12/notes", true);
        check("/api/v2/**", "/api/v2/tickets/12/notes", true);
    }
}
