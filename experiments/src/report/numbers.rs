//! How numbers are written for a reader: few digits, thin spaces, units.

/// Between a number and its unit, and between thousands: narrow, and no place for a line to break.
pub(super) const THIN: char = '\u{202F}';

/// What stands where there is no number.
pub(super) const NONE: &str = "–";

/// So many significant digits: `0.231`, `1.1e-7`.
pub(super) fn significant(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return "not a number".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.into();
    }
    if value == 0.0 {
        return "0".into();
    }
    // Rounding comes first: 9.99 has the exponent of 10 in two digits.
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

/// `value` to so many significant digits, as a number: what files hold that need not be exact.
pub(super) fn rounded(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits.max(1) - 1)
        .parse()
        .unwrap_or(value)
}

/// `17 736`; four digits stay together.
pub(super) fn count(value: u64) -> String {
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

/// A loss, in nats per token: `0.2309`.
pub(super) fn loss(value: f64) -> String {
    match value.abs() {
        size if size.is_finite() && size < 1e4 && (size >= 1e-2 || size == 0.0) => {
            format!("{value:.4}")
        }
        _ => significant(value, 4),
    }
}

/// Tokens per second, and other rates: three digits, or all of a large one.
pub(super) fn rate(value: f64) -> String {
    match value {
        1000.0..1e15 => count(value.round() as u64),
        _ => significant(value, 3),
    }
}

/// `312 MiB`
pub(super) fn bytes(value: u64) -> String {
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

/// A time span: `12.3 ms`
pub(super) fn seconds(value: f64) -> String {
    span(value, 3)
}

/// A time span with so many digits.
pub(super) fn span(value: f64, digits: usize) -> String {
    let (unit, size) = match value.abs() {
        size if size >= 1.0 || size == 0.0 || !size.is_finite() => ("s", 1.0),
        size if size >= 1e-3 => ("ms", 1e-3),
        size if size >= 1e-6 => ("µs", 1e-6),
        _ => ("ns", 1e-9),
    };
    format!("{}{THIN}{unit}", significant(value / size, digits))
}

/// `one, two and three`
pub(super) fn listed(names: &[String]) -> String {
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
    fn digits_are_significant() {
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
    fn units_fit_the_size() {
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
    fn names_are_listed_as_in_a_sentence() {
        let names = ["a", "b", "c"].map(String::from);
        assert_eq!(listed(&names), "a, b and c");
        assert_eq!(listed(&names[..2]), "a and b");
        assert_eq!(listed(&[]), "");
    }
}
