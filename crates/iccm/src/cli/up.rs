//! `iccm up` and `iccm kgb`: the recorder as a service.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::{DeweyArgs, FiedlerArgs, RecorderArgs};
use crate::config::{Config, Listen, Origin, parse_listen};
use crate::render::json_line;
use crate::wiring::dewey::DeweyServer;
use crate::wiring::fiedler::FiedlerServer;
use crate::wiring::{self, Running};
use crate::{render, shutdown};

/// How long the database may take to open before that is worth a warning, and no reason to wait.
pub(super) const DATABASE_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(super) recorder: RecorderArgs,
    #[command(flatten)]
    pub(super) dewey: DeweyArgs,
    #[command(flatten)]
    pub(super) fiedler: FiedlerArgs,
    #[command(flatten)]
    later: LaterArgs,
    /// One JSON line when ready
    #[arg(long)]
    json: bool,
}

/// Addresses of parts that this version does not have. Scripts that name them work with every version; what is not there
/// is said, not pretended.
#[derive(Args)]
struct LaterArgs {
    #[arg(long, hide = true, value_name = "ADDR", value_parser = parse_listen)]
    web_listen: Option<Listen>,
}

impl LaterArgs {
    fn say_what_is_missing(&self) {
        if self.web_listen.is_some() {
            tracing::warn!("--web-listen has no effect: this version has no web yet");
        }
    }
}

/// What `--json` prints when clients may come.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    gateway: String,
    /// Where Dewey is reached over HTTP; absent where it does not run.
    dewey: Option<String>,
    /// Where Fiedler is reached over HTTP; absent where it does not run.
    fiedler: Option<String>,
    /// Absent if the spy's usual address was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    spy: Option<String>,
    data_dir: &'a str,
    recorder: Uuid,
}

/// What is to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    All,
    /// The recorder alone.
    Kgb,
}

pub(super) async fn run(args: UpArgs, config: &Config, parts: Parts) -> anyhow::Result<ExitCode> {
    args.later.say_what_is_missing();
    let listen = config.checked_listen().map_err(anyhow::Error::msg)?;
    // Before the gateway serves: a signal that comes early must find someone who listens.
    let (ended, mut hangup) = (shutdown::on_signal()?, shutdown::on_hangup()?);
    let spy = Some(config.checked_spy_listen().map_err(anyhow::Error::msg)?);
    let running = wiring::start(config, wiring::Addresses { gateway: listen, spy }).await?;
    // At once: who finds the gateway takes the spy's servers for there, too, and a relay may ask for their tools only once.
    let servers = match Servers::start(config, parts, &running).await {
        Ok(servers) => servers,
        Err(error) => {
            running.stop().await;
            return Err(error);
        }
    };
    if let Err(error) = running.reload(&servers.seen_in(config.clone())) {
        tracing::warn!("the spy may not find our servers: {error}");
    }
    // All serve already; a moment's wait lets whoever reads "ready" also read the record at once.
    if let Err(why) = running.database_opens_within(DATABASE_PATIENCE).await {
        tracing::warn!("the database is not open; recording goes on into the spool and is stored when it is: {why}");
    }
    announce(&running, &servers, config, args.json)?;
    // Where there was a terminal, SIGHUP says that it is gone, and nobody is left to end us in another way.
    let has_terminal = io::stdin().is_terminal();
    while let Some(Some(())) = ended.run_until_cancelled(hangup.recv()).await {
        if has_terminal {
            break;
        }
        reload(&running, &servers, config);
    }
    tracing::info!("stopping: running exchanges may end, then the rest is stored");
    servers.stop().await;
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Our MCP servers beside the recorder.
struct Servers {
    dewey: Option<DeweyServer>,
    fiedler: Option<FiedlerServer>,
}

impl Servers {
    async fn start(config: &Config, parts: Parts, running: &Running) -> anyhow::Result<Self> {
        let dewey = start_dewey(config, parts, running).await?;
        match start_fiedler(config, parts, running).await {
            Ok(fiedler) => Ok(Self { dewey, fiedler }),
            Err(error) => {
                Self { dewey, fiedler: None }.stop().await;
                Err(error)
            }
        }
    }

    /// The configuration with the addresses where they listen indeed.
    fn seen_in(&self, config: Config) -> Config {
        let dewey = self.dewey.as_ref().map(DeweyServer::address);
        config.with_servers_at(dewey, self.fiedler.as_ref().map(FiedlerServer::address))
    }

    /// Before the recorder stops: Fiedler's requests go through it.
    async fn stop(self) {
        let stop_dewey = async {
            if let Some(dewey) = self.dewey {
                dewey.stop().await;
            }
        };
        let stop_fiedler = async {
            if let Some(fiedler) = self.fiedler {
                fiedler.stop().await;
            }
        };
        tokio::join!(stop_dewey, stop_fiedler);
    }
}

/// Dewey beside the recorder. Recording must not fail because of it: where nobody asked for its address, a taken one is a
/// warning.
async fn start_dewey(config: &Config, parts: Parts, running: &Running) -> anyhow::Result<Option<DeweyServer>> {
    if parts == Parts::Kgb {
        return Ok(None);
    }
    match DeweyServer::start(config, running.store()).await {
        Ok(dewey) => Ok(Some(dewey)),
        Err(error) if config.dewey_listen.origin == Origin::Default => {
            tracing::warn!("Dewey does not run, recording does: {error:#}; --dewey-listen gives it another address");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Fiedler beside the recorder, in the same way.
async fn start_fiedler(config: &Config, parts: Parts, running: &Running) -> anyhow::Result<Option<FiedlerServer>> {
    if parts == Parts::Kgb {
        return Ok(None);
    }
    match FiedlerServer::start(config, running).await {
        Ok(fiedler) => Ok(Some(fiedler)),
        Err(error) if !config.is_fiedler_listen_chosen() => {
            tracing::warn!(
                "Fiedler does not run, recording does: {error:#}; --fiedler-listen gives it another address"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A configuration that is wrong changes nothing: a running recorder must not be lost to a typing error.
fn reload(running: &Running, servers: &Servers, config: &Config) {
    let (new, needs_restart) = match config.reload() {
        Ok(reloaded) => reloaded,
        Err(error) => return tracing::error!("the configuration stays what it was: {error}"),
    };
    if let Err(error) = running.reload(&servers.seen_in(new.clone())) {
        return tracing::error!("the configuration stays what it was: {error}");
    }
    if !needs_restart.is_empty() {
        tracing::warn!("these keys need a restart to take effect: {}", needs_restart.join(", "));
    }
    tracing::info!(upstream = %new.upstream.value, "the configuration was read again");
}

/// Says that clients may come. Standard output may be closed (a service manager's): recording does not depend on it.
fn announce(running: &Running, servers: &Servers, config: &Config, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let said = if json {
        let ready = Ready {
            event: "ready",
            gateway: format!("http://{}", running.address()),
            dewey: servers.dewey.as_ref().map(DeweyServer::url),
            fiedler: servers.fiedler.as_ref().map(FiedlerServer::url),
            spy: running.spy_address().map(|address| format!("ws://{address}")),
            data_dir: &config.data_dir.value.to_string_lossy(),
            recorder: running.recorder_id(),
        };
        json_line(&mut out, &ready)
    } else {
        out.write_all(greeting(running, servers, config).as_bytes()).map_err(anyhow::Error::from)
    };
    match said.and_then(|()| out.flush().map_err(anyhow::Error::from)) {
        Err(error) if !render::is_broken_pipe(&error) => Err(error),
        _ => Ok(()),
    }
}

fn greeting(running: &Running, servers: &Servers, config: &Config) -> String {
    let address = running.address();
    let dewey = servers.dewey.as_ref().map(|dewey| format!("  dewey      {}\n", dewey.url())).unwrap_or_default();
    let fiedler =
        servers.fiedler.as_ref().map(|fiedler| format!("  fiedler    {}\n", fiedler.url())).unwrap_or_default();
    let spy = match running.spy_address() {
        Some(spy) => format!("ws://{spy}?upstream=NAME, http://{spy}/mcp/NAME"),
        None => "not listening: its address is taken".to_owned(),
    };
    format!(
        "iccm is recording.\n\n  gateway    http://{address} -> {}\n  providers  {}\n  spy        {spy}\n  servers    {}\n\
         {dewey}{fiedler}  record     {}\n\n\
         Point a client at it:\n\n  ANTHROPIC_BASE_URL=http://{address} claude\n\nCtrl-C ends it.\n",
        config.upstream.value.as_str().trim_end_matches('/'),
        config.providers.keys().map(|name| format!("/{name}")).collect::<Vec<_>>().join(" "),
        config.allowed_servers().into_keys().collect::<Vec<_>>().join(" "),
        config.data_dir.value.display(),
    )
}
