//! The `iccm` executable: reads the command line and the configuration, and hands over to the command.
//!
//! Exit codes: 0 success; 1 a failure, explained in one line on standard error; 2 wrong usage. `iccm run` exits with its
//! command's.

mod cli;
mod config;
mod render;
mod shutdown;
mod telemetry;
mod wiring;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use cli::Cli;
use config::{Config, Environment};

fn main() -> ExitCode {
    if let Some(code) = relay::guard::run_if_asked() {
        return code;
    }
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) if render::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("iccm: {}", render::safe::one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let env = Environment::of_process();
    let log = telemetry::init(&env, cli.command.default_log_level())?;
    install_crypto()?;
    let loaded = Config::load(cli.flags(), &env);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = runtime.block_on(cli.into_command().run(loaded, env, log));
    // A task that still waits (a name being looked up, say) must not hold up the exit.
    runtime.shutdown_background();
    result
}

/// The process's one choice of cryptography; every TLS connection uses it.
fn install_crypto() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("cryptography was set up twice; this is a defect of iccm"))
}
