//! `iccm up` and `iccm kgb`: the recorder as a service.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::{DeweyArgs, RecorderArgs};
use crate::config::{Config, Listen, Origin, parse_listen};
use crate::render::json_line;
use crate::wiring::dewey::DeweyServer;
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
    later: LaterArgs,
    /// One JSON line when ready
    #[arg(long)]
    json: bool,
}

impl UpArgs {
    /// Where Fiedler is.
    pub(super) fn fiedler(&self) -> Option<Listen> {
        self.later.fiedler_listen
    }
}

/// Addresses of parts that this version does not have. Scripts that name them work with every version; what is not there
/// is said, not pretended.
#[derive(Args)]
struct LaterArgs {
    #[arg(long, hide = true, value_name = "ADDR", value_parser = parse_listen)]
    #[arg(long, hide = true, value_name = "ADDR", value_parser = parse_listen)]
    fiedler_listen: Option<Listen>,
    #[arg(long, hide = true, value_name = "ADDR", value_parser = parse_listen)]
    web_listen: Option<Listen>,
}

impl LaterArgs {
    fn say_what_is_missing(&self) {
        let parts = [("fiedler", &self.fiedler_listen), ("web", &self.web_listen)];
        for (part, listen) in parts {
            if listen.is_some() {
                tracing::warn!("--{part}-listen has no effect: this version has no {part} yet");
            }
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
    // The gateway serves already; a moment's wait lets whoever reads "ready" also read the record at once.
    if let Err(why) = running.database_opens_within(DATABASE_PATIENCE).await {
        tracing::warn!("the database is not open; recording goes on into the spool and is stored when it is: {why}");
    }
    let dewey = match start_dewey(config, parts, &running).await {
        Ok(dewey) => dewey,
        Err(error) => {
            running.stop().await;
            return Err(error);
        }
    };
    if let Some(dewey) = &dewey {
        running.reload(&knowing(config, dewey))?;
    }
    announce(&running, dewey.as_ref(), config, args.json)?;
    // Where there was a terminal, SIGHUP says that it is gone, and nobody is left to end us in another way.
    let has_terminal = io::stdin().is_terminal();
    while let Some(Some(())) = ended.run_until_cancelled(hangup.recv()).await {
        if has_terminal {
            break;
        }
        reload(&running, config, dewey.as_ref());
    }
    tracing::info!("stopping: running exchanges may end, then the rest is stored");
    let stop_dewey = async {
        if let Some(dewey) = dewey {
            dewey.stop().await;
        }
    };
    tokio::join!(stop_dewey, running.stop());
    Ok(ExitCode::SUCCESS)
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

/// The configuration with the address that Dewey really has, which the spy connects with: it may have been any free port.
fn knowing(config: &Config, dewey: &DeweyServer) -> Config {
    let mut config = config.clone();
    config.dewey_listen.value = Listen(dewey.address());
    config
}

/// A configuration that is wrong changes nothing: a running recorder must not be lost to a typing error.
fn reload(running: &Running, config: &Config, dewey: Option<&DeweyServer>) {
    let (new, needs_restart) = match config.reload() {
        Ok(reloaded) => reloaded,
        Err(error) => return tracing::error!("the configuration stays what it was: {error}"),
    };
    let new = dewey.map_or_else(|| new.clone(), |dewey| knowing(&new, dewey));
    if let Err(error) = running.reload(&new) {
        return tracing::error!("the configuration stays what it was: {error}");
    }
    if !needs_restart.is_empty() {
        tracing::warn!("these keys need a restart to take effect: {}", needs_restart.join(", "));
    }
    tracing::info!(upstream = %new.upstream.value, "the configuration was read again");
}

/// Says that clients may come. Standard output may be closed (a service manager's): recording does not depend on it.
fn announce(running: &Running, dewey: Option<&DeweyServer>, config: &Config, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let said = if json {
        let ready = Ready {
            event: "ready",
            gateway: format!("http://{}", running.address()),
            dewey: dewey.map(DeweyServer::url),
            spy: running.spy_address().map(|address| format!("ws://{address}")),
            data_dir: &config.data_dir.value.to_string_lossy(),
            recorder: running.recorder_id(),
        };
        json_line(&mut out, &ready)
    } else {
        out.write_all(greeting(running, dewey, config).as_bytes()).map_err(anyhow::Error::from)
    };
    match said.and_then(|()| out.flush().map_err(anyhow::Error::from)) {
        Err(error) if !render::is_broken_pipe(&error) => Err(error),
        _ => Ok(()),
    }
}

fn greeting(running: &Running, dewey: Option<&DeweyServer>, config: &Config) -> String {
    let address = running.address();
    let dewey = dewey.map(|dewey| format!("  dewey      {}\n", dewey.url())).unwrap_or_default();
    let spy = match running.spy_address() {
        Some(spy) => format!("ws://{spy}?upstream=NAME, http://{spy}/mcp/NAME"),
        None => "not listening: its address is taken".to_owned(),
    };
    format!(
        "iccm is recording.\n\n  gateway    http://{address} -> {}\n  providers  {}\n  spy        {spy}\n  servers    {}\n\
         {dewey}  record     {}\n\n\
         Point a client at it:\n\n  ANTHROPIC_BASE_URL=http://{address} claude\n\nCtrl-C ends it.\n",
        config.upstream.value.as_str().trim_end_matches('/'),
        config.providers.keys().map(|name| format!("/{name}")).collect::<Vec<_>>().join(" "),
        config.allowed_servers().into_keys().collect::<Vec<_>>().join(" "),
        config.data_dir.value.display(),
    )
}
