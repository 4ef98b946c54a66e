//! `iccm stats`: how much is on record, and what waits to be.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use winni::model::Stats;

use super::reading;
use crate::config::Config;
use crate::render::{json_line, quantity, screen};
use crate::wiring::pending::{self, Pending};

#[derive(Args)]
pub(crate) struct StatsArgs {
    /// JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    stats: Stats,
    spool_pending_records: u64,
    spool_pending_bytes: u64,
}

pub(super) async fn run(args: StatsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = reading::open(config).await?;
    let Pending { records, bytes, .. } = pending::scan(&config.data_dir.value, Some(store.as_ref())).await?;
    let stats = store.stats().await?;
    let report = Report { stats, spool_pending_records: records, spool_pending_bytes: bytes };
    let mut out = screen::stdout();
    if args.json {
        json_line(&mut out, &report)?;
    } else {
        out.write_all(text(&report).as_bytes())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report) -> String {
    let stats = &report.stats;
    let mut lines = vec![
        ("conversations", quantity::count(stats.conversations)),
        ("messages", quantity::count(stats.messages)),
        ("exchanges", quantity::count(stats.exchanges)),
        ("MCP frames", quantity::count(stats.mcp_frames)),
        ("captured", quantity::bytes(stats.captured_bytes)),
        ("stored", stored(stats)),
        ("in the spool", spool(report)),
    ];
    if stats.unrecorded > 0 {
        lines.push(("UNRECORDED", quantity::counted(stats.unrecorded, "exchange")));
    }
    lines.into_iter().map(|(name, value)| format!("{name:<14} {value}\n")).collect()
}

fn stored(stats: &Stats) -> String {
    if stats.ratio > 0.0 {
        format!("{} (1 : {:.1})", quantity::bytes(stats.stored_bytes), stats.ratio)
    } else {
        quantity::bytes(stats.stored_bytes)
    }
}

fn spool(report: &Report) -> String {
    match report.spool_pending_records {
        0 => "nothing waiting".into(),
        waiting => format!(
            "{} waiting to be stored ({})",
            quantity::counted(waiting, "record"),
            quantity::bytes(report.spool_pending_bytes)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let stats = Stats {
            conversations: 2,
            messages: 1234,
            exchanges: 30,
            mcp_frames: 0,
            captured_bytes: 10_000_000,
            stored_bytes: 250_000,
            ratio: 40.0,
            unrecorded: 0,
        };
        Report { stats, spool_pending_records: 1, spool_pending_bytes: 2048 }
    }

    #[test]
    fn the_json_has_the_fixed_fields() {
        let value = serde_json::to_value(report()).unwrap();
        let fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            [
                "conversations",
                "messages",
                "exchanges",
                "mcp_frames",
                "captured_bytes",
                "stored_bytes",
                "ratio",
                "unrecorded",
                "spool_pending_records",
                "spool_pending_bytes"
            ]
        );
    }

    #[test]
    fn the_text_is_aligned() {
        let expected = "\
conversations  2
messages       1,234
exchanges      30
MCP frames     0
captured       10.0 MB
stored         250.0 kB (1 : 40.0)
in the spool   1 record waiting to be stored (2.0 kB)
";
        assert_eq!(text(&report()), expected);
    }
}
