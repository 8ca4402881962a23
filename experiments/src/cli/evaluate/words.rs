//! The result of an evaluation in words.

use foretoken::science::evaluate::{
    Estimate, Evaluation, EvaluationRecord, Measures, Rounding, RoundingVerdict, Second,
};
use foretoken::show::format::{self, count, plural};
use foretoken_datasets::files::printable;

/// Formats a record for a terminal of 80 columns.
pub(super) fn shown(report: &EvaluationRecord) -> String {
    let Evaluation {
        total,
        texts,
        documents,
        not_scored,
        ..
    } = &report.evaluation;
    let mut shown = format!(
        "{} on {} in {}\n{}\n\n",
        printable(&report.model),
        report.backend,
        report.precision,
        report.settings().words()
    );
    shown += &table(total);
    if let Some(second) = &report.against {
        shown += &against(report, second);
    }
    if let Some(floor) = report.floor_bits_per_byte {
        shown += &format!(
            "The entropy of this text's source is {} bits per byte.\n",
            format::significant(floor, 4)
        );
    }
    if let Some(floor) = report.window_floor.filter(|floor| floor.cut > 0.0) {
        shown += &format!(
            "{} % of the targets lack the start of their document{}\n",
            format::significant(100.0 * floor.cut, 2),
            match floor.bits_per_byte {
                Some(floor) => format!(
                    ":\nthe floor of these windows is {} bits per byte.",
                    format::significant(floor, 4)
                ),
                None => ":\nthe entropy is out of reach.".into(),
            }
        );
    }
    if *not_scored > 0 {
        shown += &format!(
            "{} without a prediction, because no token precedes {}.\n",
            tokens(*not_scored),
            if *not_scored == 1 { "it" } else { "them" }
        );
    }
    if !report.tokenizer_is_exact {
        shown += "The tokenizer changes text: its tokens do not stand for exactly these bytes.\n";
    }
    shown += &format!(
        "\nExpected calibration error of the most probable token: {} %, over {}.\n",
        format::significant(
            100.0 * report.evaluation.calibration.expected_calibration_error,
            2
        ),
        plural(report.evaluation.calibration.bins.len(), "bin")
    );
    if !documents.is_empty() {
        shown += &format!(
            "\n{:>10} {:>12} {:>12}  document\n",
            "tokens", "bytes", "bits/byte"
        );
        for document in documents {
            let per_byte = match document.bytes {
                0 => format::NONE.into(),
                bytes => format!("{:.4}", document.bits / bytes as f64),
            };
            shown += &format!(
                "{:>10} {:>12} {per_byte:>12}  {} {}\n",
                document.tokens,
                document.bytes,
                printable(&document.text),
                document.document
            );
        }
    } else if texts.len() > 1 {
        shown += &format!(
            "\n{:>10} {:>12} {:>12}   {:<18} text\n",
            "tokens", "bytes", "bits/byte", "95 % interval"
        );
        for text in texts {
            let per_byte = text.measures.bits_per_byte;
            let interval = per_byte.and_then(|bits| bits.interval);
            shown += &format!(
                "{:>10} {:>12} {:>12}   {:<18} {}\n",
                text.measures.tokens,
                text.measures.bytes,
                per_byte.map_or(format::NONE.into(), |bits| number(bits.value)),
                interval.map_or(String::new(), |[low, high]| format!(
                    "{} to {}",
                    number(low),
                    number(high)
                )),
                printable(&text.name)
            );
        }
    }
    shown
        + &format!(
            "\n{} scored in {}, {} tokens/s\n",
            tokens(total.tokens),
            format::seconds(report.seconds),
            format::rate(report.tokens_per_second)
        )
}

/// Describes the difference from a second model.
fn against(report: &EvaluationRecord, second: &Second) -> String {
    let Second {
        model,
        backend,
        precision,
        total,
        difference,
        rounding,
        ..
    } = second;
    let mut shown = format!("Against {model} on {backend} in {precision}\n\n");
    let measured = [report.evaluation.total.bits_per_byte, total.bits_per_byte];
    let (name, measured, estimate) = match (measured, difference.bits_per_byte) {
        ([Some(first), Some(second)], Some(difference)) => {
            ("bits per byte", [first, second], Some(difference))
        }
        _ => {
            let first = report.evaluation.total.loss;
            ("loss", [first, total.loss], difference.loss)
        }
    };
    for (which, estimate) in ["first", "second"].into_iter().zip(measured) {
        shown += &format!(
            "{:<24} {:>10}\n",
            format!("{name}, {which}"),
            number(estimate.value)
        );
    }
    if let Some(difference) = estimate {
        shown += &difference_row(difference);
        shown += &match difference.contains(0.0) {
            _ if rounding.is_some() => String::new(),
            None => String::new(),
            Some(true) => "This text does not show which model is better.\n".into(),
            Some(false) if difference.value < 0.0 => "The second model is better.\n".into(),
            Some(false) => "The first model is better.\n".into(),
        };
    }
    if difference.left_out > 0 {
        shown += &format!(
            "{} left out: too short for one of the models.\n",
            plural(difference.left_out, "document")
        );
    }
    if let Some(rounding) = rounding {
        shown += &rounding_text(rounding);
    }
    shown + "\n"
}

/// Formats a difference, which may be small, with its interval.
fn difference_row(difference: Estimate) -> String {
    let number = |value: f64| match value.abs() {
        0.0 => "0".into(),
        size if size < 1e-3 => format!("{value:.1e}"),
        _ => format!("{value:.4}"),
    };
    let interval = difference.interval.map_or(String::new(), |[low, high]| {
        format!("{} to {}", number(low), number(high))
    });
    let row = format!(
        "{:<24} {:>10}   {interval}",
        "second − first",
        number(difference.value)
    );
    format!("{}\n", row.trim_end())
}

/// Answers whether the difference is more than rounding.
fn rounding_text(rounding: &Rounding) -> String {
    let Rounding {
        verdict,
        largest,
        root_mean_square,
        of_one_rounding,
        bound,
    } = rounding;
    let verdict = match verdict {
        RoundingVerdict::Identical => {
            return "Same weights: every token has the same bits.\n".into();
        }
        RoundingVerdict::Rounding => "Same weights: the difference is rounding.".to_owned(),
        RoundingVerdict::Differs => format!(
            "Same weights: the difference is more than rounding, which would be {bound:.1e}.\n\
             `foretoken bisect` names the operation that differs."
        ),
    };
    format!(
        "{verdict}\nTokens differ by {root_mean_square:.1e} nats in the root mean square, and by {largest:.1e} at most;\n\
         one rounding of every weight changes them by {of_one_rounding:.1e}.\n"
    )
}

fn tokens(number: u64) -> String {
    counted(number, "token")
}

/// Formats a number of things, with spaces between thousands.
fn counted(number: u64, what: &str) -> String {
    format!(
        "{} {what}{}",
        count(number),
        if number == 1 { "" } else { "s" }
    )
}

/// Lists the measures with their intervals.
fn table(total: &Measures) -> String {
    let clusters = total.clusters_are.words();
    let rows = [
        ("loss", Some(total.loss), "nats/token"),
        ("", Some(total.bits_per_token), "bits/token"),
        ("perplexity", Some(total.perplexity), "per token"),
        ("bits per byte", total.bits_per_byte, ""),
        ("bits per character", total.bits_per_character, ""),
        ("word perplexity", total.word_perplexity, ""),
        ("accuracy", Some(total.accuracy.scaled(100.0)), "%"),
        (
            "accuracy of the first 5",
            Some(total.top_5_accuracy.scaled(100.0)),
            "%",
        ),
        ("mean rank", Some(total.mean_rank), ""),
    ];
    let mut table = format!(
        "{}, {}, {}, {}\n\n{:<24} {:>10}   {:<22}\n",
        tokens(total.tokens),
        counted(total.bytes, "byte"),
        counted(total.characters, "character"),
        counted(total.words, "word"),
        "",
        "value",
        match total.clusters {
            0 | 1 => "".into(),
            number => format!("95 % interval, over {} {clusters}", count(number as u64)),
        }
    );
    for (name, estimate, unit) in rows {
        if let Some(estimate) = estimate {
            table += &row(name, estimate, unit);
        }
    }
    table + "\n"
}

/// Formats a measure with its interval.
fn row(name: &str, estimate: Estimate, unit: &str) -> String {
    let interval = estimate.interval.map_or(String::new(), |[low, high]| {
        format!("{} to {}", number(low), number(high))
    });
    let value = number(estimate.value);
    let row = format!("{name:<24} {value:>10}   {interval:<22} {unit}");
    format!("{}\n", row.trim_end())
}

/// Formats a number with at least five digits, and at most four after the point.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{value:.3e}"),
        large if large >= 1000.0 => format!("{value:.1}"),
        large if large >= 100.0 => format!("{value:.2}"),
        large if large >= 10.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}
