//! Log lines, always on standard error.
//!
//! `ICCM_LOG`, else `RUST_LOG`, says what is logged, in the syntax of `tracing_subscriber::EnvFilter`. While a command that
//! owns the terminal runs (`iccm run -- claude`), lines are held back, so that they cannot damage its screen: at most
//! [`HELD_BYTES`], the rest is counted and dropped.
//!
//! Refused at any level: what libraries say of the contents of messages, which may be keys.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

use crate::config::Environment;

/// Bytes of log lines that are held back at most.
const HELD_BYTES: usize = 64 * 1024;

/// The place that log lines go to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Sink>>);

#[derive(Debug, Default)]
enum Sink {
    #[default]
    Stderr,
    Held {
        lines: Vec<u8>,
        dropped: u64,
    },
}

/// Starts logging. `default_level` holds where the environment says nothing.
pub(crate) fn init(env: &Environment, default_level: &str) -> anyhow::Result<Log> {
    let (name, directives) = ["ICCM_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| Some((name, env.text(name)?)))
        .unwrap_or(("default", default_level));
    let filter = EnvFilter::try_new(directives)
        .with_context(|| format!("{name}={directives} is not a log filter; try {name}=info"))?;
    let log = Log::default();
    let colour = io::IsTerminal::is_terminal(&io::stderr()) && env.text("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone()).with_ansi(colour).finish();
    lines.with(filter_fn(|about| !tells_contents(about))).init();
    Ok(log)
}

/// tungstenite's traces have each message whole.
fn tells_contents(about: &Metadata<'_>) -> bool {
    *about.level() == Level::TRACE && about.target().starts_with("tungstenite")
}

impl Log {
    /// Holds lines back from now on.
    pub(crate) fn hold(&self) {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Sink::Stderr = *sink {
            *sink = Sink::Held { lines: Vec::new(), dropped: 0 };
        }
    }

    /// Writes out what was held back, and holds nothing back any more.
    pub(crate) fn release(&self) {
        let held = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let Sink::Held { lines, dropped } = held else { return };
        let mut err = io::stderr();
        // Where standard error is gone there is nobody left to tell.
        let _ = err.write_all(&lines);
        if dropped > 0 {
            let _ = writeln!(err, "iccm: {dropped} more log lines were dropped while the command had the terminal");
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The subscriber writes each line in one call.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::Stderr => io::stderr().write_all(line)?,
            Sink::Held { lines, .. } if lines.len() + line.len() <= HELD_BYTES => lines.extend_from_slice(line),
            Sink::Held { dropped, .. } => *dropped += 1,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_lines_are_bounded_and_the_rest_counted() {
        let mut log = Log::default();
        log.hold();
        let line = [b'x'; 1000];
        for _ in 0..100 {
            log.write_all(&line).unwrap();
        }
        let sink = log.0.lock().unwrap();
        let Sink::Held { lines, dropped } = &*sink else { unreachable!() };
        assert_eq!((lines.len(), *dropped), (65_000, 35));
    }
}
