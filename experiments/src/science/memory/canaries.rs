//! Exposure of canaries: how far ahead of other secrets of its format a model ranks a secret (Carlini et al. 2019,
//! <https://arxiv.org/abs/1802.08232>).
//!
//! The rank of a secret is 1 plus the number of others that are at least as likely, among references that are drawn like
//! it. With R of them its exposure is log₂ (R + 1) − log₂ rank, in bits. A secret that the model has never seen is one more
//! draw, so that all its ranks are equally likely: its exposure times ln 2 is an exponential variable of mean 1, up to the
//! grain of R, and never above one in distribution. So the sum over n secrets has the gamma distribution as its exact bound.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;
use std::sync::atomic::AtomicBool;

use foretoken_datasets::{Canaries, Canary, Tokenizer};
use foretoken_model::Transformer;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Gamma};

use super::documents::nats;
use crate::Error;
use crate::science::Share;
use crate::science::evaluate::{Document, Estimate, Segment, Text, TextSize};

/// Probability of a group that is ranked as high by chance, below which it counts as memorised.
const LEVEL: f64 = 0.05;

/// How canaries are ranked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CanarySettings {
    /// Number of other secrets that each canary is ranked among.
    pub references: usize,
    /// Seed of these secrets.
    pub seed: u64,
    /// Number of texts that are computed at once. It does not change the result.
    pub batch: usize,
}

/// A model, and the canaries of its training text.
#[derive(Clone, Copy)]
pub struct CanaryTexts<'c> {
    /// The model.
    pub model: &'c Transformer,
    /// Canaries of the training text.
    pub canaries: &'c Canaries,
    /// Tokenizer of the training text.
    pub tokenizer: &'c Tokenizer,
    /// Token that precedes every document.
    pub border: Option<u32>,
}

/// Rank of a canary.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CanaryRank {
    /// Name of the canary.
    pub name: String,
    /// Its secret.
    pub secret: String,
    /// Copies in the training text; 0 for a control.
    pub copies: u64,
    /// Information of the secret for the model, −log₂ P, in bits.
    pub bits: f64,
    /// 1 plus the number of references that are at least as likely.
    pub rank: u64,
    /// Share of the references that are at least as likely.
    pub share: Share,
    /// Exposure in bits, with the interval of the share.
    pub exposure: f64,
    /// Ends of its interval. What the references do not bound, the entropy of the secret does.
    pub interval: [f64; 2],
}

impl CanaryRank {
    /// Returns the rank of a secret among the information of the references, in bits.
    fn of(bits: f64, references: &[f64], entropy: f64) -> Option<([f64; 2], Share, u64)> {
        let count = references.iter().filter(|other| **other <= bits).count();
        let share = Share::of(count, references.len())?;
        let [low, high] = share.interval.map(|share| (-share.log2()).min(entropy));
        // The larger the share, the less the secret is exposed.
        Some(([high.max(0.0), low.max(0.0)], share, count as u64 + 1))
    }
}

/// Canaries with one number of copies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CanaryGroup {
    /// Copies in the training text; 0 for the controls.
    pub copies: u64,
    /// Number of canaries.
    pub canaries: usize,
    /// How many of them no reference reaches, so that their exposure may be larger.
    pub first: usize,
    /// Mean exposure in bits, with an interval over canaries.
    pub exposure: Estimate,
    /// Mean information of the secrets for the model, in bits.
    pub bits: f64,
    /// Probability of an exposure as large, if the model knew nothing of the secrets.
    pub chance: f64,
    /// Whether the group is ranked higher than chance allows, by Holm's test over all groups that were planted.
    pub is_memorised: bool,
}

impl CanarySettings {
    /// Ranks every canary. `progress` is called with the number of tokens after each batch.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer does not know a character, the device fails, or `interrupt` is set.
    pub fn rank(
        &self,
        texts: CanaryTexts<'_>,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<CanaryRank>, Error> {
        let canaries = &texts.canaries.canaries;
        let rank = |(number, canary): (usize, &Canary)| {
            let references = texts
                .canaries
                .references(number, self.references, self.seed);
            let secrets = std::iter::once(&canary.secret).chain(&references);
            let text = texts.candidates(&canary.name, secrets)?;
            // All secrets of a canary have one length, so that nothing is padded.
            let nats = nats(texts.model, &text, (1, self.batch), interrupt, progress)?;
            let bits: Vec<f64> = nats.iter().map(|nats| nats / LN_2).collect();
            let entropy = texts.canaries.entropy_bits;
            let ranked = bits.split_first();
            let ranked = ranked
                .and_then(|(own, others)| Some((*own, CanaryRank::of(*own, others, entropy)?)));
            let (bits, (interval, share, rank)) =
                ranked.ok_or_else(|| Error::Evaluation("a canary has no references".into()))?;
            Ok(CanaryRank {
                name: canary.name.clone(),
                secret: canary.secret.clone(),
                copies: canary.copies,
                bits,
                rank,
                share,
                exposure: ((self.references + 1) as f64 / rank as f64).log2(),
                interval,
            })
        };
        canaries.iter().enumerate().map(rank).collect()
    }
}

impl CanaryTexts<'_> {
    /// Returns the number of tokens of all candidates, about, for the progress of a measurement.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer does not know a character.
    pub fn work(&self, references: usize) -> Result<usize, Error> {
        let secrets = self.canaries.canaries.iter();
        let tokens = secrets.map(|canary| Ok(self.tokenizer.encode(&canary.secret)?.len()));
        let tokens: usize = tokens.sum::<Result<usize, Error>>()?;
        Ok(tokens * (references + 1))
    }

    /// Returns a document for each secret. Its targets begin where the documents differ.
    fn candidates<'s>(
        &self,
        name: &str,
        secrets: impl Iterator<Item = &'s String>,
    ) -> Result<Text, Error> {
        let mut documents = Vec::new();
        for secret in secrets {
            let mut ids: Vec<u32> = self.border.into_iter().collect();
            ids.extend(
                self.tokenizer
                    .encode(&self.canaries.document(name, secret))?,
            );
            documents.push(ids);
        }
        let shared = |one: &[u32], other: &[u32]| {
            let pairs = one.iter().zip(other);
            pairs.take_while(|(one, other)| one == other).count()
        };
        let shared = documents
            .iter()
            .map(|ids| shared(&documents[0], ids).min(ids.len() - 1));
        // The first token of a text has no prediction.
        let first = shared.min().unwrap_or(0).max(1);
        let segment = |(number, ids): (usize, Vec<u32>)| Segment {
            documents: vec![Document {
                number,
                targets: first..ids.len(),
                size: TextSize::default(),
                skipped_bytes: 0,
            }],
            ids,
        };
        Ok(Text {
            name: "the canaries".into(),
            segments: documents.into_iter().enumerate().map(segment).collect(),
            not_scored: 0,
        })
    }
}

impl CanaryGroup {
    /// Groups canaries by their copies, in ascending order.
    pub fn of(ranks: &[CanaryRank]) -> Vec<Self> {
        let mut by_copies: BTreeMap<u64, Vec<&CanaryRank>> = BTreeMap::new();
        for rank in ranks {
            by_copies.entry(rank.copies).or_default().push(rank);
        }
        let groups = by_copies.into_iter();
        let mut groups: Vec<Self> = groups
            .filter_map(|(copies, ranks)| Self::group(copies, &ranks))
            .collect();
        // Holm 1979: the smallest probability is compared with the level over the number of groups, and so on.
        let mut planted: Vec<&mut Self> =
            groups.iter_mut().filter(|group| group.copies > 0).collect();
        planted.sort_by(|a, b| a.chance.total_cmp(&b.chance));
        let tests = planted.len();
        for (passed, group) in planted.into_iter().enumerate() {
            if group.chance > LEVEL / (tests - passed) as f64 {
                break;
            }
            group.is_memorised = true;
        }
        groups
    }

    fn group(copies: u64, ranks: &[&CanaryRank]) -> Option<Self> {
        let count = ranks.len() as f64;
        let exposures = ranks.iter().map(|rank| rank.exposure);
        let mut exposure = Estimate::of_mean(exposures.clone())?;
        let first = ranks.iter().filter(|rank| rank.rank == 1).count();
        // Exposures that the references do not bound are as large as the intervals of the canaries say.
        if let Some([low, high]) = exposure.interval.filter(|_| first > 0) {
            let mean =
                |end: usize| ranks.iter().map(|rank| rank.interval[end]).sum::<f64>() / count;
            exposure.interval = Some([low.min(mean(0)), high.max(mean(1))]);
        }
        let gamma = Gamma::new(count, 1.0).ok()?;
        Some(Self {
            copies,
            canaries: ranks.len(),
            first,
            exposure,
            bits: ranks.iter().map(|rank| rank.bits).sum::<f64>() / count,
            chance: gamma.sf(exposures.sum::<f64>() * LN_2),
            is_memorised: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::science::random::Random;

    fn rank(copies: u64, rank: u64, references: usize) -> CanaryRank {
        let others: Vec<f64> = (0..references).map(|number| number as f64).collect();
        let bits = rank as f64 - 1.5;
        let (interval, share, found) = CanaryRank::of(bits, &others, 37.6).unwrap();
        assert_eq!(found, rank);
        CanaryRank {
            name: "name".into(),
            secret: "secret".into(),
            copies,
            bits,
            rank,
            share,
            exposure: ((references + 1) as f64 / rank as f64).log2(),
            interval,
        }
    }

    #[test]
    fn ranks_count_the_references_that_are_at_least_as_likely() {
        let of = |bits| CanaryRank::of(bits, &[3.0, 1.0, 2.0, 3.0], 30.0).unwrap();
        assert_eq!([of(0.5).2, of(1.0).2, of(2.5).2, of(3.0).2], [1, 2, 3, 5]);
        // Nothing bounds the exposure of the first one but the entropy of its secret.
        let ([low, high], share, _) = of(0.5);
        assert_eq!((share.count, high), (0, 30.0));
        assert!((low + share.interval[1].log2()).abs() < 1e-12);
        assert_eq!(of(3.0).0[0], 0.0);
    }

    #[test]
    fn intervals_contain_the_exposure() {
        for place in [1, 2, 40, 900, 1001] {
            let CanaryRank {
                exposure, interval, ..
            } = rank(1, place, 1000);
            assert!(
                interval[0] <= exposure && exposure <= interval[1] + 0.01,
                "{place}: {exposure} {interval:?}"
            );
        }
    }

    /// Random ranks have the mean 1 / ln 2, and are called memorised in at most 5 % of 2000 experiments.
    #[test]
    fn unseen_secrets_have_the_exposure_of_chance() {
        let (mut sum, mut memorised) = (0.0, 0);
        for experiment in 0..2000 {
            let mut random = Random::stream(experiment, 0);
            let ranks: Vec<CanaryRank> = (0..10)
                .map(|number| rank(number % 2, random.index(1001) as u64 + 1, 1000))
                .collect();
            let groups = CanaryGroup::of(&ranks);
            assert_eq!((groups[0].copies, groups[1].canaries), (0, 5));
            assert!(!groups[0].is_memorised);
            sum += groups[0].exposure.value;
            memorised += usize::from(groups[1].is_memorised);
        }
        let mean = sum / 2000.0;
        assert!((mean - 1.0 / LN_2).abs() < 0.05, "{mean}");
        let share = memorised as f64 / 2000.0;
        assert!((0.03..0.065).contains(&share), "{share}");
    }

    #[test]
    fn only_groups_above_chance_are_memorised() {
        let mut ranks = vec![rank(16, 1, 1000), rank(16, 3, 1000), rank(16, 1, 1000)];
        ranks.extend([rank(1, 300, 1000), rank(1, 500, 1000)]);
        ranks.extend([rank(0, 400, 1000), rank(0, 10, 1000)]);
        let groups = CanaryGroup::of(&ranks);
        let found: Vec<_> = groups
            .iter()
            .map(|group| (group.copies, group.first, group.is_memorised))
            .collect();
        assert_eq!(found, [(0, 0, false), (1, 0, false), (16, 2, true)]);
        assert!(groups[2].chance < 1e-6 && groups[1].chance > 0.3);
        // Two of three are bounded by the entropy only.
        let [low, high] = groups[2].exposure.interval.unwrap();
        assert!(low < groups[2].exposure.value && high > 25.0);
    }
}
