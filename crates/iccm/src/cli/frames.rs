//! `iccm frames` and `iccm frame`: the messages between an agent and its MCP servers.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use jiff::tz::TimeZone;
use uuid::Uuid;
use winni::model::{Direction, Frame, FrameFilter};

use super::exchange::Sink;
use super::reading;
use crate::config::{Config, Environment};
use crate::render::safe::one_line;
use crate::render::screen::{self, Screen};
use crate::render::table::{Align, Table};
use crate::render::{json_line, quantity};

#[derive(Args)]
pub(crate) struct FramesArgs {
    /// Only this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only this connection (the id of the exchange that opened it)
    #[arg(long, value_name = "ID")]
    connection: Option<Uuid>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// JSON Lines
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct FrameArgs {
    /// The message's id
    id: Uuid,
}

pub(super) async fn list(args: FramesArgs, config: &Config, env: &Environment) -> anyhow::Result<ExitCode> {
    let store = reading::open(config).await?;
    let filter = FrameFilter { session_id: args.session, connection_id: args.connection, limit: args.limit, offset: 0 };
    let frames = store.frames(filter).await?;
    let mut out = screen::stdout();
    if args.json {
        frames.iter().try_for_each(|frame| json_line(&mut out, frame))?;
    } else {
        table(&frames, &TimeZone::system()).write(Screen::of_stdout(env), &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Writes one message's exact bytes.
pub(super) async fn one(args: FrameArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = reading::open(config).await?;
    let mut sink = Sink::new(io::BufWriter::new(io::stdout()));
    let written = store.frame_body(args.id, &mut sink).await;
    sink.end().context("cannot write to standard output")?;
    match written? {
        Some(true) => Ok(ExitCode::SUCCESS),
        Some(false) => bail!("the content of message {} was erased", args.id),
        None => bail!("there is no message {}; iccm frames lists them", args.id),
    }
}

fn table(frames: &[Frame], zone: &TimeZone) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("AT", Align::Left),
        ("SERVER", Align::Left),
        ("", Align::Left),
        ("SIZE", Align::Right),
        ("OUTCOME", Align::Left),
        ("WHAT", Align::Left),
    ]);
    for frame in frames {
        let way = match frame.direction {
            Direction::ToServer => "→",
            Direction::ToClient => "←",
        };
        table.row(vec![
            frame.id.to_string(),
            quantity::date_time(frame.at, zone),
            one_line(&frame.server),
            way.to_owned(),
            quantity::bytes(frame.bytes),
            frame.outcome.name().to_owned(),
            one_line(&what(frame)),
        ]);
    }
    table
}

/// Method and name of what is asked, or which question is answered.
fn what(frame: &Frame) -> String {
    let id = frame.rpc_id.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
    let error = if frame.is_error { "error" } else { "result" };
    match (&frame.method, &frame.name, &frame.rpc_id) {
        (Some(method), Some(name), _) => format!("{method} {name}{id}"),
        (Some(method), None, _) => format!("{method}{id}"),
        (None, _, Some(_)) => format!("{error}{id}"),
        (None, _, None) => String::new(),
    }
}
