//! `iccm dewey`: Dewey alone, over a record that others write, or nobody.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::DeweyArgs;
use super::up::DATABASE_PATIENCE;
use crate::config::Config;
use crate::render::{self, json_line};
use crate::shutdown;
use crate::wiring::LateStore;
use crate::wiring::dewey::DeweyServer;

#[derive(Args)]
pub(crate) struct DeweyCommandArgs {
    #[command(flatten)]
    pub(super) dewey: DeweyArgs,
    /// Allow listening on an address that other machines can reach: there is no authentication yet [env:
    /// ICCM_ALLOW_REMOTE]
    #[arg(long)]
    pub(super) allow_remote: bool,
    /// One JSON line when ready
    #[arg(long)]
    json: bool,
}

/// What `--json` prints when clients may come.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    dewey: String,
    data_dir: &'a str,
}

pub(super) async fn run(args: DeweyCommandArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let data_dir = &config.data_dir.value;
    // Before anything is created: a refused address leaves no trace.
    config.checked_dewey_listen().map_err(anyhow::Error::msg)?;
    std::fs::create_dir_all(data_dir).with_context(|| {
        format!("cannot create the data folder {}; choose another one with --data-dir", data_dir.display())
    })?;
    let ended = shutdown::on_signal()?;
    let store = Arc::new(LateStore::open(config.database_url.value.clone(), data_dir.clone()));
    let dewey = DeweyServer::start(config, store.clone()).await?;
    if !store.opened_within(DATABASE_PATIENCE).await {
        tracing::warn!("the database is not open; calls fail until it is: {}", store.why_not_open());
    }
    announce(&dewey, config, args.json)?;
    ended.cancelled().await;
    tracing::info!("stopping: calls under way may end");
    dewey.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Says that clients may come. Standard output may be closed (a service manager's).
fn announce(dewey: &DeweyServer, config: &Config, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let data_dir = &config.data_dir.value.to_string_lossy();
    let said = if json {
        json_line(&mut out, &Ready { event: "ready", dewey: dewey.url(), data_dir })
    } else {
        let url = dewey.url();
        let text = format!(
            "Dewey is here.\n\n  dewey      {url}\n  record     {data_dir}\n\nAdd it to Claude Code:\n\n  \
             claude mcp add --transport http dewey {url}\n\nCtrl-C ends it.\n"
        );
        out.write_all(text.as_bytes()).map_err(anyhow::Error::from)
    };
    match said.and_then(|()| out.flush().map_err(anyhow::Error::from)) {
        Err(error) if !render::is_broken_pipe(&error) => Err(error),
        _ => Ok(()),
    }
}
