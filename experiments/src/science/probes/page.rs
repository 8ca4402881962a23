//! The report of probes.

use std::path::PathBuf;

use super::emergence::Emergence;
use super::figures;
use super::means::{Means, Measure};
use super::questions::FamilyItems;
use super::record::{CheckpointProbes, ProbeRecord};
use super::signal::Signal;
use super::words::{percent, short};
use crate::Error;
use crate::record::run::{ReportDirectory, write_atomically};
use crate::report::{self, Block, Cell, Layout, Page, Section, Table, Tile, headings};
use crate::show::format::{count, plural};
use foretoken_datasets::world::Coverage;

/// Items of each family that the page shows.
const SHOWN: usize = 12;

impl ProbeRecord {
    /// Writes `probes.json` and the report. Returns the path of the page.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn write(&self, directory: ReportDirectory) -> Result<PathBuf, Error> {
        let json = serde_json::to_vec_pretty(self)?;
        write_atomically(&directory.path().join(Self::FILE), &json)?;
        report::write(&page(self), directory.path())
    }
}

fn page(record: &ProbeRecord) -> Page {
    let mut sections = Vec::new();
    if let Some(last) = record.checkpoints.last() {
        sections.push(Section::new("Overview", overview(record, last)));
        sections.push(Section::new("Levels", vec![Block::Table(levels(last))]));
    }
    if record.checkpoints.len() > 1 {
        for emergence in &record.emergence {
            let blocks = of_family(record, emergence);
            if !blocks.is_empty() {
                sections.push(Section::new(
                    format!("Emergence or artefact: {}", emergence.family),
                    blocks,
                ));
            }
        }
    }
    if record.checkpoints.len() > 1 {
        let table = Block::Table(along_training(record));
        sections.push(Section::folded("Along training", vec![table]));
    }
    if let Some(signal) = &record.signal {
        sections.push(Section::new("Signal to noise", signal_blocks(signal)));
    }
    sections.push(Section::folded("Items", items(record)));
    Page {
        title: format!("{}: probes", record.run),
        headline: headline(record),
        lead: format!(
            "{} on {}:{}; {}, {}.",
            record.run,
            record.backend,
            record.precision,
            plural(record.item_count(), "item"),
            plural(record.checkpoints.len(), "checkpoint")
        ),
        sections,
        data_file: ProbeRecord::FILE,
    }
}

fn headline(record: &ProbeRecord) -> String {
    let Some(last) = record.checkpoints.last() else {
        return "No checkpoint was probed.".into();
    };
    let families: Vec<String> = last
        .families
        .iter()
        .map(|scores| {
            let accuracy = scores.means.get(Measure::Accuracy);
            format!("{} {}", percent(accuracy.value), scores.family)
        })
        .collect();
    format!(
        "After {}: {} right.",
        plural(last.step, "step"),
        families.join(", ")
    )
}

fn overview(record: &ProbeRecord, last: &CheckpointProbes) -> Vec<Block> {
    let tile = |scores: &super::FamilyScores| {
        let accuracy = scores.means.get(Measure::Accuracy);
        Tile {
            label: scores.family.name(),
            value: percent(accuracy.value),
            detail: match accuracy.interval {
                Some([low, high]) => format!(
                    "right; {} to {}; chance {}",
                    percent(low),
                    percent(high),
                    percent(scores.chance)
                ),
                None => format!("right; chance {}", percent(scores.chance)),
            },
        }
    };
    let mut blocks = vec![
        Block::Tiles(last.families.iter().map(tile).collect()),
        Block::Text(
            "An item is right if its right answer is more probable than each of its wrong ones. Ranges are 95 % confidence \
             intervals over items, as if they were drawn from more items like them. Chance is the share of a model that has no \
             preference among the answers of an item. The accuracy of a perfect model is 100 %, because the exact distribution \
             prefers the right answer of every item."
                .into(),
        ),
    ];
    let ceilings = last.families.iter();
    blocks.extend(
        ceilings
            .filter_map(|scores| scores.ceiling_sentence())
            .map(Block::Text),
    );
    for family in record.families.iter().filter(|family| family.left_out > 0) {
        blocks.push(Block::Text(format!(
            "{} of {} do not fit the context or the tokenizer, and are left out.",
            plural(family.left_out, "item"),
            family.family
        )));
    }
    blocks
}

/// Headings and cells of the means.
const COLUMNS: [(&str, &str); 11] = [
    ("right", "%"),
    ("95 % from", "%"),
    ("to", "%"),
    ("chance", "%"),
    ("exact match", "%"),
    ("ln p, right", "nats"),
    ("ln p, wrong", "nats"),
    ("p(right)", ""),
    ("Brier", ""),
    ("bits per byte", ""),
    ("edit distance", ""),
];

fn cells(means: &Means, chance: f64) -> Vec<Cell> {
    let accuracy = means.get(Measure::Accuracy);
    let end = |index: usize| accuracy.interval.map(|ends| 100.0 * ends[index]);
    let one = |value: f64| format!("{value:.1}");
    let mean = |measure: Measure| Cell::number(Some(means.get(measure).value), short);
    vec![
        Cell::number(Some(100.0 * accuracy.value), one),
        Cell::number(end(0), one),
        Cell::number(end(1), one),
        Cell::number(Some(100.0 * chance), one),
        Cell::number(Some(100.0 * means.get(Measure::ExactMatch).value), one),
        mean(Measure::LogLikelihood),
        mean(Measure::WrongLogLikelihood),
        mean(Measure::PRight),
        mean(Measure::Brier),
        mean(Measure::BitsPerByte),
        mean(Measure::EditDistance),
    ]
}

fn levels(last: &CheckpointProbes) -> Table {
    let rows = last.families.iter().flat_map(|scores| {
        scores.levels.iter().map(|level| {
            let mut row = vec![
                Cell::from(format!("{}, {}", scores.family, level.level)),
                Cell::from(coverage(level.coverage).to_owned()),
                Cell::number(Some(level.items as u64), count),
            ];
            row.extend(cells(&level.means, level.chance));
            row.push(Cell::number(level.exact_bits_per_byte, short));
            let best = level.exact_match_of_world.map(|share| 100.0 * share);
            row.push(Cell::number(best, |share| format!("{share:.1}")));
            row
        })
    });
    let mut titles = headings([("family and level", ""), ("item", ""), ("items", "")]);
    titles.extend(headings(COLUMNS));
    titles.extend(headings([
        ("bits per byte of the world", ""),
        ("exact match of the world", "%"),
    ]));
    Table {
        caption: "The last checkpoint; the last two columns are of the world's own distribution, of which greedy decoding \
                  does not write every right answer either",
        layout: Layout::Scrolling,
        headings: titles,
        rows: rows.collect(),
    }
}

fn coverage(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::World => "of the world",
        Coverage::Unseen => "not in the training text",
        Coverage::Outside => "the world cannot write it",
    }
}

fn along_training(record: &ProbeRecord) -> Table {
    let mut rows = Vec::new();
    for family in &record.families {
        for (checkpoint, scores) in record.of_family(family.family) {
            let mut row = vec![
                Cell::from(family.family.to_string()),
                Cell::number(Some(checkpoint.step as u64), count),
                Cell::number(Some(checkpoint.valid_loss), |loss| format!("{loss:.4}")),
            ];
            row.extend(cells(&scores.means, scores.chance));
            rows.push(row);
        }
    }
    let mut titles = headings([("family", ""), ("step", ""), ("valid. loss", "nats/token")]);
    titles.extend(headings(COLUMNS));
    Table {
        caption: "Every family at every checkpoint",
        layout: Layout::Scrolling,
        headings: titles,
        rows,
    }
}

fn of_family(record: &ProbeRecord, emergence: &Emergence) -> Vec<Block> {
    let figures = figures::of_family(record, emergence.family);
    if figures.is_empty() {
        return Vec::new();
    }
    let mut blocks: Vec<Block> = emergence.sentences().into_iter().map(Block::Text).collect();
    blocks.push(Block::Figures(figures));
    if !emergence.jumps.is_empty() {
        let rows = emergence.jumps.iter().map(|jump| {
            let end = |index: usize| jump.interval.map(|ends| ends[index]);
            vec![
                Cell::from(jump.measure.words().to_owned()),
                Cell::number(Some(jump.share), percent),
                Cell::number(end(0), percent),
                Cell::number(end(1), percent),
                Cell::from(format!("{} to {}", jump.from, jump.to)),
            ]
        });
        blocks.push(Block::Table(Table {
            caption: "Largest step between two checkpoints, as a share of the change from the first to the last. The interval \
                      allows for the choice of the largest step; there is none where the change is not clearly more than \
                      nothing",
            layout: Layout::Scrolling,
            headings: headings([
                ("measure", ""),
                ("largest step", ""),
                ("95 % from", ""),
                ("to", ""),
                ("between steps", ""),
            ]),
            rows: rows.collect(),
        }));
    }
    if let super::Prediction::Predicted { held_out, .. } = &emergence.prediction {
        let rows = held_out.iter().map(|point| {
            let end = |index: usize| point.interval.map(|ends| ends[index]);
            vec![
                Cell::number(Some(point.step as u64), count),
                Cell::number(Some(point.bits_per_byte), short),
                Cell::number(Some(point.measured), percent),
                Cell::number(Some(point.predicted), percent),
                Cell::number(end(0), percent),
                Cell::number(end(1), percent),
            ]
        });
        blocks.push(Block::Table(Table {
            caption: "Accuracy of the held-out checkpoints, predicted from their bits per byte",
            layout: Layout::Scrolling,
            headings: headings([
                ("step", ""),
                ("bits per byte", ""),
                ("measured", ""),
                ("predicted", ""),
                ("95 % from", ""),
                ("to", ""),
            ]),
            rows: rows.collect(),
        }));
    }
    blocks
}

fn signal_blocks(signal: &Signal) -> Vec<Block> {
    let rows = signal.rows.iter().map(|row| {
        let end = |index: usize| row.interval.map(|ends| ends[index]);
        vec![
            Cell::from(format!("{}, {}", row.family, row.measure.words())),
            Cell::number(Some(row.signal), short),
            Cell::number(Some(row.noise), short),
            Cell::number(row.ratio, short),
            Cell::number(end(0), short),
            Cell::number(end(1), short),
        ]
    });
    let mut blocks = vec![
        Block::Text(format!(
            "Signal is the spread of the last scores of {} in {}, relative to their mean; noise is the relative standard \
             deviation of the last checkpoints of a run (Heineman et al. 2025).",
            plural(signal.runs.len(), "run"),
            signal.sweep.display()
        )),
        Block::Table(Table {
            caption: "Signal to noise of each measure",
            layout: Layout::Scrolling,
            headings: headings([
                ("family and measure", ""),
                ("signal", ""),
                ("noise", ""),
                ("ratio", ""),
                ("95 % from", ""),
                ("to", ""),
            ]),
            rows: rows.collect(),
        }),
    ];
    blocks.extend(
        signal
            .skipped
            .iter()
            .map(|run| Block::Text(format!("Left out: {run}."))),
    );
    blocks
}

/// Lists some items of each family with the greedy answers of the last checkpoint.
fn items(record: &ProbeRecord) -> Vec<Block> {
    let last = record.checkpoints.last();
    let table = |family: &FamilyItems| {
        let scores = last?
            .families
            .iter()
            .find(|scores| scores.family == family.family)?;
        let rows = family.items.iter().zip(&scores.scores).take(SHOWN);
        let rows = rows.map(|(item, score)| {
            let text = |text: &str| Cell::from(text.replace('\n', "↵"));
            vec![
                text(&item.context),
                Cell::from(item.level.clone()),
                text(&item.right),
                text(&item.wrong.join(" | ")),
                text(score.greedy.as_deref().unwrap_or_default()),
                Cell::number(Some(score.p_right), short),
            ]
        });
        Some(Block::Table(Table {
            caption: "Items, with what greedy decoding of the last checkpoint writes",
            layout: Layout::Scrolling,
            headings: headings([
                ("context", ""),
                ("level", ""),
                ("right", ""),
                ("wrong", ""),
                ("written", ""),
                ("p(right)", ""),
            ]),
            rows: rows.collect(),
        }))
    };
    record.families.iter().filter_map(table).collect()
}
