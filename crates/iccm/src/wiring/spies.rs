//! Where the spies of a record listen, told to whoever records into the same data folder.
//!
//! A relay that records must know which of its servers stand behind a spy of the same record: their messages are on record
//! there, and would be counted twice. So each recorder with a spy puts a file with the spy's address into the folder
//! `spies` of the data folder, named like the recorder's own folder, before the spy serves anybody.
//!
//! Guaranteed: the file of a recorder that died is not believed, because its lock is free. Refused: certainty across
//! machines. A spy elsewhere that writes to the same database is not known here; the store then finds the copies by what
//! they say (`winni`, `tool_calls`).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use url::{Host, Url};
use uuid::Uuid;

use super::{pending, spool_root};

const FOLDER: &str = "spies";

/// A spy's entry; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Announced(PathBuf);

/// Tells where a recorder's spy listens. Forgets those of recorders that are gone.
pub(crate) fn announce(data_dir: &Path, recorder: Uuid, address: SocketAddr) -> io::Result<Announced> {
    let folder = data_dir.join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    for (gone, path) in entries(data_dir).into_iter().filter(|(recorder, _)| !lives(data_dir, *recorder)) {
        tracing::debug!(recorder = %gone, "a spy of an earlier recorder is forgotten");
        // Another start may be doing the same.
        let _ = std::fs::remove_file(path);
    }
    let path = folder.join(recorder.to_string());
    // Written aside first, so that nobody reads half an address.
    let part = folder.join(format!("{recorder}.part"));
    std::fs::write(&part, address.to_string())?;
    std::fs::rename(&part, &path)?;
    Ok(Announced(path))
}

/// Whether a URL leads to a spy that records into this data folder at this moment.
pub(crate) fn is_spy(data_dir: &Path, url: &Url) -> bool {
    let Some(port) = url.port_or_known_default() else { return false };
    let living = entries(data_dir).into_iter().filter(|(recorder, _)| lives(data_dir, *recorder));
    let mut addresses = living.filter_map(|(_, path)| std::fs::read_to_string(path).ok()?.parse::<SocketAddr>().ok());
    addresses.any(|address| address.port() == port && leads_to(url.host(), address.ip()))
}

/// Whether a host's name means this address of this machine. A spy that listens everywhere is also reached by names and
/// addresses that cannot be known here; loopback ones can.
fn leads_to(host: Option<Host<&str>>, spy: IpAddr) -> bool {
    let host: IpAddr = match host {
        Some(Host::Domain("localhost")) => return spy.is_loopback() || spy.is_unspecified(),
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(_)) | None => return false,
    };
    host == spy || (spy.is_unspecified() && host.is_loopback())
}

fn entries(data_dir: &Path) -> Vec<(Uuid, PathBuf)> {
    let entries = std::fs::read_dir(data_dir.join(FOLDER)).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect()
}

fn lives(data_dir: &Path, recorder: Uuid) -> bool {
    pending::is_locked(&spool_root(data_dir).join(recorder.to_string()))
}

impl Drop for Announced {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::debug!(%error, "a spy's address stays; it is not believed without its recorder");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use spool::{Options, Spool};

    use super::*;

    fn leads(data_dir: &Path, url: &str) -> bool {
        is_spy(data_dir, &url.parse().unwrap())
    }

    #[test]
    fn a_spy_is_known_for_as_long_as_its_recorder_lives() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path();
        assert!(!leads(data_dir, "ws://127.0.0.1:4000?upstream=dewey"));
        let spool = Spool::create(&spool_root(data_dir), Options::default(), b"about").unwrap();
        let announced = announce(data_dir, spool.recorder().0, "127.0.0.1:4000".parse().unwrap()).unwrap();
        for url in ["ws://127.0.0.1:4000?upstream=dewey", "http://127.0.0.1:4000/mcp/dewey", "ws://localhost:4000"] {
            assert!(leads(data_dir, url), "{url}");
        }
        for url in ["ws://127.0.0.1:4001", "ws://127.0.0.2:4000", "https://spy.example:4000", "ws://[::1]:4000"] {
            assert!(!leads(data_dir, url), "{url}");
        }
        drop(announced);
        assert!(!leads(data_dir, "ws://127.0.0.1:4000"));

        // As after kill -9: the file stays, the lock does not.
        std::mem::forget(announce(data_dir, spool.recorder().0, "0.0.0.0:80".parse().unwrap()).unwrap());
        assert!(leads(data_dir, "ws://127.0.0.1/") && leads(data_dir, "http://localhost/mcp/x"));
        drop(spool);
        assert!(!leads(data_dir, "ws://127.0.0.1/"));
        let other = Spool::create(&spool_root(data_dir), Options::default(), b"about").unwrap();
        let _announced = announce(data_dir, other.recorder().0, "127.0.0.1:1".parse().unwrap()).unwrap();
        assert_eq!(entries(data_dir).len(), 1, "what is dead is forgotten");
    }
}
