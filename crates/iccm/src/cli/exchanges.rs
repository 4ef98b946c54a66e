//! `iccm exchanges`: what went over the wire.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;
use winni::model::{Exchange, ExchangeFilter, Kind};

use super::reading;
use crate::config::{Config, Environment};
use crate::render::safe::one_line;
use crate::render::screen::{self, Screen};
use crate::render::table::{Align, Table};
use crate::render::{json_line, quantity};

#[derive(Args)]
pub(crate) struct ExchangesArgs {
    /// Only this conversation (its id, or the beginning of it)
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Only this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// JSON Lines
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ExchangesArgs, config: &Config, env: &Environment) -> anyhow::Result<ExitCode> {
    let store = reading::open(config).await?;
    let conversation_id = match &args.conversation {
        Some(id) => Some(reading::conversation(store.as_ref(), id).await?.id),
        None => None,
    };
    let exchanges =
        store.exchanges(ExchangeFilter { conversation_id, session_id: args.session, recorder: None }).await?;
    let mut out = screen::stdout();
    if args.json {
        exchanges.iter().try_for_each(|exchange| json_line(&mut out, exchange))?;
    } else {
        table(&exchanges, &TimeZone::system()).write(Screen::of_stdout(env), &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// A kind's name, as in JSON.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Message => "message",
        Kind::Side => "side",
        Kind::Other => "other",
    }
}

fn table(exchanges: &[Exchange], zone: &TimeZone) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("STARTED", Align::Left),
        ("TOOK", Align::Right),
        ("KIND", Align::Left),
        ("STATUS", Align::Right),
        ("OUTCOME", Align::Left),
        ("REQUEST", Align::Right),
        ("RESPONSE", Align::Right),
        ("TOKENS IN", Align::Right),
        ("OUT", Align::Right),
        ("WHAT", Align::Left),
    ]);
    let tokens = |count: Option<u64>| count.map_or_else(String::new, quantity::count);
    for e in exchanges {
        let model = e.model.as_deref().map(|model| format!(" ({model})")).unwrap_or_default();
        table.row(vec![
            e.id.to_string(),
            quantity::date_time(e.started_at, zone),
            e.ended_at.map_or_else(String::new, |ended| quantity::duration(e.started_at, ended)),
            kind_name(e.kind).to_owned(),
            e.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            e.outcome.name().to_owned(),
            quantity::bytes(e.request_bytes),
            quantity::bytes(e.response_bytes),
            tokens(e.input_tokens),
            tokens(e.output_tokens),
            one_line(&format!("{} {}{model}", e.method, e.path)),
        ]);
    }
    table
}
