//! Runs of a comparison: sessions that differ from the experiment's own in backend, precision, seed or rounding.

use burn::optim::ModuleOptimizer;
use burn::tensor::{Bytes, TensorData};
use burn_pack::{Reader, Tensor, Writer};

use super::Entrant;
use crate::Error;
use crate::backend::precision::Precision;
use crate::engine::learner::{PARTS, Records};
use crate::engine::perturbation::Perturbation;
use crate::engine::rounding::nudged;
use crate::engine::session::{Session, SessionOptions};
use crate::engine::setup::Setup;

/// Differences of a run from the others of its backend and precision.
#[derive(Clone, Default)]
pub(crate) struct Variant {
    /// Seed; `None` for the experiment's own.
    pub(crate) seed: Option<u64>,
    /// Seed of the random directions in which each initial weight is moved by one unit in the last place; `None` leaves
    /// the weights unchanged.
    pub(crate) nudge: Option<u64>,
    pub(crate) perturbation: Perturbation,
}

/// Checkpoint of a run in memory.
pub(crate) struct Snapshot {
    pub(super) step: usize,
    pub(super) records: Records,
    /// The state of a caller's optimizer as it is, with its backend and precision.
    pub(super) optimizer: Option<(Entrant, ModuleOptimizer)>,
}

impl Snapshot {
    /// Takes the checkpoint that a session would save now.
    pub(crate) fn of(session: &Session) -> Result<Self, Error> {
        Ok(Self {
            step: session.state().step,
            records: session.to_records()?,
            optimizer: None,
        })
    }
}

impl Variant {
    /// Creates the session of a run before its first step.
    pub(crate) fn session(&self, setup: &Setup, entrant: Entrant) -> Result<Session, Error> {
        let options = SessionOptions {
            backend: entrant.name,
            dtype: entrant.dtype,
            seed: self.seed.unwrap_or(setup.experiment.train.seed),
            perturbation: self.perturbation.clone(),
        };
        let mut session = Session::new(setup, options)?;
        self.nudge(&mut session, entrant.dtype);
        Ok(session)
    }

    /// Resumes another run's checkpoint, with weights and optimizer state rounded to this run's precision. Without a
    /// checkpoint, creates the session of a run before its first step.
    pub(crate) fn session_at(
        &self,
        setup: &Setup,
        entrant: Entrant,
        snapshot: Option<&Snapshot>,
    ) -> Result<Session, Error> {
        let mut session = self.session(setup, entrant)?;
        let Some(snapshot) = snapshot else {
            return Ok(session);
        };
        let mut records = Records::new();
        for (name, bytes) in &snapshot.records {
            let [_, optimizer, _] = PARTS;
            // Moments are kept in f32 at least.
            let precision = match entrant.dtype {
                Precision::BF16 | Precision::F16 if name == optimizer => Precision::F32,
                dtype => dtype,
            };
            records.insert(name.clone(), rounded(bytes, precision)?);
        }
        session.load_records(records, snapshot.step)?;
        self.nudge(&mut session, entrant.dtype);
        Ok(session)
    }

    fn nudge(&self, session: &mut Session, precision: Precision) {
        if let Some(member) = self.nudge {
            session.change_weights(|transformer| nudged(transformer, precision, member));
        }
    }
}

/// Rounds the numbers of a record to another precision.
pub(super) fn rounded(part: &[u8], precision: Precision) -> Result<Vec<u8>, Error> {
    let failed = |error: burn_pack::Error| Error::Training(error.to_string());
    let reader = Reader::from_bytes(Bytes::from_bytes_vec(part.to_vec())).map_err(failed)?;
    let (metadata, scalars) = (reader.metadata().clone(), reader.scalars().clone());
    let round = |tensor: Tensor| {
        let (name, dtype, shape, id, bytes) = tensor.into_parts()?;
        let data = TensorData::from_bytes(bytes, shape, dtype);
        let data = match dtype.is_float() {
            true => data.convert_dtype(precision.dtype()),
            false => data,
        };
        let (bytes, shape, dtype) = data.into_parts();
        Ok(Tensor::new(name, dtype, shape, id, bytes))
    };
    let tensors = reader.into_tensors().map_err(failed)?;
    let tensors: Result<Vec<_>, _> = tensors.into_iter().map(round).collect();
    let mut writer = Writer::new(tensors.map_err(failed)?);
    for (key, value) in &metadata {
        writer = writer.with_metadata(key, value);
    }
    for (key, value) in &scalars {
        writer = writer.with_scalar(key, *value);
    }
    Ok(writer.into_bytes().map_err(failed)?.to_vec())
}
