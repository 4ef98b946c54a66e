//! The data folder, the spool and the database.

use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use super::Finding;
use crate::config::Config;
use crate::render::quantity;
use crate::wiring::pending;

/// With less than this much free, a long day's recording may fill the disk.
const LITTLE_SPACE: u64 = 2_000_000_000;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let data_dir = &config.data_dir.value;
    let mut findings = vec![writable(data_dir)];
    findings.extend(free_space(data_dir));
    findings.extend(database(config).await);
    findings.extend(quarantine(data_dir));
    findings
}

/// The folder, or for one that does not exist yet the nearest one above it, in which it would be created.
fn existing(folder: &Path) -> &Path {
    let above = folder.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty());
    above.into_iter().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."))
}

fn writable(data_dir: &Path) -> Finding {
    const CHECK: &str = "data folder";
    let nearest = existing(data_dir);
    let advice = "choose another one with --data-dir, or correct its permissions";
    if !nearest.is_dir() {
        return Finding::broken(CHECK, format!("{} is not a folder", nearest.display()), advice);
    }
    match access(nearest, Access::WRITE_OK | Access::EXEC_OK) {
        Err(error) => Finding::broken(CHECK, format!("cannot write to {}: {error}", nearest.display()), advice),
        Ok(()) if nearest == data_dir => Finding::good(CHECK, format!("{} is writable", data_dir.display())),
        Ok(()) => Finding::good(CHECK, format!("{} will be created by the first recording", data_dir.display())),
    }
}

fn free_space(data_dir: &Path) -> Option<Finding> {
    const CHECK: &str = "disk";
    let stat = statvfs(existing(data_dir)).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{} free", quantity::bytes(free));
    Some(if free < LITTLE_SPACE {
        Finding::warning(CHECK, found, "make room: when the disk is full, traffic passes unrecorded (or is refused)")
    } else {
        Finding::good(CHECK, found)
    })
}

async fn database(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "database";
    if config.database_file().is_some_and(|file| !file.exists()) {
        let nothing_yet = Finding::good(CHECK, "there is none yet; the first recording creates it");
        return vec![nothing_yet, spool(config, None).await];
    }
    let store = match winni::open_for_reading(&config.database_url.value, &config.data_dir.value).await {
        Ok(store) => store,
        Err(error) => {
            let advice = "recording goes on into the spool without it; correct this, then what waits is stored";
            return vec![Finding::broken(CHECK, error.to_string(), advice)];
        }
    };
    let counts = match store.stats().await {
        Ok(stats) => Finding::good(
            CHECK,
            format!(
                "opens; {}, {} stored",
                quantity::counted(stats.exchanges, "exchange"),
                quantity::bytes(stats.stored_bytes)
            ),
        ),
        Err(error) => Finding::broken(CHECK, format!("opens, but cannot be read: {error}"), "restore it from a backup"),
    };
    vec![counts, spool(config, Some(store.as_ref())).await]
}

async fn spool(config: &Config, store: Option<&dyn winni::store::Store>) -> Finding {
    const CHECK: &str = "spool";
    let pending = match pending::scan(&config.data_dir.value, store).await {
        Ok(pending) => pending,
        Err(error) => {
            return Finding::broken(CHECK, format!("{error:#}"), "check the disk and the folder's permissions");
        }
    };
    let living = quantity::counted(pending.living, "living recorder");
    let waiting = quantity::counted(pending.records, "record");
    let found = format!("{living}, {waiting} waiting to be stored ({})", quantity::bytes(pending.bytes));
    match pending.orphans {
        0 => Finding::good(CHECK, found),
        orphans => Finding::warning(
            CHECK,
            format!("{found}; {} left by a recorder that is gone", quantity::counted(orphans, "folder")),
            "nothing is lost: the next start of iccm up or iccm run stores it",
        ),
    }
}

/// What the drain has put aside because no database takes it.
fn quarantine(data_dir: &Path) -> Option<Finding> {
    let folder = data_dir.join("quarantine");
    let aside = std::fs::read_dir(&folder).ok()?.count() as u64;
    (aside > 0).then(|| {
        let found = format!("{} put aside in {}", quantity::counted(aside, "item"), folder.display());
        Finding::warning("quarantine", found, "they could not be stored or read; keep them and report it")
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_folder_that_does_not_exist_yet_is_judged_by_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let finding = writable(&folder.path().join("a/b"));
        assert_eq!(finding.level, Level::Good);
        assert!(finding.found.ends_with("a/b will be created by the first recording"), "{finding:?}");
        assert!(!folder.path().join("a").exists());
    }

    #[test]
    fn a_file_in_the_way_is_broken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(writable(&file.path().join("data")).level, Level::Broken);
    }

    #[test]
    fn free_space_is_told() {
        assert!(free_space(Path::new("/")).unwrap().found.ends_with(" free"));
    }
}
