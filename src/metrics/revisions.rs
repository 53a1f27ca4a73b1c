//! Rows by revision that many tasks count into at a time, without a lock.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{Ordering, fence},
};

use arc_swap::ArcSwap;

use crate::side::Revision;

/// What is counted under one revision, by atomics.
pub(super) trait Row: Default {
    /// Moves everything out of `self` into `other`. Counts that come meanwhile stay in one of the two.
    fn move_into(&self, other: &Self);
}

/// A bounded number of rows; the oldest are added up into the one after them.
#[derive(Debug)]
pub(super) struct ByRevision<R> {
    most: usize,
    rows: ArcSwap<Rows<R>>,
    /// Rows that were added up, but may be counted into still by whoever found them before. Held while rows change or are read as a whole.
    retired: Mutex<Vec<Arc<R>>>,
}

type Rows<R> = Vec<(Revision, Arc<R>)>;

impl<R: Row> ByRevision<R> {
    pub(super) fn new(most: usize) -> Self {
        ByRevision {
            most: most.max(1),
            rows: ArcSwap::default(),
            retired: Mutex::default(),
        }
    }

    /// Counts under `revision`: no lock and no allocation, except for the first of a revision.
    pub(super) fn count(&self, revision: Revision, by: impl FnOnce(&R)) {
        {
            let rows = self.rows.load();
            // Nearly always it is the last one.
            if let Some((_, row)) = rows.iter().rev().find(|row| row.0 == revision) {
                return by(row);
            }
        }
        let mut retired = self.lock();
        let mut rows = Rows::clone(&self.rows.load());
        let place = rows.partition_point(|row| row.0 < revision);
        if rows.get(place).is_none_or(|row| row.0 != revision) {
            rows.insert(place, (revision, Arc::default()));
        }
        by(&rows[place].1);
        while rows.len() > self.most {
            let (_, oldest) = rows.remove(0);
            oldest.move_into(&rows[0].1);
            retired.push(oldest);
        }
        self.rows.store(Arc::new(rows));
    }

    /// All rows, oldest first.
    pub(super) fn all(&self) -> Rows<R> {
        let mut retired = self.lock();
        let rows = Rows::clone(&self.rows.load());
        if let Some((_, oldest)) = rows.first() {
            retired.retain(|row| {
                // Asked before it is emptied: what nobody else holds is not counted into any more.
                let is_held = Arc::strong_count(row) > 1;
                // Whoever let go has counted before.
                fence(Ordering::Acquire);
                row.move_into(oldest);
                is_held
            });
        }
        rows
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<R>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[derive(Debug, Default)]
    struct Count(AtomicU64);

    impl Row for Count {
        fn move_into(&self, other: &Self) {
            let moved = self.0.swap(0, Ordering::AcqRel);
            other.0.fetch_add(moved, Ordering::AcqRel);
        }
    }

    #[test]
    fn nothing_is_lost_while_rows_come_and_are_added_up() {
        const EACH: u64 = 20_000;
        let rows = ByRevision::<Count>::new(3);
        let total = || {
            let rows = rows.all();
            rows.iter()
                .map(|row| row.1.0.load(Ordering::Acquire))
                .sum::<u64>()
        };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let rows = &rows;
                scope.spawn(move || {
                    for number in 0..EACH {
                        // Late ones, too.
                        let revision = Revision((number / 10).saturating_sub(thread * 3));
                        rows.count(revision, |row| {
                            row.0.fetch_add(1, Ordering::AcqRel);
                        });
                    }
                });
            }
            scope.spawn(|| {
                let mut last = 0;
                while last < 4 * EACH {
                    let now = total();
                    assert!(now <= 4 * EACH);
                    last = last.max(now);
                }
            });
        });
        assert_eq!(total(), 4 * EACH);
        assert!(rows.all().len() <= 3);
        assert!(rows.lock().is_empty());
    }
}
