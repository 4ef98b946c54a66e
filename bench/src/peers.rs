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

    /// Waits until the peer has stopped working: two looks at its CPU time show the same.
    pub(crate) async fn settle(&self) {
        let mut before = -1.0;
        while self.works_behind && self.cpu_seconds() - before > 0.02 {
            before = self.cpu_seconds();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        self.child.iter().flat_map(Child::pids)
    }
}

pub(crate) fn start(lab: &Path, upstream: SocketAddr) -> anyhow::Result<Vec<Peer>> {
    let mut peers = vec![Peer { name: "direct", address: upstream, child: None, works_behind: false }];
    for (name, command) in
        [("nginx", nginx as fn(&Path, SocketAddr, SocketAddr) -> anyhow::Result<Command>), ("haproxy", haproxy)]
    {
        let folder = lab.join(name);
        std::fs::create_dir(&folder)?;
        let address = free_address()?;
        match Child::start(&mut command(&folder, address, upstream)?, address) {
            Ok(child) => peers.push(Peer { name, address, child: Some(child), works_behind: false }),
            Err(error) => eprintln!("{name} is left out: {error}"),
        }
    }
    for (name, database) in [("iccm, no drain", "sqlite:/dev/null/none.db"), ("iccm", "sqlite:")] {
        let folder = lab.join(name);
        let address = free_address()?;
        let mut command = Command::new(iccm()?);
        command.args(["kgb", "--gateway-listen", &address.to_string(), "--upstream", &format!("http://{upstream}")]);
        command.arg("--data-dir").arg(&folder).args(["--database", database]).env("ICCM_LOG", "off");
        let child = Child::start(&mut command, address).context("iccm does not start")?;
        peers.push(Peer { name, address, child: Some(child), works_behind: database == "sqlite:" });
    }
    Ok(peers)
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
