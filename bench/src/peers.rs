//! What is measured.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::process::{self, Child};

/// A way to the upstream.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Option<Child>,
    works_behind: bool,
}

impl Peer {
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.pids().map(process::cpu_seconds).sum()
    }

    pub(crate) fn peak_mb(&self) -> f64 {
        self.pids().map(process::peak_mb).sum()
    }

    pub(crate) fn reset_peak(&self) {
        self.pids().for_each(process::reset_peak);
    }

    /// Waits until the peer has stopped working: for two seconds its CPU time has not changed. It works behind the traffic in
    /// strokes of a second.
    pub(crate) async fn settle(&self) {
        let mut quiet = 0;
        while self.works_behind && quiet < 4 {
            let before = self.cpu_seconds();
            tokio::time::sleep(Duration::from_millis(500)).await;
            quiet = if self.cpu_seconds() - before > 0.02 { 0 } else { quiet + 1 };
        }
    }

    /// A figure of the recorder's own, summed over its labels.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = tokio::task::LocalSet::new().run_until(crate::client::get(self.address, "/metrics")).await?;
        let values = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    pub(crate) fn rss_mb(&self) -> f64 {
        self.pids().map(process::rss_mb).sum()
    }

    /// Ends it at once, as a lost machine would.
    pub(crate) fn kill(mut self) {
        self.child = None;
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        self.child.iter().flat_map(Child::pids)
    }
}

/// The command of a proxy: with a folder of its own, listening here, passing on there.
type Proxy = fn(&Path, SocketAddr, SocketAddr) -> anyhow::Result<Command>;

/// Every way there is here: what is not installed is left out, and said so.
pub(crate) fn start(lab: &Path, upstream: SocketAddr) -> anyhow::Result<Vec<Peer>> {
    let mut peers = vec![Peer { name: "direct", address: upstream, child: None, works_behind: false }];
    let plain: [(_, Proxy); 3] = [("nginx", nginx), ("HAProxy", haproxy), ("mitmproxy", mitmproxy)];
    for (name, command) in plain {
        let folder = lab.join(name);
        std::fs::create_dir_all(&folder)?;
        let address = free_address()?;
        match command(&folder, address, upstream).and_then(|mut command| Child::start(&mut command, address)) {
            Ok(child) => peers.push(Peer { name, address, child: Some(child), works_behind: false }),
            Err(error) => eprintln!("{name} is left out: {error}"),
        }
    }
    peers.push(recorder("iccm, no drain", &lab.join("undrained"), upstream, &NO_DATABASE)?);
    peers.push(recorder("iccm", &lab.join("iccm"), upstream, &[])?);
    Ok(peers)
}

/// A database that cannot be opened.
pub(crate) const NO_DATABASE: [&str; 2] = ["--database", "sqlite:/dev/null/none.db"];

/// The recorder with its data in `folder`.
pub(crate) fn recorder(
    name: &'static str,
    folder: &Path,
    upstream: SocketAddr,
    words: &[&str],
) -> anyhow::Result<Peer> {
    let address = free_address()?;
    let mut command = Command::new(iccm()?);
    command.args(["kgb", "--gateway-listen", &address.to_string(), "--upstream", &format!("http://{upstream}")]);
    command.arg("--data-dir").arg(folder).args(words).env("ICCM_LOG", "off");
    if !words.contains(&"--database") {
        command.args(["--database", "sqlite:"]);
    }
    let child = Child::start(&mut command, address).context("iccm does not start")?;
    Ok(Peer { name, address, child: Some(child), works_behind: words != NO_DATABASE })
}

/// The executable that was built with this one, or the one that ICCM_BIN names.
fn iccm() -> anyhow::Result<std::path::PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("iccm");
    let path = std::env::var_os("ICCM_BIN").map_or(beside, Into::into);
    anyhow::ensure!(path.exists(), "there is no {}; run: cargo build --release -p iccm", path.display());
    Ok(path)
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn nginx(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> anyhow::Result<Command> {
    let at = folder.display();
    let paths =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|p| format!("{p}_temp_path {at}/{p};")).join(" ");
    let config = format!(
        "daemon off; worker_processes 2; pid {at}/pid; error_log {at}/error.log; events {{ worker_connections 1024; }}\n\
         http {{ access_log off; {paths} client_max_body_size 64m; client_body_buffer_size 128k; tcp_nodelay on;\n\
         keepalive_requests 10000000; upstream up {{ server {upstream}; keepalive 128; keepalive_requests 10000000; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://up; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_buffering off; proxy_request_buffering off; }} }} }}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(file);
    Ok(command)
}

fn haproxy(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> anyhow::Result<Command> {
    // Without http-no-delay HAProxy holds small events back.
    let config = format!(
        "global\n  nbthread 2\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n  \
         option http-keep-alive\n  http-reuse always\n  option http-no-delay\nfrontend f\n  bind {address}\n  \
         default_backend b\nbackend b\n  server s {upstream}\n"
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, config)?;
    let mut command = Command::new("haproxy");
    command.args(["-W", "-db", "-f"]).arg(file);
    Ok(command)
}

/// mitmproxy writes all bodies to a file; unless told to stream it would hold each back until it is whole.
fn mitmproxy(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> anyhow::Result<Command> {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/mitmproxy/bin/mitmdump");
    let mut command = Command::new(if lab.exists() { lab } else { "mitmdump".into() });
    command.args(["-q", "--listen-host", "127.0.0.1", "-p", &address.port().to_string()]);
    command.args(["--mode", &format!("reverse:http://{upstream}"), "--set", "stream_large_bodies=1"]);
    command.args(["--set", "store_streamed_bodies=true", "--set", &format!("confdir={}", folder.display())]);
    command.arg("-w").arg(folder.join("flows"));
    Ok(command)
}
