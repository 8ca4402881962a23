//! Formats of numbers, bytes and durations for reports and terminals: few digits, thin spaces, units.

use std::path::Path;
use std::time::Duration;

use foretoken_datasets::files::printable;

/// Narrow no-break space, between a number and its unit, and between thousands.
pub const THIN: char = '\u{202F}';

/// Placeholder for a missing number.
pub const NONE: &str = "–";

/// Formats a number with `digits` significant digits: `0.231`, `1.1e-7`.
pub fn significant(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return "not a number".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.into();
    }
    if value == 0.0 {
        return "0".into();
    }
    // Rounding comes first, because 9.99 has the exponent of 10 in two digits.
    let scientific = format!("{value:.*e}", digits.max(1) - 1);
    let exponent: i32 = scientific
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok())
        .unwrap_or(0);
    match exponent {
        -3..=5 => {
            let decimals = digits as i32 - 1 - exponent;
            format!("{value:.*}", decimals.max(0) as usize)
        }
        _ => scientific,
    }
}

/// Rounds `value` to `digits` significant digits, for files that need no exact numbers.
pub fn rounded(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits.max(1) - 1)
        .parse()
        .unwrap_or(value)
}

/// Formats a count with separated thousands from five digits on: `17 736`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    if digits.len() <= 4 {
        return digits;
    }
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(THIN);
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats a number of things: `1 step`, `60 steps`.
pub fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Formats a loss, in nats per token: `0.2309`.
pub fn loss(value: f64) -> String {
    match value.abs() {
        size if size.is_finite() && size < 1e4 && (size >= 1e-2 || size == 0.0) => {
            format!("{value:.4}")
        }
        _ => significant(value, 4),
    }
}

/// Formats a rate, such as tokens per second, with three digits, or all digits from 1000 on.
pub fn rate(value: f64) -> String {
    match value {
        1000.0..1e15 => count(value.round() as u64),
        _ => significant(value, 3),
    }
}

/// Formats a size in binary units: `312 MiB`.
pub fn bytes(value: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = value as f64;
    let mut unit = 0;
    while size >= 1023.5 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    let size = match unit {
        0 => value.to_string(),
        _ if size >= 999.5 => format!("{size:.0}"),
        _ => significant(size, 3),
    };
    format!("{size}{THIN}{}", units[unit])
}

/// Formats a time span with three digits: `12.3 ms`.
pub fn seconds(value: f64) -> String {
    span(value, 3)
}

/// Formats a time span with `digits` significant digits.
pub fn span(value: f64, digits: usize) -> String {
    let (unit, size) = match value.abs() {
        size if size >= 1.0 || size == 0.0 || !size.is_finite() => ("s", 1.0),
        size if size >= 1e-3 => ("ms", 1e-3),
        size if size >= 1e-6 => ("µs", 1e-6),
        _ => ("ns", 1e-9),
    };
    format!("{}{THIN}{unit}", significant(value / size, digits))
}

/// Formats a number in scientific notation with two digits, for a column of a terminal: `1.2e-7`. Zero and non-finite
/// numbers are `0`, `NaN` and `inf`.
pub fn scientific(value: f64) -> String {
    match value == 0.0 || !value.is_finite() {
        true => value.to_string(),
        false => format!("{value:.1e}"),
    }
}

/// Formats a loss for a column of a terminal: `1.2345`.
pub fn short_loss(nats: f64) -> String {
    match nats.is_finite() && nats.abs() >= 1e4 {
        true => scientific(nats),
        false => format!("{nats:.4}"),
    }
}

/// Formats a rate for a column of a terminal: `12.3k`.
pub fn short_rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate if rate < 999.5 => format!("{rate:.0}"),
        rate if rate < 99_950.0 => format!("{:.1}k", rate / 1e3),
        rate if rate < 999_500.0 => format!("{:.0}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

/// Formats a duration, without seconds from an hour on: `2m 3s`.
pub fn duration(time: Duration) -> String {
    let seconds = match time.as_secs() {
        short @ 0..3600 => short,
        long => long - long % 60,
    };
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// Replaces thin spaces by ordinary ones, because terminals differ in their width.
pub fn plain(text: String) -> String {
    text.replace(THIN, " ")
}

/// Paths in lines of text.
pub trait Shown {
    /// Returns the path in one line, whatever characters it has.
    fn shown(&self) -> String;
}

impl<P: AsRef<Path> + ?Sized> Shown for P {
    fn shown(&self) -> String {
        printable(&self.as_ref().display().to_string())
    }
}

/// Joins names as in a sentence: `one, two and three`.
pub fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_significant_digits() {
        for (value, digits, text) in [
            (1.1e-7, 2, "1.1e-7"),
            (0.23094, 3, "0.231"),
            (9.996, 3, "10.0"),
            (123_456.0, 3, "123456"),
            (1.5e6, 2, "1.5e6"),
            (0.001_25, 3, "0.00125"),
            (0.0, 3, "0"),
            (f64::NAN, 3, "not a number"),
            (f64::NEG_INFINITY, 3, "−∞"),
        ] {
            assert_eq!(significant(value, digits), text);
        }
        assert_eq!(rounded(0.123_456_789, 3), 0.123);
        assert!(rounded(f64::NAN, 3).is_nan());
    }

    #[test]
    fn units_depend_on_the_size() {
        assert_eq!(count(1234), "1234");
        assert_eq!(count(1_234_567), "1\u{202F}234\u{202F}567");
        assert_eq!(bytes(512), "512\u{202F}B");
        assert_eq!(bytes(327_155_712), "312\u{202F}MiB");
        assert_eq!(bytes(1023 * 1024), "1023\u{202F}KiB");
        assert_eq!(bytes(3 << 30), "3.00\u{202F}GiB");
        assert_eq!(seconds(0.0123), "12.3\u{202F}ms");
        assert_eq!(seconds(90.0), "90.0\u{202F}s");
        assert_eq!(rate(17_736.4), "17\u{202F}736");
        assert_eq!(rate(f64::NAN), "not a number");
        assert_eq!(loss(0.230_91), "0.2309");
        assert_eq!(loss(3e-7), "3.000e-7");
    }

    #[test]
    fn numbers_in_columns_of_a_terminal_are_narrow() {
        for (written, expected) in [
            (short_loss(3.45678), "3.4568"),
            (short_loss(f64::NAN), "NaN"),
            (short_loss(-f64::INFINITY), "-inf"),
            (short_loss(1e30), "1.0e30"),
            (scientific(0.0), "0"),
            (scientific(1.234e-7), "1.2e-7"),
            (scientific(f64::INFINITY), "inf"),
            (short_rate(0.25), "0.2"),
            (short_rate(999.9), "1.0k"),
            (short_rate(12_345.0), "12.3k"),
            (short_rate(123_456.0), "123k"),
            (short_rate(2.5e6), "2.5M"),
            (plain(bytes(1 << 20)), "1.00 MiB"),
            (plain(bytes(312 << 20)), "312 MiB"),
            (plain(bytes(1 << 30)), "1.00 GiB"),
            (duration(Duration::from_millis(123_900)), "2m 3s"),
            (duration(Duration::from_secs(7384)), "2h 3m"),
        ] {
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn names_are_joined_as_in_a_sentence() {
        let names = ["a", "b", "c"].map(String::from);
        assert_eq!(listed(&names), "a, b and c");
        assert_eq!(listed(&names[..2]), "a and b");
        assert_eq!(listed(&[]), "");
    }
}
