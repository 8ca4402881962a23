//! Observers made of other observers.

use super::event::Event;
use super::session::{Observer, Session};
use crate::Error;

/// No observer.
impl Observer for () {
    fn observe(&mut self, _: &Event<'_>, _: &Session) -> Result<(), Error> {
        Ok(())
    }
}

/// Several observers, each of which receives every event or one step of so many.
#[derive(Default)]
pub struct Observers<'a>(Vec<Registered<'a>>);

struct Registered<'a> {
    /// Steps between two [`Event::Stepped`] that are passed on.
    period: usize,
    observer: Box<dyn Observer + Send + 'a>,
}

impl<'a> Observers<'a> {
    /// No observers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an observer of every event. Observers are called in the order in which they were added.
    pub fn with(self, observer: impl Observer + Send + 'a) -> Self {
        self.every(1, observer)
    }

    /// Adds an observer that receives every `period`-th step, by the number of steps taken after it, and all other
    /// events.
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
            let passes = match event {
                Event::Stepped(stepped) => (stepped.step + 1).is_multiple_of(registered.period),
                _ => true,
            };
            if passes {
                registered.observer.observe(event, session)?;
            }
        }
        Ok(())
    }
}

/// An observer, or none.
impl<T: Observer> Observer for Option<T> {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        match self {
            Some(observer) => observer.observe(event, session),
            None => Ok(()),
        }
    }
}

/// Receives the events of both.
impl<A: Observer + ?Sized, B: Observer + ?Sized> Observer for (&mut A, &mut B) {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        self.0.observe(event, session)?;
        self.1.observe(event, session)
    }
}
