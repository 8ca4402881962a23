//! Text that `foretoken scaling fit` prints.

use foretoken::science::scaling::{FitRecord, Fits, Quantity, QuantityEstimate, Variable};
use foretoken::show::format::{count, plural, significant};

use super::prediction_words::far;

/// Held-out runs that are printed.
const HELD_OUT: usize = 20;

/// Returns the text about all fits.
pub(super) fn fits(fits: &Fits) -> String {
    let mut text = String::new();
    for skipped in &fits.skipped {
        text += &format!("Left out: {skipped}\n");
    }
    if fits.dropped > 0 {
        text += &format!(
            "Left out: the {} with the largest losses\n",
            plural(fits.dropped, "run")
        );
    }
    for (index, fit) in fits.fits.iter().enumerate() {
        if index > 0 || !text.is_empty() {
            text.push('\n');
        }
        text += &one(fit);
    }
    if fits.fits.len() > 1 {
        text += &side_by_side(fits);
    }
    text + &legend(fits)
}

fn one(fit: &FitRecord) -> String {
    let mut text = format!(
        "{}\n{}{}; N counts {}\n\n",
        fit.formula,
        plural(fit.observations.len(), "run"),
        match fit.groups < fit.observations.len() {
            true => format!(
                " of {} sizes, the others with other seeds",
                count(fit.groups as u64)
            ),
            false => String::new(),
        },
        fit.settings.convention.words()
    );
    text += "         value     standard error   95 % interval\n";
    for estimate in &fit.estimates {
        text += &row(estimate, fit.is_exact());
    }
    text.push('\n');
    text += &optimal(fit);
    text += &approaches(fit);
    text += &format!(
        "objective     {}: the sum of Huber losses of log residuals, threshold {}{}\n",
        significant(fit.objective, 6),
        fit.settings.threshold,
        fit.scale.map_or(String::new(), |scale| format!(
            " times their scale {}",
            significant(scale, 4)
        ))
    );
    if let Some(projection) = fit.projection_objective {
        text += &format!(
            "              found by L-BFGS from 4500 starts; variable projection found {}\n",
            significant(projection, 6)
        );
    }
    text += &noise(fit);
    let shown =
        |number: Option<f64>| number.map_or("infinite".into(), |number| significant(number, 2));
    text += &format!(
        "conditioning  {} over all parameters, {} over the exponents alone\n",
        shown(fit.condition.parameters),
        shown(fit.condition.projected)
    );
    text += &correlations(fit);
    text += &entropy(fit);
    text += &test(fit);
    text += &held_out(fit);
    text
}

/// Explains the words of the lines that are printed for a fit.
fn legend(fits: &Fits) -> String {
    let mut lines = Vec::new();
    if fits.fits.iter().any(|fit| fit.settings.law.has_optimum()) {
        lines.push("a             exponent of the model size that is best for a compute budget C: N grows as C^a, tokens as C^(1-a)");
    }
    lines.extend([
        "objective     what the fit minimises; of two laws on the same runs, the lower one fits better",
        "noise         how far a run is from the law, as a standard deviation",
        "conditioning  how unevenly the runs determine the parameters: 1 is best, and above 1e4 over the exponents is bad",
    ]);
    if fits
        .fits
        .iter()
        .any(|fit| fit.approaches.as_ref().is_some_and(|a| a.bias.is_some()))
    {
        lines.push("off by        error of approach 2 that would remain without noise, because the law is no parabola; see the guide");
    }
    format!("\nWords\n  {}\n", lines.join("\n  "))
}

/// Returns the line about compute-optimal sizes, or the one about losses without noise.
fn optimal(fit: &FitRecord) -> String {
    if fit.is_exact() {
        return "The losses follow the law exactly: are they made or rounded? Without noise there are no intervals.\n".into();
    }
    if !fit.settings.law.has_optimum() {
        return String::new();
    }
    match fit.optimal_exponent() {
        Some(a) => {
            let [low, high] = a
                .interval
                .map(|end| end.map_or("–".into(), |end| significant(end, 3)));
            format!(
                "compute-optimal parameters grow as C^{} ({low} to {high})\n",
                significant(a.value, 3)
            )
        }
        None => {
            "The runs do not determine how compute-optimal parameters grow with compute C.\n".into()
        }
    }
}

fn row(estimate: &QuantityEstimate, is_exact: bool) -> String {
    let symbol = estimate.quantity.symbol();
    let [low, high] = estimate.interval;
    if !estimate.determined {
        let bound = match (low, high) {
            (Some(low), _) => format!("; at least {}", significant(low, 3)),
            (_, Some(high)) => format!("; at most {}", significant(high, 3)),
            _ => String::new(),
        };
        return format!("  {symbol:<6} not determined by the data{bound}\n");
    }
    if is_exact {
        return format!("  {symbol:<6} {}\n", significant(estimate.value, 5));
    }
    let number =
        |value: Option<f64>, digits| value.map_or("–".into(), |value| significant(value, digits));
    format!(
        "  {symbol:<6} {:<9} {:<16} {} to {}\n",
        significant(estimate.value, 5),
        number(estimate.standard_error, 3),
        number(low, 4),
        number(high, 4)
    )
}

fn approaches(fit: &FitRecord) -> String {
    let Some(approaches) = &fit.approaches else {
        return String::new();
    };
    let mut text = String::new();
    if let Some(curves) = &approaches.curves {
        text += &format!(
            "approach 1    a = {}: the lowest training curve at each compute\n",
            significant(curves.exponent, 3)
        );
    }
    if let Some(parabolas) = &approaches.parabolas {
        let interval = parabolas.interval.map_or(String::new(), |[low, high]| {
            format!(" ({} to {})", significant(low, 3), significant(high, 3))
        });
        text += &format!(
            "approach 2    a = {}{interval}: parabolas through {}",
            significant(parabolas.exponent, 3),
            plural(parabolas.optima.len(), "budget")
        );
        if let Some(bias) = approaches.bias {
            let signed = |value: f64, digits| {
                format!(
                    "{}{}",
                    if value < 0.0 { "" } else { "+" },
                    significant(value, digits)
                )
            };
            text += &format!(
                "; on the law above, without noise, they are off by {} in a, and by {} % in N at the largest budget",
                signed(bias.exponent, 2),
                signed(100.0 * bias.parameters, 2)
            );
        }
        text.push('\n');
    }
    text
}

fn noise(fit: &FitRecord) -> String {
    let mut text = format!(
        "noise         {} % of the loss",
        significant(100.0 * fit.noise.deviation, 2)
    );
    if let Some(seeds) = fit.noise.seeds {
        text += &format!(
            ", of which {} % between seeds",
            significant(100.0 * seeds, 2)
        );
    }
    let powers: Vec<String> = [Variable::Parameters, Variable::Tokens, Variable::Flops]
        .into_iter()
        .zip(fit.noise.exponents)
        .filter(|(_, exponent)| exponent.abs() >= 0.005)
        .map(|(variable, exponent)| format!("{}^{}", variable.letter(), significant(exponent, 2)))
        .collect();
    if !powers.is_empty() {
        text += &format!("; it changes with size as {}", powers.join(" "));
    }
    text + "\n"
}

fn correlations(fit: &FitRecord) -> String {
    let correlations = fit.correlations();
    let parameters = fit.settings.law.parameters();
    let mut pairs = Vec::new();
    for (i, row) in correlations.iter().enumerate() {
        for (j, value) in row.iter().enumerate().take(i) {
            let names = format!("{} {}", parameters[j].symbol(), parameters[i].symbol());
            pairs.push(format!("{names} {}", significant(*value, 2)));
        }
    }
    match pairs.is_empty() {
        true => String::new(),
        false => format!("correlations  {}\n", pairs.join(", ")),
    }
}

fn entropy(fit: &FitRecord) -> String {
    let Some(check) = fit.entropy else {
        return String::new();
    };
    format!(
        "known floor   {}, {}: {}\n",
        significant(check.entropy, 5),
        check.floor.words(),
        check.verdict()
    )
}

fn test(fit: &FitRecord) -> String {
    let Some(test) = &fit.test else {
        return String::new();
    };
    let parameters = fit.settings.law.parameters().iter().zip(test.fitted.values);
    let parameters: Vec<String> = parameters
        .map(|(q, value)| format!("{} = {}", q.symbol(), significant(value, 5)))
        .collect();
    let probability = match test.probability {
        0.0 => "below 1e-300".into(),
        probability => significant(probability, 2),
    };
    let verdict = if test.probability < 0.05 {
        "rejected"
    } else {
        "not rejected"
    };
    let wald = test.wald.map_or(String::new(), |wald| {
        format!(
            "; with the covariance of the bootstrap χ² = {}",
            significant(wald, 4)
        )
    });
    format!(
        "test          {}: {verdict}, likelihood ratio χ²({}) = {}, p {}{probability}{wald}\n",
        parameters.join(", "),
        test.degrees,
        significant(test.likelihood_ratio, 4),
        if test.probability == 0.0 { "" } else { "= " },
    )
}

fn held_out(fit: &FitRecord) -> String {
    if fit.held_out.is_empty() {
        return String::new();
    }
    let inside = fit.held_out.iter().filter(|held| held.inside).count();
    let mut text = format!(
        "\nheld out: {} of {} within the 95 % interval of a run\n         N          D     loss   predicted   95 % interval\n",
        inside,
        plural(fit.held_out.len(), "run")
    );
    let skipped = fit.held_out.len().saturating_sub(HELD_OUT);
    for held in fit.held_out.iter().skip(skipped) {
        let prediction = &held.prediction;
        let [low, high] = prediction
            .run_interval
            .map(|end| end.map_or("–".into(), |end| significant(end, 4)));
        text += &format!(
            "{:>10} {:>10} {:>8}   {:<9}   {low} to {high}{}{}\n",
            significant(prediction.parameters, 3),
            significant(prediction.tokens, 3),
            significant(held.measured, 4),
            significant(prediction.loss.value, 4),
            if held.inside { "" } else { "  outside" },
            far(prediction)
        );
    }
    if skipped > 0 {
        text += &format!(
            "{} with fewer FLOPs are in --json\n",
            plural(skipped, "further run")
        );
    }
    text
}

fn side_by_side(fits: &Fits) -> String {
    let mut text = String::from("\nside by side\n");
    for fit in &fits.fits {
        let exponents = fit.estimates.iter().filter(|estimate| {
            !matches!(
                estimate.quantity,
                Quantity::A | Quantity::B | Quantity::NC | Quantity::DC
            )
        });
        let shown: Vec<String> = exponents
            .map(|estimate| match (estimate.determined, estimate.interval) {
                (true, [Some(low), Some(high)]) => format!(
                    "{} {} ({} to {})",
                    estimate.quantity.symbol(),
                    significant(estimate.value, 3),
                    significant(low, 3),
                    significant(high, 3)
                ),
                _ => format!("{} not determined", estimate.quantity.symbol()),
            })
            .collect();
        text += &format!(
            "  {}, {}: {}; objective {}\n",
            fit.formula,
            fit.settings.convention.name(),
            shown.join(", "),
            significant(fit.objective, 4)
        );
    }
    text
}
