//! `iccm tail`: the record as it grows.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use winni::model::{Event, EventCursor, Exchange, Turn};
use winni::store::{Error, Store};

use super::reading;
use super::show::blocks;
use crate::config::{Config, Environment};
use crate::render::safe::one_line;
use crate::render::screen::{self, Screen};
use crate::render::wrap::cut;
use crate::render::{json_line, quantity};
use crate::shutdown;

/// How often the store is asked. A person does not notice it, and a database does not either.
const POLL: Duration = Duration::from_millis(200);
/// Events that are read at a time.
const BATCH: u64 = 500;
/// Columns of a message that are shown where the output is no terminal.
const PREVIEW: usize = 160;

#[derive(Args)]
pub(crate) struct TailArgs {
    /// JSON Lines
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: TailArgs, config: &Config, env: &Environment) -> anyhow::Result<ExitCode> {
    let ended = shutdown::on_signal()?;
    let store = reading::open(config).await?;
    let screen = Screen::of_stdout(env);
    let zone = TimeZone::system();
    let mut cursor = store.event_cursor().await?;
    let mut troubled = false;
    loop {
        let (events, next) = match next_events(store.as_ref(), cursor, &mut troubled).await? {
            Some(found) => found,
            None => (Vec::new(), cursor),
        };
        cursor = next;
        write_events(&events, args.json, screen, &zone)?;
        if !events.is_empty() {
            continue;
        }
        tokio::select! {
            () = ended.cancelled() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// The events since `cursor`; `None` while the database is not available, which is told once and waited for.
async fn next_events(
    store: &dyn Store,
    cursor: EventCursor,
    troubled: &mut bool,
) -> anyhow::Result<Option<(Vec<Event>, EventCursor)>> {
    match store.events(cursor, BATCH).await {
        Ok(found) => {
            *troubled = false;
            Ok(Some(found))
        }
        Err(error @ Error::Unavailable(_)) => {
            if !std::mem::replace(troubled, true) {
                tracing::warn!("{error}; waiting for it");
            }
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn write_events(events: &[Event], json: bool, screen: Screen, zone: &TimeZone) -> anyhow::Result<()> {
    // Locked only while writing: a signal that ends the program must find standard output free.
    let mut out = screen::stdout();
    for event in events {
        if json {
            json_line(&mut out, event)?;
        } else {
            writeln!(out, "{}", line(event, screen, zone))?;
        }
    }
    out.flush().map_err(io::Error::into)
}

fn line(event: &Event, screen: Screen, zone: &TimeZone) -> String {
    match event {
        Event::Exchange(exchange) => exchange_line(exchange, screen, zone),
        Event::Message(turn) => message_line(turn, screen, zone),
    }
}

fn exchange_line(e: &Exchange, screen: Screen, zone: &TimeZone) -> String {
    let status = e.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let took = e.ended_at.map(|ended| format!(" in {}", quantity::duration(e.started_at, ended))).unwrap_or_default();
    let tokens = match (e.input_tokens, e.output_tokens) {
        (Some(input), Some(output)) => format!(", {} → {} tokens", quantity::count(input), quantity::count(output)),
        _ => String::new(),
    };
    let what = one_line(&format!("{} {}", e.method, e.path));
    let text = format!("{what} {status} {}{took}{tokens}", e.outcome.name());
    format!("{} {}", screen.dim(&quantity::time_of_day(e.started_at, zone)), screen.dim(&text))
}

fn message_line(turn: &Turn, screen: Screen, zone: &TimeZone) -> String {
    let head = format!("#{} {}", turn.turn, one_line(&turn.role));
    let time = quantity::time_of_day(turn.created_at, zone);
    let room = screen.width.map_or(PREVIEW, |width| width.saturating_sub(time.len() + head.len() + 3));
    let preview = cut(&one_line(&blocks::preview(&turn.content)), room);
    format!("{} {} {preview}", screen.dim(&time), screen.bold(&head))
}
