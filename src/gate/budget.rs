//! The memory that request bodies may hold together.
//!
//! **Invariant:** what is reserved is given back when its [`Reservation`] is dropped, also by a panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::limits::{Limits, SMALL_BODY_BYTES};
use super::refusal::{Reason, Refusal};

/// Bytes of bodies that are held right now.
#[derive(Debug, Default)]
pub struct Budget {
    held_bytes: AtomicU64,
}

impl Budget {
    /// What all requests together hold now.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Nothing reserved yet, under the ceilings of `limits`.
    pub fn reservation(self: &Arc<Budget>, limits: &Limits) -> Reservation {
        let all_bytes = limits.body_budget_bytes.max(limits.body_bytes_max);
        let large_bytes = (all_bytes / 4 * 3).max(limits.body_bytes_max);
        Reservation { budget: Arc::clone(self), bytes: 0, all_bytes, large_bytes }
    }
}

/// One request's share of the budget.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
    all_bytes: u64,
    large_bytes: u64,
}

impl Reservation {
    /// Makes sure that `bytes` are reserved. Large bodies are refused while small ones still fit, so that a
    /// few slow uploads do not turn away ordinary webhooks.
    pub fn cover(&mut self, bytes: usize) -> Result<(), Refusal> {
        let bytes = bytes as u64;
        if bytes <= self.bytes {
            return Ok(());
        }
        let ceiling = if bytes <= SMALL_BODY_BYTES { self.all_bytes } else { self.large_bytes };
        let more = bytes - self.bytes;
        let held = self.budget.held_bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.bytes = bytes;
        // A refused request is dropped with its reservation, so what was just added needs no undoing here.
        if held > ceiling { Err(Reason::BodyBudget.because("too many bodies at once")) } else { Ok(()) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_for_small_bodies() {
        let limits = Limits { body_bytes_max: 100_000, body_budget_bytes: 400_000, ..Limits::default() };
        let budget = Arc::new(Budget::default());
        let mut large: Vec<_> = (0..3).map(|_| budget.reservation(&limits)).collect();
        for reservation in &mut large {
            reservation.cover(100_000).expect("three large bodies fit");
        }
        let refused = budget.reservation(&limits).cover(100_000).map_err(|refusal| refusal.reason);
        assert_eq!(refused, Err(Reason::BodyBudget));
        budget.reservation(&limits).cover(2_000).expect("a small body still fits");
        large.clear();
        budget.reservation(&limits).cover(100_000).expect("everything was given back");
        assert_eq!(budget.held_bytes(), 0);
    }
}
