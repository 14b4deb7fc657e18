//! A set of envelope numbers, small when they come in runs.

use super::envelope::Id;
use std::collections::BTreeMap;

/// Runs as first → last. Numbers arrive and settle almost in order, so there are few runs.
#[derive(Default)]
pub struct IdSet {
    runs: BTreeMap<Id, Id>,
}

impl IdSet {
    pub fn contains(&self, id: Id) -> bool {
        self.runs.range(..=id).next_back().is_some_and(|(_, last)| id <= *last)
    }

    pub fn insert(&mut self, id: Id) {
        self.insert_run(id, id);
    }

    pub fn insert_run(&mut self, first: Id, last: Id) {
        let (mut first, mut last) = (first, last);
        while let Some((&start, &end)) = self.runs.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.runs.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.runs.insert(first, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn runs_grow_together() {
        let mut set = IdSet::default();
        for id in [5, 7, 6, 1, 9] {
            set.insert(id);
        }
        assert_eq!(set.runs, BTreeMap::from([(1, 1), (5, 7), (9, 9)]));
        set.insert_run(2, 8);
        assert_eq!(set.runs, BTreeMap::from([(1, 9)]));
    }

    proptest::proptest! {
        #[test]
        fn behaves_like_a_set(runs in proptest::collection::vec((0u64..60, 0u64..6), 0..30)) {
            let (mut set, mut model) = (IdSet::default(), BTreeSet::new());
            for (first, length) in runs {
                set.insert_run(first, first + length);
                model.extend(first..=first + length);
            }
            for id in 0..70 {
                assert_eq!(set.contains(id), model.contains(&id), "id {id}");
            }
        }
    }
}
