//! Bounds and patience: what the spool may take, what clients may take, and how long anything is waited for.

use std::time::Duration;

use super::{Origin, Setting};

/// The settings that bound the recorder. All need a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// A segment of the spool is left for a new one before it grows beyond this many bytes.
    pub(crate) spool_segment_bytes: Setting<u64>,
    /// The bound of this recorder's part of the spool, in bytes.
    pub(crate) spool_max_bytes: Setting<u64>,
    /// Clients at once.
    pub(crate) max_connections: Setting<usize>,
    /// From the first byte of a request's head to its last.
    pub(crate) header_timeout: Setting<Duration>,
    /// Between two requests of a connection.
    pub(crate) idle_timeout: Setting<Duration>,
    /// After so long without a sign of it the peer of a WebSocket is gone; zero: when TCP thinks so.
    pub(crate) peer_timeout: Setting<Duration>,
    /// For a connection to the upstream: DNS, proxy, TCP and TLS together.
    pub(crate) connect_timeout: Setting<Duration>,
    /// How long running exchanges may go on after a shutdown began.
    pub(crate) shutdown_grace: Setting<Duration>,
}

impl Default for Bounds {
    /// What the parts have as their own.
    fn default() -> Self {
        let recorder = kgb::RecorderConfig::new("");
        let gateway = kgb::gateway::GatewayConfig::new(super::values::constant_url(super::DEFAULT_UPSTREAM));
        Self {
            spool_segment_bytes: Setting::default(recorder.segment_bytes),
            spool_max_bytes: Setting::default(recorder.max_spool_bytes),
            max_connections: Setting::default(gateway.limits.connections),
            header_timeout: Setting::default(gateway.limits.header_read),
            idle_timeout: Setting::default(gateway.limits.idle),
            peer_timeout: Setting::default(gateway.limits.peer_silence),
            connect_timeout: Setting::default(gateway.connect_timeout),
            shutdown_grace: Setting::default(gateway.grace),
        }
    }
}

impl Bounds {
    /// The keys whose values are other ones in `new`.
    pub(super) fn changed(&self, new: &Self) -> impl Iterator<Item = &'static str> {
        let changed = [
            ("spool_segment_bytes", self.spool_segment_bytes.value != new.spool_segment_bytes.value),
            ("spool_max_bytes", self.spool_max_bytes.value != new.spool_max_bytes.value),
            ("max_connections", self.max_connections.value != new.max_connections.value),
            ("header_timeout_seconds", self.header_timeout.value != new.header_timeout.value),
            ("idle_timeout_seconds", self.idle_timeout.value != new.idle_timeout.value),
            ("peer_timeout_seconds", self.peer_timeout.value != new.peer_timeout.value),
            ("connect_timeout_seconds", self.connect_timeout.value != new.connect_timeout.value),
            ("shutdown_grace_seconds", self.shutdown_grace.value != new.shutdown_grace.value),
        ];
        changed.into_iter().filter(|(_, is_other)| *is_other).map(|(key, _)| key)
    }

    pub(super) fn set_segment_bytes(&mut self, text: &str, origin: Origin) -> Result<(), String> {
        put(&mut self.spool_segment_bytes, parse_bytes(text, 1 << 20, 4 << 30), origin)
    }

    pub(super) fn set_max_bytes(&mut self, text: &str, origin: Origin) -> Result<(), String> {
        put(&mut self.spool_max_bytes, parse_bytes(text, 1 << 20, 1 << 50), origin)
    }

    pub(super) fn set_max_connections(&mut self, text: &str, origin: Origin) -> Result<(), String> {
        let wrong = || format!("must be a number from 1 to 1000000, not `{text}`");
        let count = text.parse().ok().filter(|count| (1..=1_000_000).contains(count));
        put(&mut self.max_connections, count.ok_or_else(wrong), origin)
    }

    pub(super) fn set_header_timeout(&mut self, text: &str, origin: Origin) -> Result<(), String> {
        put(&mut self.header_timeout, parse_seconds(text, 1), origin)
    }

    pub(super) fn set_idle_timeout(&mut self, text: &str, origin: Origin) -> Result<(), String> {
        put(&mut self.idle_timeout, parse_seconds(text, 1), origin)
    }

    pub(super) fn set_peer_timeout(&mut self, text: &str, origin: Origin) -> Result<(), String> {
        put(&mut self.peer_timeout, parse_seconds(text, 0), origin)
    }

    pub(super) fn set_connect_timeout(&mut self, text: &str, origin: Origin) -> Result<(), String> {
        put(&mut self.connect_timeout, parse_seconds(text, 1), origin)
    }

    pub(super) fn set_shutdown_grace(&mut self, text: &str, origin: Origin) -> Result<(), String> {
        put(&mut self.shutdown_grace, parse_seconds(text, 0), origin)
    }
}

fn put<T>(setting: &mut Setting<T>, value: Result<T, String>, origin: Origin) -> Result<(), String> {
    *setting = Setting { value: value?, origin };
    Ok(())
}

const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// A number of bytes, or of one of [`UNITS`].
fn parse_bytes(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let unit = UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    let bytes = number.trim_end().parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| (least..=most).contains(bytes)).ok_or_else(|| {
        format!("must be a number of bytes like 67108864 or 64MiB, from {least} to {most}, not `{text}`")
    })
}

/// A day at most: whoever wants to wait for longer means something else.
fn parse_seconds(text: &str, least: u64) -> Result<Duration, String> {
    const DAY: u64 = 24 * 60 * 60;
    let seconds = text.parse().ok().filter(|seconds| (least..=DAY).contains(seconds));
    let wrong = || format!("must be a number of seconds from {least} to {DAY}, not `{text}`");
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        let parse = |text| parse_bytes(text, 1, 1 << 50);
        assert_eq!(parse("67108864"), Ok(64 << 20));
        assert_eq!(parse("64MiB"), Ok(64 << 20));
        assert_eq!(parse("8 GiB"), Ok(8 << 30));
        for wrong in ["", "MiB", "8GB", "-1", "1.5GiB", "0", "99999999999TiB"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(parse_seconds("90", 1), Ok(Duration::from_secs(90)));
        assert_eq!(parse_seconds("0", 0), Ok(Duration::ZERO));
        for wrong in ["0", "", "1s", "-1", "86401"] {
            assert!(parse_seconds(wrong, 1).is_err(), "{wrong}");
        }
    }
}
