//! Prefetching of batches on a separate thread. It changes neither the order nor the content of the batches.

use std::{
    any::Any,
    io,
    ops::Range,
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, JoinHandle},
};

use burn::data::{dataloader::Progress, dataset::DatasetError};

use crate::DataError;

/// Maximum number of batches that wait for their use.
const AHEAD: usize = 2;

/// Iterator over values that a thread makes from batches of items. Dropping it ends the thread.
pub(crate) struct Prefetch<T> {
    items: Range<usize>,
    /// Item after the last batch returned.
    next: usize,
    /// `None` after the end. If the thread could not be started, the error is returned as the first batch.
    producer: Option<io::Result<Producer<T>>>,
}

struct Producer<T> {
    /// Values, each with the item after its batch.
    values: Receiver<Result<(T, usize), DataError>>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts a thread that calls `make` for each batch of `items`.
    pub(crate) fn new(
        items: Range<usize>,
        batch: usize,
        make: impl Fn(Range<usize>) -> Result<T, DataError> + Send + 'static,
    ) -> Self {
        let (sender, values) = sync_channel(AHEAD);
        let Range { mut start, end } = items;
        let work = move || {
            loop {
                let next = end.min(start.saturating_add(batch));
                if next <= start {
                    break;
                }
                let result = make(start..next).map(|value| (value, next));
                let last = result.is_err();
                // Sending fails once the iterator is dropped.
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
            producer: Some(thread.map(|thread| Producer { values, thread })),
        }
    }
}

impl<T> Prefetch<T> {
    /// Returns the number of items in the batches returned so far.
    pub(crate) fn progress(&self) -> Progress {
        let done = self.next - self.items.start;
        Progress::new(done, self.items.len(), Some("windows".into()))
    }
}

impl<T> Producer<T> {
    /// Ends the thread, and returns the payload of its panic, if it panicked.
    fn end(self) -> Option<Box<dyn Any + Send>> {
        // Without a receiver, a thread that waits for the channel ends.
        drop(self.values);
        self.thread.join().err()
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Result<T, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let producer = match self.producer.take()? {
            Ok(producer) => producer,
            Err(error) => return Some(Err(DatasetError::new(error))),
        };
        match producer.values.recv() {
            Ok(Ok((value, next))) => {
                self.next = next;
                self.producer = Some(Ok(producer));
                Some(Ok(value))
            }
            Ok(Err(error)) => {
                producer.end();
                Some(Err(DatasetError::new(error)))
            }
            // The thread has ended normally or has panicked.
            Err(_) => producer.end().map(|panic| {
                let message = format!("reading a batch panicked: {}", text_of(&*panic));
                Err(DatasetError::new(io::Error::other(message)))
            }),
        }
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        if let Some(Ok(producer)) = self.producer.take() {
            producer.end();
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

    type Batch = Result<Range<usize>, DataError>;

    fn echo(items: Range<usize>) -> Batch {
        Ok(items)
    }

    #[test]
    fn batches_come_in_order_and_progress_counts_their_items() {
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
    fn empty_range_has_no_batch() {
        assert!(Prefetch::new(3..3, 8, echo).next().is_none());
        assert!(Prefetch::new(3..9, 0, echo).next().is_none());
        let mut last = Prefetch::new(usize::MAX - 1..usize::MAX, 8, echo);
        assert_eq!(last.next().unwrap().unwrap(), usize::MAX - 1..usize::MAX);
        assert!(last.next().is_none());
    }

    /// The thread ends whether the channel is full, half full or empty, and whether it is working or done.
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
                // Two waited in the channel, and one for space in the channel.
                assert!(made.load(Ordering::Relaxed) <= full);
                assert_eq!(Arc::strong_count(&made), 1, "the thread is still running");
            }
        }
    }

    #[test]
    fn error_is_returned_once_after_the_batches_before_it() {
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
    fn panic_of_the_thread_is_an_error() {
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
