//! `iccm show`: one conversation, all turns.

pub(super) mod blocks;
mod calls;
mod markdown;
mod paragraphs;
mod text;
mod transcript;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use self::transcript::Transcript;
use super::reading;
use crate::config::{Config, Environment};
use crate::render::json_line;
use crate::render::screen::{self, Screen};

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// The conversation's id, or the beginning of it
    conversation: String,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Cut nothing: long tool inputs and results, system messages
    #[arg(long)]
    full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Markdown,
}

pub(super) async fn run(args: ShowArgs, config: &Config, env: &Environment) -> anyhow::Result<ExitCode> {
    let store = reading::open(config).await?;
    let conversation = reading::conversation(store.as_ref(), &args.conversation).await?;
    let transcript = Transcript::load(store.as_ref(), conversation).await?;
    let format = if args.json { Format::Json } else { args.format };
    let zone = TimeZone::system();
    let mut out = screen::stdout();
    match format {
        Format::Text => text::write(&transcript, Screen::of_stdout(env), args.full, &zone, &mut out)?,
        Format::Markdown => markdown::write(&transcript, &zone, &mut out)?,
        Format::Json => json_line(&mut out, &transcript.as_json())?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
