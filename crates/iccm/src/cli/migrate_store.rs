//! `iccm migrate-store`: moves a record from one database to another, and proves that all of it got there.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use winni::store::Watermark;
use winni::{Moved, Step};

use crate::config::Config;
use crate::render::{json_line, quantity, screen};
use crate::wiring::pending;

/// Messages that are indexed at a time.
const INDEXED_TOGETHER: usize = 1_000;

#[derive(Args)]
pub(crate) struct MigrateStoreArgs {
    /// The database that holds the record: `sqlite:` (inside the data folder), `sqlite:PATH` or `postgres://…`
    #[arg(long, value_name = "URL")]
    from: String,
    /// The empty database that is to hold it
    #[arg(long, value_name = "URL")]
    to: String,
    /// JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: MigrateStoreArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let data_dir = &config.data_dir.value;
    winni::check_url(&args.from).context("--from")?;
    winni::check_url(&args.to).context("--to")?;
    refuse_living_recorders(&args.from, data_dir).await?;
    let progress = Progress { shown: io::stderr().is_terminal() };
    let moving = winni::move_record(&args.from, &args.to, data_dir, move |step| progress.tell(&said(step)));
    let moved = moving.await.context("the record was not moved")?;
    let indexed = index(&args.to, config, progress).await.context("the record was moved, and cannot be indexed")?;
    progress.clear();
    let mut out = screen::stdout();
    match args.json {
        true => json_line(&mut out, &report(&moved, indexed))?,
        false => out.write_all(text(&moved, indexed).as_bytes())?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What a living recorder stored into the source after the move would be left behind. Those of other data folders are
/// not seen here; the move itself notices what they store while it lasts.
async fn refuse_living_recorders(from: &str, data_dir: &Path) -> anyhow::Result<()> {
    let living = pending::living(data_dir)?;
    let is_there = winni::is_postgres(from) || winni::sqlite_path(from, data_dir)?.exists();
    if living.is_empty() || !is_there {
        return Ok(());
    }
    // Where it cannot be opened, the move says why.
    let Ok(source) = winni::open_for_reading(from, data_dir).await else { return Ok(()) };
    for recorder in living {
        if source.watermark(recorder).await? != Watermark::default() {
            bail!(
                "the source is in use: a recorder that is running stores into it; end it (iccm up, kgb or run), and run \
                 this again"
            );
        }
    }
    Ok(())
}

/// Makes all of it searchable. Whoever opens the record next would do so, too, if this is interrupted.
async fn index(to: &str, config: &Config, progress: Progress) -> anyhow::Result<u64> {
    let store = winni::open(to, &config.data_dir.value).await?;
    let mut indexed = 0;
    loop {
        progress.tell(&format!("indexing ({} done)", quantity::counted(indexed, "message")));
        match store.index_pending(INDEXED_TOGETHER).await? {
            0 => return Ok(indexed),
            more => indexed += more as u64,
        }
    }
}

/// A line on the terminal that says where the move is; nothing where there is no terminal.
#[derive(Clone, Copy)]
struct Progress {
    shown: bool,
}

impl Progress {
    fn tell(self, what: &str) {
        if self.shown {
            eprint!("\r\u{1b}[K{what} …");
        }
    }

    fn clear(self) {
        if self.shown {
            eprint!("\r\u{1b}[K");
        }
    }
}

fn said(step: Step) -> String {
    match step {
        Step::Copying(table) => format!("copying {table}"),
        Step::Comparing(table) => format!("comparing {table}"),
        Step::Rebuilding(table) => format!("rebuilding every {table} on both sides"),
        Step::Finishing => "making the destination usable".to_owned(),
    }
}

fn report(moved: &Moved, indexed: u64) -> serde_json::Value {
    let rows: serde_json::Map<_, _> =
        moved.rows.iter().map(|(table, rows)| ((*table).into(), (*rows).into())).collect();
    json!({
        "verified": true,
        "rows_written": moved.written,
        "exchanges_compared": moved.exchanges,
        "frames_compared": moved.frames,
        "messages_indexed": indexed,
        "rows": rows,
    })
}

fn text(moved: &Moved, indexed: u64) -> String {
    let rows = |table: &str| moved.rows.iter().find(|(name, _)| *name == table).map_or(0, |(_, rows)| *rows);
    let first = match moved.written {
        0 => "the record is there already, whole".to_owned(),
        written => format!("moved the record: {} written", quantity::counted(written, "row")),
    };
    format!(
        "{first}\ncompared on both sides: {}, {}, {}, {}, {}; every body rebuilt and equal\nindexed: {}\n",
        quantity::counted(rows("conversation"), "conversation"),
        quantity::counted(rows("message"), "message"),
        quantity::counted(moved.exchanges, "exchange"),
        quantity::counted(moved.frames, "MCP frame"),
        quantity::counted(rows("startup_context"), "startup context"),
        quantity::counted(indexed, "message"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_says_that_all_of_it_is_there() {
        let moved = Moved { rows: vec![("message", 2)], exchanges: 1, ..Moved::default() };
        let expected = "the record is there already, whole\n\
            compared on both sides: 0 conversations, 2 messages, 1 exchange, 0 MCP frames, 0 startup contexts; \
            every body rebuilt and equal\nindexed: 0 messages\n";
        assert_eq!(text(&moved, 0), expected);
    }
}
