//! A real nginx as a plain proxy, to ask what it makes of the same bytes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs until it is dropped. Listens on a socket in its folder, so that no port has to be free.
pub(crate) struct Nginx {
    child: Child,
    folder: tempfile::TempDir,
}

impl Nginx {
    /// `upstream` is a port on this machine.
    pub(crate) fn start(upstream: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("nginx.conf"), configuration(folder.path(), upstream)).unwrap();
        let child = Command::new(program())
            .args(["-e", "stderr", "-p"])
            .arg(folder.path())
            .args(["-c", "nginx.conf"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut nginx = Self { child, folder };
        nginx.wait_until_it_listens();
        nginx
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("nginx.sock")
    }

    fn wait_until_it_listens(&mut self) {
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            let has_ended = self.child.try_wait().unwrap().is_some();
            if has_ended || begun.elapsed() > Duration::from_secs(20) {
                let _ = self.child.kill();
                let mut said = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("nginx does not listen: {said}");
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian keeps it where only root's PATH leads.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join("nginx")).find(|file| file.is_file());
    found.expect("this test compares with a real nginx: install it (apt-get install nginx-light), or run scripts/test")
}

/// One process in the foreground that keeps to its folder. Bodies are passed on as they come, as the gateway does.
fn configuration(folder: &Path, upstream: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr crit;
         events {{ worker_connections 64; }}
         http {{
             access_log off;
             client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
             uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
             server {{
                 listen unix:{folder}/nginx.sock;
                 location / {{
                     proxy_pass http://127.0.0.1:{upstream};
                     proxy_http_version 1.1;
                     proxy_set_header Connection \"\";
                     proxy_request_buffering off;
                     proxy_buffering off;
                 }}
             }}
         }}"
    )
}
