//! `iccm fiedler set-key`: a key that no command line and no tool call has in it.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::with_orchestra;
use crate::config::Config;

#[derive(Args)]
pub(super) struct SetKeyArgs {
    /// Whose key it is: google, openai, together, xai, anthropic, or another provider of models.toml
    provider: String,
}

pub(super) async fn run(args: SetKeyArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if io::stdin().is_terminal() {
        eprintln!("Paste the key, then press Enter:");
    }
    let mut key = String::new();
    io::stdin().read_line(&mut key).context("cannot read the key from standard input")?;
    let kept = with_orchestra(config, async |fiedler| Ok(fiedler.set_key(&args.provider, &key).await?)).await;
    let (provider, kept_in) = kept?;
    writeln!(io::stdout(), "the key of {provider} is kept in: {kept_in}")?;
    Ok(ExitCode::SUCCESS)
}
