//! `iccm relay`: the MCP relay on standard input and output.
//!
//! It needs none of the recorder's configuration, unless it is to record; and whatever keeps it from recording (a wrong
//! `iccm.toml`, a disk that is full) is no reason to leave an agent without its tools.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::config::{Config, ConfigError, Environment, relay_file};
use crate::shutdown;
use crate::wiring::relay_tap::RelayRecorder;

#[derive(clap::Args)]
pub(crate) struct RelayArgs {
    /// The file that `--config` names: for this command it is the `mcpServers` file.
    #[arg(skip)]
    pub(super) config: Option<PathBuf>,
    /// Put the messages with all servers on record (those behind the spy are on record without)
    #[arg(long)]
    pub(super) record: bool,
}

pub(super) async fn run(
    args: RelayArgs,
    recording: Result<Config, ConfigError>,
    env: &Environment,
) -> anyhow::Result<ExitCode> {
    let config = relay_file(args.config.as_deref(), env)
        .context("there is no mcpServers file and no home to keep one in; name one: iccm relay --config FILE")?;
    let stop = shutdown::on_signal()?;
    let (reader, writer) = relay::standard_streams().context("standard input and output cannot be used")?;
    let recorder = if args.record { recorder(recording, env) } else { None };
    let tap = recorder.as_ref().map(RelayRecorder::tap);
    let options = relay::Options { config, environment: env.texts(), guard: guard(), tap };
    let result = relay::run(options, reader, writer, stop).await;
    if let Some(recorder) = recorder {
        recorder.stop().await;
    }
    result?;
    Ok(ExitCode::SUCCESS)
}

/// The recorder, or the reason on standard error.
fn recorder(config: Result<Config, ConfigError>, env: &Environment) -> Option<RelayRecorder> {
    let session = env.text("CLAUDE_CODE_SESSION_ID").map(str::to_owned);
    let started = config.map_err(anyhow::Error::from).and_then(|config| RelayRecorder::start(&config, session));
    started.inspect_err(|error| eprintln!("iccm: the relay goes on without recording: {error:#}")).ok()
}

/// This very program, also when its file was replaced by a newer one meanwhile.
fn guard() -> Vec<OsString> {
    let program = std::env::current_exe().ok().filter(|path| path.exists());
    let program = program.unwrap_or_else(|| "/proc/self/exe".into());
    vec![program.into_os_string(), relay::guard::GUARD_ARGUMENT.into()]
}
