//! Threads that stay awake between the pieces of a step.
//!
//! Flex's operations are pieces of work for rayon's threads. A thread without work goes to sleep after some microseconds,
//! and to wake it takes longer than most pieces do, of a small model's step a third of the time.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long work waits for the threads to come: somewhat longer than they take to wake up.
const PATIENCE: Duration = Duration::from_micros(500);

/// Of [`Company::arrived`]: nobody is waited for any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Runs `work` on one of rayon's threads, with the others awake, as far as they have nothing else to do.
pub(in crate::ops) fn among<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|scope| {
        let others = rayon::current_num_threads() - 1;
        let company = Arc::new(Company::default());
        for _ in 0..others {
            let company = company.clone();
            scope.spawn(move |_| company.keep());
        }
        company.gather(others);
        let _over = Over(&company);
        work()
    })
}

/// Threads that look for work until there is none left to come.
#[derive(Default)]
struct Company {
    arrived: AtomicUsize,
    over: AtomicBool,
}

impl Company {
    /// Waits for so many threads, but not long. One that came later might have come while it waits for a piece of the very
    /// work that it would then keep company until it is over.
    fn gather(&self, others: usize) {
        let until = Instant::now() + PATIENCE;
        while self.arrived.load(Ordering::Acquire) < others && Instant::now() < until {
            spin_loop();
        }
        self.arrived.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// What a thread does: pieces of work, until it is over.
    fn keep(&self) {
        if self.arrived.fetch_add(1, Ordering::AcqRel) & CLOSED != 0 {
            return;
        }
        while !self.over.load(Ordering::Acquire) {
            if rayon::yield_now() == Some(rayon::Yield::Idle) {
                for _ in 0..64 {
                    spin_loop();
                }
            }
        }
    }
}

/// Says that it is over, also where the work panics.
struct Over<'a>(&'a Company);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may panic
mod tests {
    use rayon::iter::{IntoParallelIterator, ParallelIterator};

    use super::*;

    fn on<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(work)
    }

    fn sum(count: u64) -> u64 {
        (0..count).into_par_iter().map(|x| x % 7).sum()
    }

    #[test]
    fn work_gets_done_however_many_threads_and_levels_there_are() {
        for threads in [1, 2, 3, 8] {
            on(threads, || {
                let expected = sum(100_000);
                for _ in 0..20 {
                    assert_eq!(among(|| sum(100_000)), expected);
                    assert_eq!(among(|| among(|| sum(100_000))), expected);
                }
            });
        }
    }

    #[test]
    fn two_at_once_do_not_wait_for_each_other() {
        for threads in [1, 2, 3] {
            on(threads, || {
                for _ in 0..50 {
                    let (one, other) =
                        rayon::join(|| among(|| sum(50_000)), || among(|| sum(50_000)));
                    assert_eq!(one, other);
                }
                let many: Vec<u64> = (0..30)
                    .into_par_iter()
                    .map(|_| among(|| sum(20_000)))
                    .collect();
                assert!(many.iter().all(|one| *one == many[0]));
            });
        }
    }

    #[test]
    fn a_panic_comes_out() {
        let panicked = std::panic::catch_unwind(|| on(3, || among(|| panic!("here"))));
        assert!(panicked.is_err());
    }
}
