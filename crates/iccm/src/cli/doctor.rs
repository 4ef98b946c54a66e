//! `iccm doctor`: is everything in order, and if not, what to do.
//!
//! Each check is a function that gives findings and changes nothing (the data folder is not even created). A broken thing
//! makes the exit code 1; a warning does not.

mod client;
mod network;
mod place;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{DeweyArgs, RecorderArgs};
use crate::config::{Config, ConfigError, Environment, unknown_variables};
use crate::render::json_line;
use crate::render::safe::one_line;
use crate::render::screen::{self, Screen};

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(super) recorder: RecorderArgs,
    #[command(flatten)]
    pub(super) dewey: DeweyArgs,
    /// JSON Lines, one a finding
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Good,
    Warning,
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    /// What was found.
    found: String,
    /// What to do about it; empty if nothing.
    advice: String,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Good, found: found.into(), advice: String::new() }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, found: found.into(), advice: advice.into() }
    }

    fn broken(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Broken, found: found.into(), advice: advice.into() }
    }
}

pub(super) async fn run(
    args: DoctorArgs,
    config: Result<Config, ConfigError>,
    env: &Environment,
) -> anyhow::Result<ExitCode> {
    let mut findings = configuration(&config, env);
    if let Ok(config) = &config {
        findings.extend(place::check(config).await);
        findings.extend(network::check(config).await);
        findings.extend(client::check(config, env).await);
    }
    let mut out = screen::stdout();
    if args.json {
        findings.iter().try_for_each(|finding| json_line(&mut out, finding))?;
    } else {
        let screen = Screen::of_stdout(env);
        findings.iter().try_for_each(|finding| write_finding(finding, screen, &mut out))?;
    }
    out.flush()?;
    Ok(exit_code(&findings))
}

fn exit_code(findings: &[Finding]) -> ExitCode {
    if findings.iter().any(|finding| finding.level == Level::Broken) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn configuration(config: &Result<Config, ConfigError>, env: &Environment) -> Vec<Finding> {
    const CHECK: &str = "configuration";
    let mut findings = match config {
        Err(error) => vec![Finding::broken(CHECK, error.to_string(), "correct it; nothing else was checked")],
        Ok(Config { file: Some(path), .. }) => vec![Finding::good(CHECK, format!("read from {}", path.display()))],
        Ok(_) => vec![Finding::good(CHECK, "no iccm.toml; defaults, environment and flags hold")],
    };
    for (name, nearest) in unknown_variables(env) {
        let advice = format!("unset it; did you mean {nearest}?");
        findings.push(Finding::warning(CHECK, format!("environment variable {name} means nothing"), advice));
    }
    findings
}

fn write_finding(finding: &Finding, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let mark = match finding.level {
        Level::Good => screen.green("✓"),
        Level::Warning => screen.yellow("!"),
        Level::Broken => screen.red("✗"),
    };
    writeln!(out, "{mark} {:<13} {}", finding.check, one_line(&finding.found))?;
    if !finding.advice.is_empty() {
        writeln!(out, "{:<16}{}", "", screen.dim(&format!("→ {}", one_line(&finding.advice))))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_line_up_and_say_what_to_do() {
        let mut out = Vec::new();
        write_finding(&Finding::good("database", "opens"), Screen::default(), &mut out).unwrap();
        write_finding(&Finding::broken("gateway", "taken", "stop it"), Screen::default(), &mut out).unwrap();
        let expected = "✓ database      opens\n✗ gateway       taken\n                → stop it\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_configuration_that_does_not_load_is_a_finding() {
        let findings = configuration(&Err(ConfigError::NoDataFolder), &Environment::default());
        assert_eq!(findings[0].level, Level::Broken);
        assert_eq!(findings.len(), 1);
    }
}
