//! The memory that answers may take together: those that wait, those that are computed, and those that are not sent yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::failure::Failure;

/// Memory that answers may take together.
pub(super) struct Budget {
    limit: usize,
    taken: AtomicUsize,
}

/// Part of a budget, which is free again when it is dropped.
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: AtomicUsize::new(0),
        }
    }

    /// Takes memory for an answer. `advice` says how a client makes the answer smaller.
    ///
    /// # Errors
    ///
    /// Returns a failure with status 400 if the budget can never hold the answer, and with status 503 if other answers
    /// take too much of it now.
    pub(super) fn reserve(
        self: &Arc<Self>,
        bytes: usize,
        advice: &str,
    ) -> Result<Reservation, Failure> {
        if bytes > self.limit {
            let message = format!(
                "the answer may take {}, more than the {} of --answer-memory; {advice}",
                mebibytes(bytes.saturating_add(MIB - 1)),
                mebibytes(self.limit)
            );
            return Err(Failure::new(400, message));
        }
        let with_bytes = |taken: usize| {
            let taken = taken.checked_add(bytes)?;
            (taken <= self.limit).then_some(taken)
        };
        let order = Ordering::SeqCst;
        match self.taken.fetch_update(order, order, with_bytes) {
            Ok(_) => Ok(Reservation {
                budget: self.clone(),
                bytes,
            }),
            Err(_) => {
                let message = format!(
                    "answers under way take the {} of --answer-memory; try again later",
                    mebibytes(self.limit)
                );
                Err(Failure::new(503, message))
            }
        }
    }
}

impl Reservation {
    /// Frees what is above `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let freed = self.bytes.saturating_sub(bytes);
        self.budget.taken.fetch_sub(freed, Ordering::SeqCst);
        self.bytes -= freed;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

const MIB: usize = 1 << 20;

fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_beyond_the_budget_are_refused_until_others_are_sent() {
        let budget = Arc::new(Budget::new(8 * MIB));
        let refused = |bytes: usize| {
            let refused = budget.reserve(bytes, "lower n").err();
            refused.map(|failure| (failure.status, failure.body()))
        };
        let (status, body) = refused(8 * MIB + 1).unwrap();
        assert_eq!(status, 400);
        assert!(body.contains("9 MiB") && body.contains("lower n"), "{body}");
        let mut first = budget.reserve(6 * MIB, "").ok().unwrap();
        assert_eq!(refused(3 * MIB).unwrap().0, 503);
        assert_eq!(refused(usize::MAX).unwrap().0, 400);
        let second = budget.reserve(2 * MIB, "").ok().unwrap();
        assert_eq!(refused(1).unwrap().0, 503);
        first.shrink(MIB);
        assert_eq!(refused(5 * MIB), None);
        drop((first, second));
        assert_eq!(refused(8 * MIB), None);
        assert_eq!(budget.taken.load(Ordering::SeqCst), 0);
    }
}
