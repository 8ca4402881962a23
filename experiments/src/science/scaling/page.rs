//! The report of a fit.

use std::path::{Path, PathBuf};

use super::figures;
use super::law::Quantity;
use super::record::Fits;
use super::study::FitRecord;
use super::tables::{covariance, estimates, held_out, side_by_side};
use crate::Error;
use crate::report::{self, Block, Cell, Figure, Layout, Page, Section, Table, Tile, headings};
use crate::show::format::{listed, plural, significant};

/// Writes the report. Returns the path of the page.
pub(super) fn write(fits: &Fits, directory: &Path) -> Result<PathBuf, Error> {
    report::write(&page(fits), directory)
}

fn page(fits: &Fits) -> Page {
    let mut sections = Vec::new();
    for (index, fit) in fits.fits.iter().enumerate() {
        let suffix = if index == 0 {
            String::new()
        } else {
            format!("-{}", index + 1)
        };
        sections.extend(about(fit, &suffix, fits.fits.len() > 1));
    }
    if fits.fits.len() > 1 {
        sections.insert(
            0,
            Section::new("Side by side", vec![Block::Table(side_by_side(fits))]),
        );
    }
    sections.push(Section::folded("Methods", methods()));
    let best = fits.best();
    Page {
        title: best.map_or("Scaling law".into(), |fit| {
            format!("Scaling law {}", fit.formula)
        }),
        headline: best.map_or(String::new(), |fit| match fits.fits.len() {
            1 => headline(fit),
            many => format!(
                "{}. Of {many} fits, {} has the lowest objective",
                headline(fit),
                fit.formula
            ),
        }),
        lead: format!(
            "{}{}",
            fits.sources.join(", "),
            match fits.dropped {
                0 => String::new(),
                dropped => format!(
                    ", without the {} with the largest losses",
                    plural(dropped, "run")
                ),
            }
        ),
        sections,
        data_file: Fits::FILE,
    }
}

fn headline(fit: &FitRecord) -> String {
    let runs = plural(fit.observations.len(), "run");
    if fit.is_exact() {
        return format!(
            "{runs} follow {} exactly: made or rounded data?",
            fit.formula
        );
    }
    let e = fit.estimate(Quantity::E).filter(|e| e.determined);
    match (e, fit.optimal_exponent()) {
        (Some(e), Some(a)) => format!(
            "{runs} determine an irreducible loss of {} and compute-optimal sizes that grow as C^{}",
            significant(e.value, 4),
            significant(a.value, 3)
        ),
        (Some(e), None) => format!(
            "{runs} determine an irreducible loss of {}",
            significant(e.value, 4)
        ),
        (None, Some(a)) => format!(
            "{runs} determine compute-optimal sizes that grow as C^{}",
            significant(a.value, 3)
        ),
        (None, None) => {
            let open: Vec<String> = fit
                .undetermined()
                .iter()
                .map(|quantity| quantity.symbol().into())
                .collect();
            match open.is_empty() {
                true => format!("{} fitted to {runs}", fit.formula),
                false => format!(
                    "{runs} do not determine {} of {}",
                    listed(&open),
                    fit.formula
                ),
            }
        }
    }
}

fn about(fit: &FitRecord, suffix: &str, is_one_of_many: bool) -> Vec<Section> {
    let name = |heading: &str| match is_one_of_many {
        true => format!(
            "{heading}: {}, {}",
            fit.formula,
            fit.settings.convention.name()
        ),
        false => heading.into(),
    };
    let mut first = vec![Block::Text(format!(
        "{}. N counts {}. Intervals are calibrated profiles; standard errors are those of a bootstrap over runs.",
        fit.formula,
        fit.settings.convention.words()
    ))];
    first.push(Block::Tiles(tiles(fit)));
    first.push(Block::Table(estimates(fit)));
    first.extend(verdicts(fit).into_iter().map(Block::Text));
    let mut sections = vec![Section::new(name("Fit"), first)];
    sections.push(Section::new(
        name("Loss and compute"),
        vec![Block::Figures(vec![figures::loss_by_compute(fit, suffix)])],
    ));
    if let Some(optimum) = optimum(fit, suffix) {
        sections.push(Section::new(name("Compute-optimal sizes"), optimum));
    }
    let mut checks: Vec<Figure> = Vec::new();
    if fit.settings.law.has_optimum() {
        checks.push(figures::surface(fit, suffix));
    }
    checks.push(figures::residuals(fit, suffix));
    let clouds = [
        ("exponents", [Quantity::Alpha, Quantity::Beta], ["α", "β"]),
        (
            "exponents",
            [Quantity::AlphaN, Quantity::AlphaD],
            ["α_N", "α_D"],
        ),
        ("irreducible", [Quantity::E, Quantity::Alpha], ["E", "α"]),
    ];
    for (id, quantities, names) in clouds {
        checks.extend(figures::cloud(fit, suffix, id, quantities, names));
    }
    checks.push(figures::predictions(fit, suffix));
    sections.push(Section::new(
        name("Surface, residuals and bootstrap"),
        vec![Block::Figures(checks)],
    ));
    if !fit.held_out.is_empty() {
        sections.push(Section::new(
            name("Held-out runs"),
            vec![Block::Table(held_out(fit))],
        ));
    }
    sections.push(Section::folded(
        name("Covariance"),
        vec![Block::Table(covariance(fit))],
    ));
    sections
}

fn tiles(fit: &FitRecord) -> Vec<Tile> {
    let tile = |label, value: String, detail: String| Tile {
        label,
        value,
        detail,
    };
    let number =
        |number: Option<f64>| number.map_or("infinite".into(), |number| significant(number, 2));
    vec![
        tile(
            "runs",
            fit.observations.len().to_string(),
            format!("{} sizes", fit.groups),
        ),
        tile(
            "objective",
            significant(fit.objective, 6),
            format!("threshold {}", fit.settings.threshold),
        ),
        tile(
            "noise of a run",
            format!("{} %", significant(100.0 * fit.noise.deviation, 2)),
            "of the loss".into(),
        ),
        tile(
            "condition number",
            number(fit.condition.projected),
            format!(
                "of the exponents; {} over all parameters",
                number(fit.condition.parameters)
            ),
        ),
    ]
}

fn verdicts(fit: &FitRecord) -> Vec<String> {
    let mut verdicts = Vec::new();
    if let Some(check) = fit.entropy {
        verdicts.push(format!(
            "A least loss is known: {}, {}. For it, {}.",
            significant(check.entropy, 5),
            check.floor.words(),
            check.verdict()
        ));
    }
    if let Some(test) = &fit.test {
        verdicts.push(format!(
            "Tested parameters: {}; likelihood ratio χ²({}) = {}, p = {}.",
            if test.probability < 0.05 {
                "rejected"
            } else {
                "not rejected"
            },
            test.degrees,
            significant(test.likelihood_ratio, 4),
            significant(test.probability, 2)
        ));
    }
    if fit.is_exact() {
        verdicts.push(
            "The losses follow the law exactly: are they made or rounded? Without noise there are no intervals."
                .into(),
        );
    }
    if !fit.undetermined().is_empty() {
        verdicts.push("A quantity that is not determined has an interval without an end: holding it at any value on that \
                       side fits the data as well."
            .into());
    }
    verdicts
}

/// Returns the section about the compute-optimal size; `None` for a law without one.
fn optimum(fit: &FitRecord, suffix: &str) -> Option<Vec<Block>> {
    let approaches = fit.approaches.as_ref()?;
    let row =
        |name: &str, value: Option<f64>, interval: Option<[Option<f64>; 2]>, remark: String| {
            let [low, high] = interval.unwrap_or([None; 2]);
            vec![
                Cell::from(name.to_owned()),
                Cell::number(value, |value| significant(value, 3)),
                Cell::number(low, |low| significant(low, 3)),
                Cell::number(high, |high| significant(high, 3)),
                Cell::from(remark),
            ]
        };
    let mut rows = Vec::new();
    if let Some(curves) = &approaches.curves {
        rows.push(row(
            "1: lowest training curves",
            Some(curves.exponent),
            None,
            String::new(),
        ));
    }
    if let Some(parabolas) = &approaches.parabolas {
        let bias = approaches.bias.map_or(String::new(), |bias| {
            format!(
                "on the law without noise: {} in a, {} % in N and {} % in D at the largest budget",
                significant(bias.exponent, 2),
                significant(100.0 * bias.parameters, 2),
                significant(100.0 * bias.tokens, 2)
            )
        });
        let interval = parabolas.interval.map(|ends| ends.map(Some));
        rows.push(row(
            "2: isoFLOP parabolas",
            Some(parabolas.exponent),
            interval,
            bias,
        ));
    }
    let a = fit.estimate(Quantity::OptimalExponent)?;
    rows.push(row(
        "3: the law",
        a.determined.then_some(a.value),
        Some(a.interval),
        String::new(),
    ));
    let table = Table {
        caption: "Exponent a of compute-optimal parameters, N ∝ C^a, by the three approaches",
        layout: Layout::Scrolling,
        headings: headings([
            ("approach", ""),
            ("a", ""),
            ("95 % from", ""),
            ("to", ""),
            ("known bias", ""),
        ]),
        rows,
    };
    let mut blocks = vec![Block::Table(table)];
    blocks.extend(figures::parabolas(fit, suffix).map(|figure| Block::Figures(vec![figure])));
    Some(blocks)
}

fn methods() -> Vec<Block> {
    [
        "The objective is the sum of Huber losses of log residuals (Hoffmann et al. 2022). Its minimum is found by variable \
         projection: exponents on a grid, coefficients by non-negative least squares, then Newton's method.",
        "The interval of E, of an exponent or of a holds the values that raise the objective by less than a share. The share is \
         the 95 % quantile of what the truth raises it by in samples drawn from the fitted law with smoothed residuals.",
        "Intervals of coefficients and of predictions are basic bootstrap intervals from the same samples. Standard errors and \
         covariances are those of a bootstrap over runs, seeds kept together.",
    ]
    .map(|text| Block::Text(text.into()))
    .into()
}
