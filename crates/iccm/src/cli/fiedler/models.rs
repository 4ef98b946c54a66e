//! `iccm fiedler models`.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use fiedler::ModelInfo;

use super::with_orchestra;
use crate::config::Config;
use crate::render::json_line;
use crate::render::safe::one_line;
use crate::render::screen::{self, Screen};
use crate::render::table::{Align, Table};

#[derive(Args)]
pub(super) struct ModelsArgs {
    /// One JSON line per model
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ModelsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (models, problem) = with_orchestra(config, async |fiedler| Ok(fiedler.list_models().await?)).await?;
    if let Some(problem) = problem {
        tracing::warn!("{problem}");
    }
    let mut out = screen::stdout();
    if args.json {
        models.iter().try_for_each(|model| json_line(&mut out, model))?;
    } else {
        table(&models).write(Screen::of_stdout(config.environment()), &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn table(models: &[ModelInfo]) -> Table {
    let mut table = Table::new(&[
        ("MODEL", Align::Left),
        ("PROVIDER", Align::Left),
        ("CONTEXT", Align::Right),
        ("OUTPUT", Align::Right),
        ("ASKED", Align::Left),
        ("KEY", Align::Left),
        ("ALIASES", Align::Left),
    ]);
    for model in models {
        table.row(vec![
            one_line(&model.id),
            model.provider.clone(),
            model.context_window.to_string(),
            model.max_output.to_string(),
            if model.is_default { "yes" } else { "" }.to_owned(),
            model.key.clone().unwrap_or_else(|| "none".to_owned()),
            one_line(&model.aliases.join(", ")),
        ]);
    }
    table
}
