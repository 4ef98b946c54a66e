//! `iccm claudette`: contained agents on one record, for people who do not want to know about compose.
//!
//! Everything is done by `docker compose` with the files of `claudette/`, which the executable carries; each command is printed
//! before it runs, and can be run by hand. What `docker kill` ended, which Docker itself leaves so, `run` and `exec` bring back: all of
//! it before they begin, the recorder also while they are at work. The recorder is one project of compose, each agent another one on its network.
//! Nothing secret is ever printed: keys reach compose in the environment or as a file's name.

mod compose;
mod files;
mod keeping;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use self::compose::Compose;
use crate::config::{Config, Environment};

/// What all containers carry; its value is the agent's name.
const LABEL: &str = "iccm.claudette";
/// The value of the recorder's own containers.
const RECORDER_NAME: &str = "recorder";
/// The file of the upstream's credential, as the compose file calls it.
const KEY_FILE: &str = "CLAUDETTE_KEY_FILE";
/// How subscriptions' tokens begin (`claude setup-token`).
const TOKEN: &str = "sk-ant-oat";

#[derive(Args)]
pub(crate) struct ClaudetteArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start the recorder, and a contained agent beside it that waits for `exec`
    Up(AgentArgs),
    /// Run Claude Code in a container that goes when it ends
    Run {
        #[command(flatten)]
        agent: AgentArgs,
        /// Claude Code's arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    /// Run a command in the container that `up` started
    Exec {
        #[command(flatten)]
        agent: AgentArgs,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Remove an agent's container; record, workspace and Claude's own state stay
    Down {
        #[command(flatten)]
        agent: AgentArgs,
        /// All agents, and the recorder
        #[arg(long)]
        all: bool,
    },
    /// List the containers
    Status,
}

#[derive(Args)]
struct AgentArgs {
    /// The folder to work in
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// The agent's name; its conversations are found by `project:NAME` [default: the folder's name]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
    /// Keep the record in SQLite instead of PostgreSQL
    #[arg(long)]
    sqlite: bool,
    /// File with the API key or the subscription's token, which then only the recorder holds [env: CLAUDETTE_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// An agent, as the compose files need it.
#[derive(Debug)]
struct Agent {
    name: String,
    project: PathBuf,
    /// Whoever owns the project, so that the agent can write there and its files are the owner's.
    owner: (u32, u32),
    sqlite: bool,
    credential: Option<Credential>,
}

/// What only the recorder holds.
#[derive(Debug)]
struct Credential {
    file: PathBuf,
    /// A subscription's token, which Claude Code sends in another header than a key.
    is_token: bool,
}

impl Credential {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read the key's file {}", path.display());
        let text = std::fs::read_to_string(path).with_context(cannot)?;
        Ok(Self { file: path.canonicalize().with_context(cannot)?, is_token: text.trim_start().starts_with(TOKEN) })
    }
}

pub(super) async fn run(args: ClaudetteArgs, config: &Config, env: &Environment) -> anyhow::Result<ExitCode> {
    let folder = config.data_dir.value.join("claudette");
    let compose = Compose::find(env)?;
    let compose_files = files::Files::write(&folder)?;
    let terminal: &[&str] =
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() { &[] } else { &["-T"] };
    match args.action {
        Action::Up(args) => {
            let agent = Agent::of(args, env)?;
            compose.start_recorder(&agent, &compose_files).await?;
            compose.agent(&agent, &compose_files, &["up", "--detach", "--no-build"], &[]).await?;
            eprintln!(
                "iccm: {} works in {}; next: iccm claudette exec --project {} --name {0} claude",
                agent.name,
                agent.project.display(),
                agent.project.display()
            );
            Ok(ExitCode::SUCCESS)
        }
        Action::Run { agent, arguments } => {
            let agent = Agent::of(agent, env)?;
            compose.start_recorder(&agent, &compose_files).await?;
            let words = [&["run", "--rm"], terminal, &["claudette", "claude"]].concat();
            compose.at_work(&agent, &compose_files, &words, &arguments).await
        }
        Action::Exec { agent, command } => {
            let agent = Agent::of(agent, env)?;
            compose.revive(&agent, &compose_files).await?;
            let words = [&["exec"], terminal, &["claudette"]].concat();
            compose.at_work(&agent, &compose_files, &words, &command).await
        }
        Action::Down { agent, all: false } => {
            let agent = Agent::of(agent, env)?;
            compose.agent(&agent, &compose_files, &["down"], &[]).await?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Down { agent, all: true } => {
            let agent = Agent::of(agent, env)?;
            compose.stop_all(&agent, &compose_files).await?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Status => compose.status().await,
    }
}

impl Agent {
    fn of(args: AgentArgs, env: &Environment) -> anyhow::Result<Self> {
        let project = args.project.canonicalize().with_context(|| {
            format!("there is no folder {}; name the one to work in with --project", args.project.display())
        })?;
        let name = match args.name {
            Some(name) => name,
            None => name_of(&project)?,
        };
        let key_file = args.key_file.or_else(|| env.path(KEY_FILE).map(Path::to_owned));
        let credential = key_file.as_deref().map(Credential::of).transpose()?;
        Ok(Self { name, owner: owner_of(&project)?, project, sqlite: args.sqlite, credential })
    }
}

/// The owner and the group of a folder. Containers do not run as root: root's folders are given to the images' own user.
fn owner_of(folder: &Path) -> anyhow::Result<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(if metadata.uid() == 0 { (1000, 1000) } else { (metadata.uid(), metadata.gid()) })
}

/// A name from a folder's name.
fn name_of(project: &Path) -> anyhow::Result<String> {
    let folder = project.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String = folder.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    match parse_name(name.trim_matches('-')) {
        Ok(name) => Ok(name),
        Err(_) => bail!("{} gives no name; choose one with --name", project.display()),
    }
}

/// What compose and Docker take as part of a name.
fn parse_name(text: &str) -> Result<String, String> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_plain = text.bytes().all(|byte| is_letter(byte) || byte == b'-' || byte == b'_');
    if text.bytes().next().is_some_and(is_letter) && is_plain && text.len() <= 40 && text != RECORDER_NAME {
        return Ok(text.to_owned());
    }
    Err("must be small letters, digits, `-` and `_`, begin with a letter or digit, be at most 40 long and not `recorder`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_compose_takes() {
        for good in ["a", "app-2", "0x_y"] {
            assert_eq!(parse_name(good), Ok(good.to_owned()));
        }
        for bad in ["", "recorder", "-a", "A", "a b", "a/b", "ä", &"x".repeat(41)] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_gives_its_name() {
        assert_eq!(name_of(Path::new("/home/me/My App.d")).unwrap(), "my-app-d");
        assert!(name_of(Path::new("/")).is_err());
        assert!(name_of(Path::new("/home/me/…")).is_err());
    }
}
