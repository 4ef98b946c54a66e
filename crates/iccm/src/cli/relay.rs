//! `iccm relay`: the MCP relay on standard input and output.
//!
//! It needs none of the recorder's configuration, and a wrong `iccm.toml` is no reason to leave an agent without its tools.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::config::{Environment, relay_file};
use crate::shutdown;

#[derive(clap::Args)]
pub(crate) struct RelayArgs {
    /// The file that `--config` names: for this command it is the `mcpServers` file.
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
}

pub(super) async fn run(args: RelayArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = relay_file(args.config.as_deref(), env)
        .context("there is no mcpServers file and no home to keep one in; name one: iccm relay --config FILE")?;
    let stop = shutdown::on_signal()?;
    let (reader, writer) = relay::standard_streams().context("standard input and output cannot be used")?;
    let options = relay::Options { config, environment: env.texts(), guard: guard(), tap: None };
    relay::run(options, reader, writer, stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// This very program, also when its file was replaced by a newer one meanwhile.
fn guard() -> Vec<OsString> {
    let program = std::env::current_exe().ok().filter(|path| path.exists());
    let program = program.unwrap_or_else(|| "/proc/self/exe".into());
    vec![program.into_os_string(), relay::guard::GUARD_ARGUMENT.into()]
}
