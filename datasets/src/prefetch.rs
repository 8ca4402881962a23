//! Batches made ahead of their use, on a thread of their own. The order and the content are those of
//! making each one when it is asked for.

use std::{
    any::Any,
    io,
    ops::Range,
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, JoinHandle},
};

use burn::data::{dataloader::Progress, dataset::DatasetError};

use crate::DataError;

/// How many batches wait at most.
const AHEAD: usize = 2;

/// What a thread makes of items, a batch at a time. Dropping it ends the thread.
pub(crate) struct Prefetch<T> {
    items: Range<usize>,
    /// The item after those that were handed over.
    next: usize,
    /// `None` after the end. A thread that could not be started is reported as the first item.
    maker: Option<io::Result<Maker<T>>>,
}

struct Maker<T> {
    /// Each with the item after it.
    made: Receiver<Result<(T, usize), DataError>>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts to make the batches of `items`.
    pub(crate) fn new(
        items: Range<usize>,
        batch: usize,
        make: impl Fn(Range<usize>) -> Result<T, DataError> + Send + 'static,
    ) -> Self {
        let (sender, made) = sync_channel(AHEAD);
        let Range { mut start, end } = items;
        let work = move || {
            loop {
                let next = end.min(start.saturating_add(batch));
                if next <= start {
                    break;
                }
                let result = make(start..next).map(|value| (value, next));
                let last = result.is_err();
                // It cannot be sent where nobody waits for it any more.
                if sender.send(result).is_err() || last {
                    break;
                }
                start = next;
            }
        };
        let thread = thread::Builder::new().name("batches".into()).spawn(work);
        Self {
            next: items.start,
            items,
            maker: Some(thread.map(|thread| Maker { made, thread })),
        }
    }
}

impl<T> Prefetch<T> {
    /// How many items were handed over.
    pub(crate) fn progress(&self) -> Progress {
        let done = self.next - self.items.start;
        Progress::new(done, self.items.len(), Some("windows".into()))
    }
}

impl<T> Maker<T> {
    /// Ends the thread; returns what it panicked with.
    fn end(self) -> Option<Box<dyn Any + Send>> {
        // A thread that waits for room ends when nobody receives any more.
        drop(self.made);
        self.thread.join().err()
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Result<T, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let maker = match self.maker.take()? {
            Ok(maker) => maker,
            Err(error) => return Some(Err(DatasetError::new(error))),
        };
        match maker.made.recv() {
            Ok(Ok((value, next))) => {
                self.next = next;
                self.maker = Some(Ok(maker));
                Some(Ok(value))
            }
            Ok(Err(error)) => {
                maker.end();
                Some(Err(DatasetError::new(error)))
            }
            // The thread has ended: it is done, or it panicked.
            Err(_) => maker.end().map(|panic| {
                let message = format!("reading a batch panicked: {}", text_of(&*panic));
                Err(DatasetError::new(io::Error::other(message)))
            }),
        }
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        if let Some(Ok(maker)) = self.maker.take() {
            maker.end();
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a message",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    type Made = Result<Range<usize>, DataError>;

    fn echo(items: Range<usize>) -> Made {
        Ok(items)
    }

    #[test]
    fn batches_come_in_order_and_progress_counts_what_was_handed_over() {
        let mut prefetch = Prefetch::new(10..31, 8, echo);
        assert_eq!(prefetch.progress().items_processed, 0);
        let mut seen = vec![];
        while let Some(batch) = prefetch.next() {
            seen.push((batch.unwrap(), prefetch.progress().items_processed));
        }
        assert_eq!(seen, [(10..18, 8), (18..26, 16), (26..31, 21)]);
        assert!(prefetch.progress().is_completed());
        assert!(prefetch.next().is_none());
    }

    #[test]
    fn nothing_to_read_is_the_end() {
        assert!(Prefetch::new(3..3, 8, echo).next().is_none());
        assert!(Prefetch::new(3..9, 0, echo).next().is_none());
        let mut last = Prefetch::new(usize::MAX - 1..usize::MAX, 8, echo);
        assert_eq!(last.next().unwrap().unwrap(), usize::MAX - 1..usize::MAX);
        assert!(last.next().is_none());
    }

    /// The channel is full, half full or empty; the thread is at work or done.
    #[test]
    fn dropping_early_ends_the_thread() {
        for batches in [1, 2, 3, 5, 100_000] {
            for taken in [0, 1, 2, 4] {
                let made = Arc::new(AtomicUsize::new(0));
                let counter = made.clone();
                let mut prefetch = Prefetch::new(0..batches, 1, move |items| {
                    counter.fetch_add(1, Ordering::Relaxed);
                    echo(items)
                });
                let taken = prefetch.by_ref().take(taken).count();
                let full = batches.min(taken + AHEAD + 1);
                while made.load(Ordering::Relaxed) < full {
                    thread::yield_now();
                }
                drop(prefetch);
                // Two waited, and one was on its way when there was no room.
                assert!(made.load(Ordering::Relaxed) <= full);
                assert_eq!(Arc::strong_count(&made), 1, "the thread is still there");
            }
        }
    }

    #[test]
    fn an_error_comes_in_its_turn_and_once() {
        let fail_at_5 = |items: Range<usize>| match items.start {
            5 => Err(DataError::Interrupted),
            _ => echo(items),
        };
        let mut prefetch = Prefetch::new(0..100, 1, fail_at_5);
        for i in 0..5 {
            assert_eq!(prefetch.next().unwrap().unwrap(), i..i + 1);
        }
        let error = prefetch.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), DataError::Interrupted.to_string());
        assert!(prefetch.next().is_none());
        assert!(prefetch.next().is_none());
        assert_eq!(prefetch.progress().items_processed, 5);
    }

    #[test]
    fn a_panic_is_an_error_and_not_a_wait() {
        let panic_at_2 = |items: Range<usize>| match items.start {
            2 => panic!("item {}", items.start),
            _ => echo(items),
        };
        let mut prefetch = Prefetch::new(0..100, 1, panic_at_2);
        assert_eq!(prefetch.by_ref().take(2).filter(Result::is_ok).count(), 2);
        let error = prefetch.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("item 2"), "{error}");
        assert!(prefetch.next().is_none());
        drop(Prefetch::new(2..100, 1, panic_at_2));
    }
}
