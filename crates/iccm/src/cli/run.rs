//! `iccm run`: a command with everything that it says to model APIs on record.
//!
//! It has a recorder of its own, gateway and spy on free loopback ports, so that what it did is told exactly; several may run
//! beside each other and beside `iccm up`. To Claude Code it offers the relay, which records into the same record.

pub(super) mod child;
mod environment;
mod mcp;
mod summary;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Args;

use self::environment::Plan;
use self::summary::Summary;
use super::RecorderArgs;
use crate::config::{Config, Environment, Origin};
use crate::telemetry::Log;
use crate::wiring;

#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(super) recorder: RecorderArgs,
    /// Do not offer the MCP relay to the command (it is offered to `claude` when there is an mcpServers file for it)
    #[arg(long)]
    no_mcp: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

pub(super) async fn run(args: RunArgs, mut config: Config, env: &Environment, log: &Log) -> anyhow::Result<ExitCode> {
    let (program, arguments) = args.command.split_first().ok_or_else(|| anyhow::anyhow!("no COMMAND"))?;
    if let Err(missing) = child::locate(program, env) {
        eprintln!("iccm: {missing}");
        return Ok(ExitCode::from(missing.exit_code()));
    }
    let plan = Plan::make(&mut config, env, program)?;
    plan.notes.iter().for_each(|note| eprintln!("iccm: {note}"));
    let stored_before = tokio::spawn(summary::stored_bytes_of(config.clone()));
    let addresses = wiring::Addresses { gateway: listen_address(&config)?, spy: Some(spy_address(&config)?) };
    let running = wiring::start(&config, addresses).await?;
    if std::io::stderr().is_terminal() {
        log.hold();
    }
    let arguments = if args.no_mcp { arguments.to_vec() } else { mcp::with_relay(program, arguments, env) };
    let variables = plan.variables(running.address(), running.spy_address(), env);
    let variables = variables.into_iter().map(|(name, value)| (name, value.into()));
    let variables: Vec<(String, OsString)> = variables.chain(environment::record(&config)).collect();
    let result = child::run(program, &arguments, &variables).await;
    let (address, recorder) = (running.address(), running.recorder_id());
    let stopped = tokio::select! {
        stopped = running.stop() => stopped,
        asked = child::impatience() => {
            asked?;
            log.release();
            eprintln!("iccm: ended at once; what is not stored yet is in the spool, and the next start stores it");
            return result.map(ExitCode::from);
        }
    };
    log.release();
    let code = result?;
    let summary = Summary::of(recorder, &stopped, stored_before.await.unwrap_or_default()).await;
    eprintln!("iccm: {}", summary.line(address));
    Ok(ExitCode::from(code))
}

/// The same for the spy.
fn spy_address(config: &Config) -> anyhow::Result<SocketAddr> {
    match config.servers.spy_listen.origin {
        Origin::Flag => config.checked_spy_listen().map_err(anyhow::Error::msg),
        _ => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
    }
}

/// A free loopback port, unless the command line asks for one: the configured one is for `iccm up`.
fn listen_address(config: &Config) -> anyhow::Result<SocketAddr> {
    match config.gateway_listen.origin {
        Origin::Flag => config.checked_listen().map_err(anyhow::Error::msg),
        _ => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
    }
}
