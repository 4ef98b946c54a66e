//! Numbers and times as people read them.

use jiff::tz::TimeZone;
use winni::model::Timestamp;

/// Bytes with a decimal unit, e.g. `3.4 MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count with thousands set apart, e.g. `12,345`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count and its noun, e.g. `1 turn`, `2 turns`.
pub(crate) fn counted(value: u64, noun: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(value))
}

/// US dollars; `cost unknown` where a price is not known, because a guess would be worse.
pub(crate) fn cost(usd: Option<f64>) -> String {
    match usd {
        None => "cost unknown".into(),
        Some(usd) if usd >= 1.0 => format!("${usd:.2}"),
        Some(usd) => format!("${usd:.4}"),
    }
}

/// Date and time of day, e.g. `2026-11-22 12:28:03`.
pub(crate) fn date_time(at: Timestamp, zone: &TimeZone) -> String {
    strftime(at, zone, "%Y-%m-%d %H:%M:%S")
}

/// Time of day, e.g. `12:28:03`.
pub(crate) fn time_of_day(at: Timestamp, zone: &TimeZone) -> String {
    strftime(at, zone, "%H:%M:%S")
}

fn strftime(at: Timestamp, zone: &TimeZone, format: &str) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(time) => time.to_zoned(zone.clone()).strftime(format).to_string(),
        Err(_) => at.to_string(),
    }
}

/// Time between two moments, e.g. `0.42s`, `12.3s`, `4m 05s`, `2h 07m`.
pub(crate) fn duration(from: Timestamp, until: Timestamp) -> String {
    let us = u64::try_from(until.0.saturating_sub(from.0)).unwrap_or(0);
    let seconds = us / 1_000_000;
    match seconds {
        0..10 => format!("{}.{:02}s", seconds, us % 1_000_000 / 10_000),
        10..60 => format!("{}.{}s", seconds, us % 1_000_000 / 100_000),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts() {
        let shown: Vec<String> = [0, 999, 1000, 999_949, 999_951, 3_400_000, 12_000_000_000].map(bytes).into();
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "3.4 MB", "12.0 GB"]);
    }

    #[test]
    fn counts_and_costs() {
        assert_eq!([7, 999, 1000, 1_234_567].map(count), ["7", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "turn"), "1 turn");
        assert_eq!(counted(0, "turn"), "0 turns");
        assert_eq!(cost(Some(0.01234)), "$0.0123");
        assert_eq!(cost(Some(12.345)), "$12.35");
        assert_eq!(cost(None), "cost unknown");
    }

    #[test]
    fn times() {
        let at = Timestamp(1_795_350_483_000_000);
        assert_eq!(date_time(at, &TimeZone::UTC), "2026-11-22 12:28:03");
        assert_eq!(time_of_day(at, &TimeZone::UTC), "12:28:03");
        let after = |us: i64| duration(at, Timestamp(at.0 + us));
        assert_eq!(after(420_000), "0.42s");
        assert_eq!(after(12_340_000), "12.3s");
        assert_eq!(after(245_000_000), "4m 05s");
        assert_eq!(after(7_620_000_000), "2h 07m");
        assert_eq!(after(-5), "0.00s");
    }
}
