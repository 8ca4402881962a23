//! Runs of a comparison: sessions that differ from the experiment's own in backend, precision, seed or rounding.

use burn::tensor::{Bytes, TensorData};
use burn_pack::{Reader, Tensor, Writer};
use foretoken_model::Transformer;
use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::Entrant;
use crate::Error;
use crate::backend::precision::Precision;
use crate::engine::learner::{PARTS, Records};
use crate::engine::parameters;
use crate::engine::perturbation::Perturbation;
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
    step: usize,
    records: Records,
}

impl Snapshot {
    /// Takes the checkpoint that a session would save now.
    pub(crate) fn of(session: &Session) -> Result<Self, Error> {
        Ok(Self {
            step: session.state().step,
            records: session.to_records()?,
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
fn rounded(part: &[u8], precision: Precision) -> Result<Vec<u8>, Error> {
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

/// Moves each weight by one unit in the last place of its precision, in random directions with the seed `member`. Zeros
/// stay, because the neighbours of 0 are farther away than a rounding.
fn nudged(transformer: Transformer, precision: Precision, member: u64) -> Transformer {
    let mut random = ChaCha8Rng::seed_from_u64(member);
    parameters::changed(transformer, |mut values| {
        for value in &mut values {
            *value = next_to(*value, precision, random.next_u32() & 1 == 0);
        }
        values
    })
}

/// Returns the neighbour of `value` in this precision, away from 0 or towards it.
fn next_to(value: f64, precision: Precision, away: bool) -> f64 {
    if value == 0.0 {
        return value;
    }
    let step16 = |bits: u16| if away { bits + 1 } else { bits - 1 };
    match precision {
        Precision::F64 => {
            let bits = value.to_bits();
            f64::from_bits(if away { bits + 1 } else { bits - 1 })
        }
        Precision::F32 => {
            let bits = (value as f32).to_bits();
            f64::from(f32::from_bits(if away { bits + 1 } else { bits - 1 }))
        }
        Precision::BF16 => bf16::from_bits(step16(bf16::from_f64(value).to_bits())).to_f64(),
        Precision::F16 => f16::from_bits(step16(f16::from_f64(value).to_bits())).to_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_are_one_unit_in_the_last_place_away() {
        for precision in Precision::ALL {
            let u = precision.unit_roundoff();
            assert_eq!(next_to(1.0, precision, true), 1.0 + 2.0 * u);
            assert_eq!(next_to(1.0, precision, false), 1.0 - u);
            assert_eq!(next_to(-1.0, precision, true), -1.0 - 2.0 * u);
            assert_eq!(next_to(0.0, precision, true), 0.0);
        }
    }
}
