//! Moments as people write them: `2026-11-22T12:00:00Z`, `2026-11-22`, `2h`, `3d`.

use jiff::civil;
use jiff::tz::TimeZone;
use winni::model::Timestamp;

/// Reads a moment; dates and times without an offset are local, a number with a unit is so long ago.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    parse_at(text, Timestamp::now(), &TimeZone::system())
}

fn parse_at(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    if let Some(microseconds) = ago(text) {
        return Ok(Timestamp(now.0.saturating_sub(microseconds)));
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(instant.as_microsecond()));
    }
    let local = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(civil::Date::into));
    let zoned = local.and_then(|local| local.to_zoned(zone.clone()));
    zoned.map(|zoned| Timestamp(zoned.timestamp().as_microsecond())).map_err(|_| {
        "a moment is written like 2026-11-22T12:00:00Z, 2026-11-22, 2026-11-22T12:00, 90s, 30m, 2h, 3d or 1w (ago)"
            .into()
    })
}

/// Microseconds in a number with a unit.
fn ago(text: &str) -> Option<i64> {
    let seconds = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number: i64 = plain.then(|| digits.parse().ok()).flatten()?;
    number.checked_mul(seconds * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_350_483_000_000);

    fn read(text: &str) -> Result<String, String> {
        parse_at(text, NOW, &TimeZone::fixed(jiff::tz::offset(2))).map(|t| t.to_string())
    }

    #[test]
    fn absolute_moments() {
        assert_eq!(read("2026-11-22T12:00:00.5Z").unwrap(), "2026-11-22T12:00:00.500000Z");
        assert_eq!(read("2026-11-22T12:00:00+01:00").unwrap(), "2026-11-22T11:00:00.000000Z");
        assert_eq!(read("2026-11-22").unwrap(), "2026-11-21T22:00:00.000000Z");
        assert_eq!(read("2026-11-22T12:00").unwrap(), "2026-11-22T10:00:00.000000Z");
    }

    #[test]
    fn moments_ago() {
        assert_eq!(read("90s").unwrap(), "2026-11-22T12:26:33.000000Z");
        assert_eq!(read("2h").unwrap(), "2026-11-22T10:28:03.000000Z");
        assert_eq!(read("1w").unwrap(), "2026-11-15T12:28:03.000000Z");
    }

    #[test]
    fn anything_else_is_explained() {
        for wrong in ["", "yesterday", "h", "-2h", "2 h", "2026-13-01", "99999999999999w"] {
            assert!(read(wrong).unwrap_err().starts_with("a moment is written like"), "{wrong}");
        }
    }
}
