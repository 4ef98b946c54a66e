//! The command line: what can be said on it. Each command is a file of its own.

mod claudette;
mod conversations;
mod delete;
mod dewey;
mod doctor;
mod exchange;
mod exchanges;
mod fiedler;
mod frames;
mod migrate_store;
mod reading;
mod ready;
mod relay;
mod run;
mod search;
mod show;
mod stats;
mod tail;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use url::Url;

use crate::config::{self, Config, ConfigError, Durability, Environment, Flags, Listen, WhenSpoolFull};
use crate::telemetry::Log;
use up::Parts;

/// A flight recorder for AI agents: records what an agent and its model API say to each other, byte for byte, and
/// makes the record useful.
#[derive(Parser)]
#[command(name = "iccm", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the record is; on every command.
#[derive(Args)]
struct PlaceArgs {
    /// Folder of the record, the spool and the keys [env: ICCM_DATA_DIR] [default: the user's data folder + /iccm]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// `sqlite:` (inside the data folder), `sqlite:PATH` or `postgres://…` [env: ICCM_DATABASE_URL] [default: sqlite:]
    #[arg(long, global = true, value_name = "URL")]
    database: Option<String>,
    /// Configuration file [env: ICCM_CONFIG] [default: ./iccm.toml, else iccm/iccm.toml in the user's config folder]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How recording goes; on the commands that record.
#[derive(Args, Clone, Default)]
pub(crate) struct RecorderArgs {
    /// Where requests go that name no provider [env: ICCM_UPSTREAM] [default: Anthropic's API; in `iccm run` an
    /// ANTHROPIC_BASE_URL that is already set]
    #[arg(long, value_name = "URL", value_parser = config::parse_upstream)]
    upstream: Option<Url>,
    /// Where the HTTP gateway listens [env: ICCM_GATEWAY_LISTEN] [default: 127.0.0.1:8089; in `iccm run` any free port]
    #[arg(long, value_name = "ADDR", value_parser = config::parse_listen)]
    gateway_listen: Option<Listen>,
    /// Where the spy in front of MCP servers listens [env: ICCM_SPY_LISTEN] [default: 127.0.0.1:9000; in `iccm run` any free
    /// port]
    #[arg(long, value_name = "ADDR", value_parser = config::parse_listen)]
    spy_listen: Option<Listen>,
    /// `process`: what anybody saw survives kill -9; `power`: it survives a loss of power [env: ICCM_DURABILITY] [default:
    /// process]
    #[arg(long, value_name = "LEVEL", value_parser = config::parse_durability)]
    durability: Option<Durability>,
    /// What happens to traffic that the spool cannot take: `pass-unrecorded` or `refuse` [env: ICCM_WHEN_SPOOL_FULL]
    /// [default: pass-unrecorded]
    #[arg(long, value_name = "POLICY", value_parser = config::parse_when_spool_full)]
    when_spool_full: Option<WhenSpoolFull>,
    /// Allow listening on an address that other machines can reach: there is no authentication yet [env:
    /// ICCM_ALLOW_REMOTE]
    #[arg(long)]
    allow_remote: bool,
}

/// Where Dewey is; on the commands that run it.
#[derive(Args, Clone, Default)]
pub(crate) struct DeweyArgs {
    /// Where Dewey, the MCP server, listens [env: ICCM_DEWEY_LISTEN] [default: 127.0.0.1:9020]
    #[arg(long, value_name = "ADDR", value_parser = config::parse_listen)]
    dewey_listen: Option<Listen>,
}

/// Where Fiedler is; on the commands that run it.
#[derive(Args, Clone, Default)]
pub(crate) struct FiedlerArgs {
    /// Where Fiedler, which asks many models at once, listens [env: ICCM_FIEDLER_LISTEN] [default: 127.0.0.1:9010]
    #[arg(long, value_name = "ADDR", value_parser = config::parse_listen)]
    fiedler_listen: Option<Listen>,
}

/// Everything that `iccm` can be told to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the recorder: print its addresses and how to point a client at it, until SIGTERM or SIGINT
    Up(up::UpArgs),
    /// Run the recording gateway alone
    Kgb(up::UpArgs),
    /// Run Dewey alone: conversations and startup contexts as an MCP server
    Dewey(dewey::DeweyCommandArgs),
    /// Ask many models at once; without a command run Fiedler alone, as an MCP server
    Fiedler(fiedler::FiedlerCommandArgs),
    /// Run COMMAND with everything that it says to model APIs on record
    Run(run::RunArgs),
    /// Join many MCP servers into one, on standard input and output; --config names the mcpServers file [env:
    /// ICCM_RELAY_CONFIG] [default: iccm/relay.json in the user's config folder]
    Relay(relay::RelayArgs),
    /// Claude Code in containers that reach nothing but the recorder; prints the commands that it runs
    Claudette(claudette::ClaudetteArgs),
    /// List the conversations, newest first
    Conversations(conversations::ConversationsArgs),
    /// Print one conversation, all turns
    Show(show::ShowArgs),
    /// List the HTTP exchanges, oldest first
    Exchanges(exchanges::ExchangesArgs),
    /// Write the exact bytes of a part of an exchange to standard output
    Exchange(exchange::ExchangeArgs),
    /// List the messages between agents and MCP servers, oldest first
    Frames(frames::FramesArgs),
    /// Write the exact bytes of such a message to standard output
    Frame(frames::FrameArgs),
    /// Search all messages, best matches first, each distinct message once
    Search(search::SearchArgs),
    /// Follow the record: a line per exchange and message as they are recorded
    Tail(tail::TailArgs),
    /// Count what is on record
    Stats(stats::StatsArgs),
    /// Check configuration, ports, database, disk, upstream and client; say what to do
    Doctor(doctor::DoctorArgs),
    /// Exit with 0 if a gateway records, and say why if it does not
    Ready(ready::ReadyArgs),
    /// Erase a conversation's content
    Delete(delete::DeleteArgs),
    /// Move the record from one database to another, SQLite or PostgreSQL, and compare both
    MigrateStore(migrate_store::MigrateStoreArgs),
}

impl Cli {
    /// What the command line says about the configuration.
    pub(crate) fn flags(&self) -> Flags {
        let recorder = match &self.command {
            Command::Up(args) | Command::Kgb(args) => args.recorder.clone(),
            Command::Run(args) => args.recorder.clone(),
            Command::Doctor(args) => args.recorder.clone(),
            Command::Fiedler(args) => args.recorder.clone(),
            Command::Dewey(args) => RecorderArgs { allow_remote: args.allow_remote, ..RecorderArgs::default() },
            _ => RecorderArgs::default(),
        };
        // The relay's `--config` is another file.
        let config = self.place.config.clone().filter(|_| !matches!(self.command, Command::Relay(_)));
        let dewey = match &self.command {
            Command::Up(args) | Command::Kgb(args) => args.dewey.clone(),
            Command::Dewey(args) => args.dewey.clone(),
            Command::Doctor(args) => args.dewey.clone(),
            _ => DeweyArgs::default(),
        };
        let fiedler_listen = match &self.command {
            Command::Up(args) | Command::Kgb(args) => args.fiedler.fiedler_listen,
            Command::Fiedler(args) => args.fiedler.fiedler_listen,
            _ => None,
        };
        Flags {
            config,
            data_dir: self.place.data_dir.clone(),
            database: self.place.database.clone(),
            upstream: recorder.upstream,
            gateway_listen: recorder.gateway_listen,
            dewey_listen: dewey.dewey_listen,
            spy_listen: recorder.spy_listen,
            fiedler_listen,
            durability: recorder.durability,
            when_spool_full: recorder.when_spool_full,
            allow_remote: recorder.allow_remote,
        }
    }
}

impl Cli {
    /// The command, with everything that concerns it.
    pub(crate) fn into_command(self) -> Command {
        match self.command {
            Command::Relay(args) => Command::Relay(relay::RelayArgs { config: self.place.config, ..args }),
            other => other,
        }
    }
}

impl Command {
    /// What is logged where the environment does not say: servers tell what they do, other commands only what is wrong.
    pub(crate) fn default_log_level(&self) -> &'static str {
        match self {
            Command::Up(_) | Command::Kgb(_) | Command::Dewey(_) | Command::Relay(_) => "info",
            Command::Fiedler(args) if args.is_server() => "info",
            _ => "warn",
        }
    }

    /// Does it. Only the doctor goes on with a configuration that did not load: telling what is wrong with it is its job.
    pub(crate) async fn run(
        self,
        config: Result<Config, ConfigError>,
        env: Environment,
        log: Log,
    ) -> anyhow::Result<ExitCode> {
        let config = match self {
            Command::Doctor(args) => return doctor::run(args, config, &env).await,
            Command::Relay(args) => return relay::run(args, config, &env).await,
            _ => config?,
        };
        match self {
            Command::Up(args) => up::run(args, &config, Parts::All).await,
            Command::Kgb(args) => up::run(args, &config, Parts::Kgb).await,
            Command::Dewey(args) => dewey::run(args, &config).await,
            Command::Fiedler(args) => fiedler::run(args, &config).await,
            Command::Run(args) => run::run(args, config, &env, &log).await,
            Command::Claudette(args) => claudette::run(args, &config, &env).await,
            Command::Conversations(args) => conversations::run(args, &config, &env).await,
            Command::Show(args) => show::run(args, &config, &env).await,
            Command::Exchanges(args) => exchanges::run(args, &config, &env).await,
            Command::Exchange(args) => exchange::run(args, &config).await,
            Command::Frames(args) => frames::list(args, &config, &env).await,
            Command::Frame(args) => frames::one(args, &config).await,
            Command::Search(args) => search::run(args, &config, &env).await,
            Command::Tail(args) => tail::run(args, &config, &env).await,
            Command::Stats(args) => stats::run(args, &config).await,
            Command::Delete(args) => delete::run(args, &config).await,
            Command::MigrateStore(args) => migrate_store::run(args, &config).await,
            Command::Ready(args) => ready::run(args, &config).await,
            Command::Doctor(_) | Command::Relay(_) => Ok(ExitCode::SUCCESS),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_command_of_run_is_the_commands_own() {
        let cli =
            Cli::try_parse_from(["iccm", "run", "--durability", "power", "claude", "--data-dir", "x", "-p"]).unwrap();
        assert_eq!(cli.flags().durability, Some(Durability::Power));
        assert_eq!(cli.flags().data_dir, None);
        let Command::Run(args) = cli.command else { unreachable!() };
        assert_eq!(args.command, ["claude", "--data-dir", "x", "-p"]);
    }

    #[test]
    fn the_place_may_be_named_before_and_after_the_command() {
        for words in [["iccm", "--data-dir", "d", "stats"], ["iccm", "stats", "--data-dir", "d"]] {
            assert_eq!(Cli::try_parse_from(words).unwrap().flags().data_dir, Some("d".into()));
        }
    }
}
