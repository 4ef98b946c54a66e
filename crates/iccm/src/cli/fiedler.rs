//! `iccm fiedler`: Fiedler alone, as a server; and asking from the command line.
//!
//! Each of these that asks has a recorder of its own, on free loopback ports, so that everything is on record without any
//! other part running, and beside one that runs.

mod compare;
mod models;
mod progress;
mod send;
mod set_key;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::up::DATABASE_PATIENCE;
use super::{FiedlerArgs, RecorderArgs};
use crate::config::Config;
use crate::render::{self, json_line};
use crate::shutdown;
use crate::wiring::fiedler::{FiedlerServer, orchestra, private_addresses};
use crate::wiring::{self, Running};

#[derive(Args)]
pub(crate) struct FiedlerCommandArgs {
    #[command(flatten)]
    pub(super) recorder: RecorderArgs,
    #[command(flatten)]
    pub(super) fiedler: FiedlerArgs,
    /// One JSON line when ready
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<FiedlerCommand>,
}

#[derive(Subcommand)]
enum FiedlerCommand {
    /// Ask models, show how far each is, and say where the answers are
    Send(send::SendArgs),
    /// List the models that can be asked
    Models(models::ModelsArgs),
    /// Print a run's answers side by side
    Compare(compare::CompareArgs),
    /// Keep a provider's key, which is read from standard input
    SetKey(set_key::SetKeyArgs),
}

impl FiedlerCommandArgs {
    /// Whether it serves.
    pub(super) fn is_server(&self) -> bool {
        self.command.is_none()
    }
}

/// What `--json` prints when clients may come.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    fiedler: String,
    gateway: String,
    data_dir: &'a str,
}

pub(super) async fn run(args: FiedlerCommandArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(FiedlerCommand::Send(send)) => send::run(send, config).await,
        Some(FiedlerCommand::Models(models)) => models::run(models, config).await,
        Some(FiedlerCommand::Compare(compare)) => compare::run(compare, config).await,
        Some(FiedlerCommand::SetKey(set_key)) => set_key::run(set_key, config).await,
        None => serve(args.json, config).await,
    }
}

async fn serve(json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    // Before anything is created: a refused address leaves no trace.
    config.checked_fiedler_listen().map_err(anyhow::Error::msg)?;
    let ended = shutdown::on_signal()?;
    let running = wiring::start(config, private_addresses(config)?).await?;
    if let Err(why) = running.database_opens_within(DATABASE_PATIENCE).await {
        tracing::warn!(
            "the database is not open; runs are recorded into the spool, and become conversations once it is: {why}"
        );
    }
    let server = match FiedlerServer::start(config, &running).await {
        Ok(server) => server,
        Err(error) => {
            running.stop().await;
            return Err(error);
        }
    };
    announce(&server, &running, config, json)?;
    ended.cancelled().await;
    tracing::info!("stopping: calls under way may end");
    server.stop().await;
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Runs something with an orchestra and its recorder, and lets the recorder end properly whatever came of it.
async fn with_orchestra<T>(
    config: &Config,
    work: impl AsyncFnOnce(Arc<fiedler::Fiedler>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let running = wiring::start(config, private_addresses(config)?).await?;
    let done = match orchestra(config, &running) {
        Ok(fiedler) => {
            let done = work(fiedler.clone()).await;
            fiedler.finish().await;
            done
        }
        Err(error) => Err(error),
    };
    running.stop().await;
    done
}

/// Says that clients may come. Standard output may be closed (a service manager's).
fn announce(server: &FiedlerServer, running: &Running, config: &Config, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let data_dir = &config.data_dir.value.to_string_lossy();
    let gateway = format!("http://{}", running.address());
    let said = if json {
        json_line(&mut out, &Ready { event: "ready", fiedler: server.url(), gateway, data_dir })
    } else {
        let url = server.url();
        let text = format!(
            "Fiedler is here.\n\n  fiedler    {url}\n  gateway    {gateway}\n  record     {data_dir}\n\nAdd it to Claude \
             Code:\n\n  claude mcp add --transport http fiedler {url}\n\nCtrl-C ends it.\n"
        );
        out.write_all(text.as_bytes()).map_err(anyhow::Error::from)
    };
    match said.and_then(|()| out.flush().map_err(anyhow::Error::from)) {
        Err(error) if !render::is_broken_pipe(&error) => Err(error),
        _ => Ok(()),
    }
}
