//! Moments as people write them: `2026-11-22T12:00:00Z`, `2026-11-22`, `2h` (ago).

use jiff::civil;
use jiff::tz::TimeZone;

use crate::model::Timestamp;

/// The first moment that a text names: a date is its midnight. Dates and times without an offset are local; a number with
/// a unit (s, m, h, d, w) is so long ago.
///
/// # Errors
/// What a moment is written like, if this is none.
pub fn since(text: &str) -> Result<Timestamp, String> {
    read(text, Timestamp::now(), &TimeZone::system(), Edge::Begin)
}

/// As [`since`], but a date means its end: what happened on that day is before it.
///
/// # Errors
/// What a moment is written like, if this is none.
pub fn until(text: &str) -> Result<Timestamp, String> {
    read(text, Timestamp::now(), &TimeZone::system(), Edge::End)
}

#[derive(Clone, Copy, PartialEq)]
enum Edge {
    Begin,
    End,
}

fn read(text: &str, now: Timestamp, zone: &TimeZone, edge: Edge) -> Result<Timestamp, String> {
    if let Some(microseconds) = ago(text) {
        return Ok(Timestamp(now.0.saturating_sub(microseconds)));
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(instant.as_microsecond()));
    }
    let local = match date(text) {
        Some(date) if edge == Edge::End => date.tomorrow().map(civil::DateTime::from),
        Some(date) => Ok(date.into()),
        None => text.parse(),
    };
    let zoned = local.and_then(|local: civil::DateTime| local.to_zoned(zone.clone()));
    zoned.map(|zoned| Timestamp(zoned.timestamp().as_microsecond())).map_err(|_| {
        "a moment is written like 2026-11-22T12:00:00Z, 2026-11-22, 2026-11-22T12:00, 90s, 30m, 2h, 3d or 1w (ago)"
            .into()
    })
}

/// A date and nothing else: jiff also takes the date out of a longer text.
fn date(text: &str) -> Option<civil::Date> {
    text.bytes().all(|b| b.is_ascii_digit() || b == b'-').then(|| text.parse().ok()).flatten()
}

/// Microseconds in a number with a unit.
fn ago(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let digits = &text[..text.len() - unit.len_utf8()];
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number: i64 = plain.then(|| digits.parse().ok()).flatten()?;
    number.checked_mul(seconds * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_350_483_000_000);

    fn read_at(text: &str, edge: Edge) -> Result<String, String> {
        read(text, NOW, &TimeZone::fixed(jiff::tz::offset(2)), edge).map(|t| t.to_string())
    }

    fn begin(text: &str) -> Result<String, String> {
        read_at(text, Edge::Begin)
    }

    #[test]
    fn absolute_moments() {
        assert_eq!(begin("2026-11-22T12:00:00.5Z").unwrap(), "2026-11-22T12:00:00.500000Z");
        assert_eq!(begin("2026-11-22T12:00:00+01:00").unwrap(), "2026-11-22T11:00:00.000000Z");
        assert_eq!(begin("2026-11-22").unwrap(), "2026-11-21T22:00:00.000000Z");
        assert_eq!(begin("2026-11-22T12:00").unwrap(), "2026-11-22T10:00:00.000000Z");
    }

    #[test]
    fn a_date_as_an_end_is_the_end_of_that_day() {
        assert_eq!(read_at("2026-11-22", Edge::End).unwrap(), "2026-11-22T22:00:00.000000Z");
        assert_eq!(read_at("2026-11-22T12:00", Edge::End).unwrap(), "2026-11-22T10:00:00.000000Z");
    }

    #[test]
    fn moments_ago() {
        assert_eq!(begin("90s").unwrap(), "2026-11-22T12:26:33.000000Z");
        assert_eq!(begin("2h").unwrap(), "2026-11-22T10:28:03.000000Z");
        assert_eq!(begin("1w").unwrap(), "2026-11-15T12:28:03.000000Z");
    }

    #[test]
    fn anything_else_is_explained() {
        for wrong in ["", "yesterday", "h", "-2h", "2 h", "2026-13-01", "99999999999999w", "9999-12-31", "ü"] {
            assert!(read_at(wrong, Edge::End).unwrap_err().starts_with("a moment is written like"), "{wrong}");
        }
    }
}
