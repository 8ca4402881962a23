//! Tables of the report of a fit.

use super::estimates::QuantityEstimate;
use super::law::Quantity;
use super::record::Fits;
use super::study::FitRecord;
use crate::report::{Cell, Layout, Table, headings};
use crate::show::format::significant;

pub(super) fn estimates(fit: &FitRecord) -> Table {
    let row = |estimate: &QuantityEstimate| {
        let [low, high] = estimate.interval;
        let error = estimate.standard_error.filter(|_| estimate.determined);
        // Without noise an interval says nothing.
        let numbers = [error, low, high].map(|number| number.filter(|_| !fit.is_exact()));
        let value = estimate.determined.then_some(estimate.value);
        (estimate.quantity.symbol().to_owned(), value, numbers)
    };
    Table::estimates(
        "Parameters, and the exponent a of compute-optimal sizes",
        fit.estimates.iter().map(row),
    )
}

pub(super) fn held_out(fit: &FitRecord) -> Table {
    let rows = fit.held_out.iter().map(|held| {
        let prediction = &held.prediction;
        let number =
            |value: Option<f64>, digits| Cell::number(value, |value| significant(value, digits));
        let [low, high] = prediction.run_interval;
        vec![
            Cell::from(held.name.clone()),
            number(Some(prediction.parameters), 3),
            number(Some(prediction.tokens), 3),
            number(Some(held.measured), 4),
            number(Some(prediction.loss.value), 4),
            number(low, 4),
            number(high, 4),
            Cell::from(if held.inside { "inside" } else { "outside" }.to_owned()),
        ]
    });
    Table {
        caption: "Losses predicted from the other runs, and measured",
        layout: Layout::Scrolling,
        headings: headings([
            ("run", ""),
            ("N", ""),
            ("D", ""),
            ("measured", ""),
            ("predicted", ""),
            ("95 % from", ""),
            ("to", ""),
            ("", ""),
        ]),
        rows: rows.collect(),
    }
}

pub(super) fn covariance(fit: &FitRecord) -> Table {
    let parameters = fit.settings.law.parameters();
    let names = parameters
        .iter()
        .map(|quantity| (quantity.symbol().to_owned(), ""));
    let rows = fit
        .covariance
        .iter()
        .zip(fit.correlations())
        .zip(parameters);
    let rows = rows
        .enumerate()
        .map(|(i, ((covariances, correlations), quantity))| {
            let mut row = vec![Cell::from(quantity.symbol().to_owned())];
            for (j, (covariance, correlation)) in covariances.iter().zip(correlations).enumerate() {
                let shown = if j > i { correlation } else { *covariance };
                row.push(Cell::number(Some(shown), |value| significant(value, 3)));
            }
            row
        });
    Table {
        caption: "Covariances of the parameters over the bootstrap; above the diagonal, correlations",
        layout: Layout::Scrolling,
        headings: std::iter::once((String::new(), "")).chain(names).collect(),
        rows: rows.collect(),
    }
}

pub(super) fn side_by_side(fits: &Fits) -> Table {
    let rows = fits.fits.iter().map(|fit| {
        let mut row = vec![
            Cell::from(fit.formula.clone()),
            Cell::from(fit.settings.convention.name().to_owned()),
        ];
        for quantities in [
            &[Quantity::E][..],
            &[Quantity::Alpha, Quantity::AlphaN],
            &[Quantity::Beta, Quantity::AlphaD],
            &[Quantity::OptimalExponent],
        ] {
            let estimate = quantities
                .iter()
                .find_map(|quantity| fit.estimate(*quantity));
            row.push(match estimate {
                Some(estimate) if !estimate.determined => Cell::from("not determined".to_owned()),
                estimate => Cell::number(estimate.map(|estimate| estimate.value), |value| {
                    significant(value, 3)
                }),
            });
        }
        row.push(Cell::number(Some(fit.objective), |value| {
            significant(value, 4)
        }));
        row
    });
    Table {
        caption: "Laws and counts of parameters",
        layout: Layout::Scrolling,
        headings: headings([
            ("law", ""),
            ("N counts", ""),
            ("E", ""),
            ("α", ""),
            ("β", ""),
            ("a", ""),
            ("objective", ""),
        ]),
        rows: rows.collect(),
    }
}
