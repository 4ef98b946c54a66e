//! `iccm fiedler send`.

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use fiedler::{Order, Report, Status};

use super::progress::Display;
use super::with_orchestra;
use crate::config::Config;
use crate::render::safe::neutralise;
use crate::render::{json_line, screen};
use crate::shutdown;

#[derive(Args)]
pub(super) struct SendArgs {
    /// What to ask; `-` reads it from standard input
    prompt: String,
    /// Whom to ask, by id or alias; may be given several times [default: those that were chosen, see `models`]
    #[arg(long = "model", short, value_name = "MODEL")]
    models: Vec<String>,
    /// A text file or an image to send along; may be given several times
    #[arg(long = "file", short, value_name = "FILE")]
    files: Vec<String>,
    /// The result as one JSON line
    #[arg(long)]
    json: bool,
}

/// Exits 0 if at least one model answered.
pub(super) async fn run(args: SendArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let prompt = match args.prompt.as_str() {
        "-" => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("cannot read the prompt from standard input")?;
            text
        }
        prompt => prompt.to_owned(),
    };
    if prompt.trim().is_empty() {
        bail!("the prompt is empty; say what to ask");
    }
    let order = Order { prompt, files: args.files, models: args.models, any_file: true, tool_use_id: None };
    let cancelled = shutdown::on_signal()?;
    let display = Arc::new(Display::new(io::stderr().is_terminal()));
    let report = with_orchestra(config, async |fiedler| Ok(fiedler.send(order, display, cancelled).await?)).await?;
    let mut out = screen::stdout();
    if args.json {
        json_line(&mut out, &report)?
    } else {
        write(&mut out, &report)?
    }
    out.flush()?;
    Ok(if report.status == Status::Failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    for result in &report.results {
        match &result.output_file {
            Some(file) => writeln!(out, "{}  {}", neutralise(&result.line()), file.display())?,
            None => writeln!(out, "{}", neutralise(&result.line()))?,
        }
    }
    for warning in &report.warnings {
        writeln!(out, "note: {}", neutralise(warning))?;
    }
    writeln!(out, "\nsummary  {}", report.summary_file.display())?;
    writeln!(out, "compare  iccm fiedler compare {}", report.correlation_id)
}
