//! The signals that end the program.
//!
//! The first SIGTERM or SIGINT asks for an orderly end: what is under way is finished and drained. The second ends the
//! process at once; nothing recorded is lost by that, as it is in the spool, and the next start stores it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code after a second signal: the shell's for a process ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled by the first SIGTERM or SIGINT.
pub(crate) fn on_signal() -> std::io::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = CancellationToken::new();
    let cancelled = token.clone();
    // Owned by the runtime: it ends with the process.
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        cancelled.cancel();
        either(&mut interrupt, &mut terminate).await;
        eprintln!("iccm: ended at once; what is not stored yet is in the spool and will be stored by the next start");
        std::process::exit(INTERRUPTED);
    });
    Ok(token)
}

/// SIGHUP, as a service's manager sends it to have the configuration read again.
pub(crate) fn on_hangup() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Whether this process was started with the signal ignored (`nohup`, a shell's background job). Such a wish must not be
/// undone by listening to the signal: the child would get the default action instead of ignoring it.
pub(crate) fn was_ignored(kind: SignalKind) -> bool {
    // Linux only; elsewhere nothing is known and the signal is listened to.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status, kind.as_raw_value())
}

fn ignored_in(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    (1..=64).contains(&signal) && mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\ticcm\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert!(ignored_in(status, 1));
        assert!(ignored_in(status, 13));
        assert!(!ignored_in(status, 2));
        assert!(!ignored_in("", 1));
    }
}
