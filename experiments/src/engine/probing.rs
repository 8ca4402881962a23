//! Probes of the weights between training steps.

use super::event::{Event, Probed};
use super::session::{Observer, Session};
use crate::Error;

/// Measurement of the weights of a session, which changes nothing about its training.
pub trait Probe {
    /// Returns the names of the families of items.
    fn families(&self) -> Vec<String>;

    /// Returns whether the weights are to be probed after this many optimizer steps.
    fn is_due(&self, step: usize) -> bool;

    /// Probes the present weights.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails, or predictions are not finite.
    fn probe(&mut self, session: &Session) -> Result<Probed, Error>;
}

/// Probe of a run, and notes about it for the user.
pub type ProbeWithNotes = (Box<dyn Probe + Send>, Vec<String>);

/// Observer that probes the weights after the steps at which a probe is due, and reports the result to another observer.
/// It forwards every event to that one, a step after its probes.
pub(crate) struct Probing<'o> {
    probe: Option<Box<dyn Probe + Send>>,
    observer: &'o mut dyn Observer,
}

impl<'o> Probing<'o> {
    /// Returns the observer. Without a probe it only forwards.
    pub(crate) fn new(
        probe: Option<Box<dyn Probe + Send>>,
        observer: &'o mut dyn Observer,
    ) -> Self {
        Self { probe, observer }
    }
}

impl Observer for Probing<'_> {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        if let (Event::Stepped(_), Some(probe)) = (event, &mut self.probe)
            && probe.is_due(session.state().step)
        {
            let probed = probe.probe(session)?;
            self.observer.observe(&Event::Probed(&probed), session)?;
        }
        self.observer.observe(event, session)
    }
}
