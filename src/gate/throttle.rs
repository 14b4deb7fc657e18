//! Warnings that a flood of bad luck must not turn into a flood of log lines.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// At most one warning in this time.
const GAP: Duration = Duration::from_secs(10);

/// Lets one warning pass per [`GAP`] and counts the others.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Throttle {
    /// Logs `message`, or only counts it when one was logged a moment ago.
    pub fn warn(&self, message: &str) {
        match self.suppressed_until(Instant::now()) {
            None => {}
            Some(0) => log::warn!("{message}"),
            Some(suppressed) => log::warn!("{message} (and {suppressed} like it before)"),
        }
    }

    /// How many were held back, if one may pass now.
    fn suppressed_until(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().expect("nothing panics while it holds the count");
        if state.0.is_some_and(|last| now < last + GAP) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_passes_and_tells_of_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.suppressed_until(start), Some(0));
        assert_eq!(throttle.suppressed_until(start + GAP / 2), None);
        assert_eq!(throttle.suppressed_until(start + GAP / 2), None);
        assert_eq!(throttle.suppressed_until(start + GAP), Some(2));
    }
}
