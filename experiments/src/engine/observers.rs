//! Observers that combine other observers.

use super::event::Event;
use super::session::{Observer, Session};
use crate::Error;

/// Several observers, each with a period of steps.
#[derive(Default)]
pub struct Observers<'a>(Vec<Registered<'a>>);

struct Registered<'a> {
    /// Number of steps per forwarded [`Event::Stepped`].
    period: usize,
    observer: Box<dyn Observer + Send + 'a>,
}

impl<'a> Observers<'a> {
    /// Returns an empty list of observers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an observer of every event. Observers are called in the order in which they were added.
    pub fn with(self, observer: impl Observer + Send + 'a) -> Self {
        self.every(1, observer)
    }

    /// Adds an observer of every `period`-th step and of all other events. Steps are counted from 1.
    pub fn every(mut self, period: usize, observer: impl Observer + Send + 'a) -> Self {
        self.0.push(Registered {
            period: period.max(1),
            observer: Box::new(observer),
        });
        self
    }
}

impl Observer for Observers<'_> {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        for registered in &mut self.0 {
            let is_due = match event {
                Event::Stepped(stepped) => (stepped.step + 1).is_multiple_of(registered.period),
                _ => true,
            };
            if is_due {
                registered.observer.observe(event, session)?;
            }
        }
        Ok(())
    }
}

/// Forwards events to the observer, if there is one.
impl<T: Observer> Observer for Option<T> {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        match self {
            Some(observer) => observer.observe(event, session),
            None => Ok(()),
        }
    }
}

/// Forwards events to both observers.
impl<A: Observer + ?Sized, B: Observer + ?Sized> Observer for (&mut A, &mut B) {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        self.0.observe(event, session)?;
        self.1.observe(event, session)
    }
}
