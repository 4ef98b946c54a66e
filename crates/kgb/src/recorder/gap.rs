//! What passed unrecorded, until it can be put on record as a gap.
//!
//! A gap is counted from the first byte that was not recorded until recording works again. While exchanges that began
//! during the outage still run, their bytes open the next gap; so that this does not write a note for each of their
//! chunks, notes are at least [`NOTE_INTERVAL`] apart.
//!
//! While the outage lasts, what is missing so far is put on record too, for a recorder that dies in it: the spool keeps room
//! for notes, within its bound and on the disk. So that the room lasts, each note is twice as long in coming as the one
//! before it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use spool::Entry;
use winni::model::{Gap, Timestamp};

use super::WhenSpoolFull;
use crate::entry::End;
use crate::metrics::Meters;

const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// At most this many doublings: nine minutes.
const MAX_DOUBLINGS: u32 = 9;
/// How long a failure to record keeps `/ready` at 503 when no later attempt says more.
const ALARM_LASTS: Duration = Duration::from_secs(10);

/// Owned by the recorder.
#[derive(Default)]
pub(super) struct Gaps {
    /// Whether there is anything in `state` to settle; spares the recording path the lock.
    open: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the first unrecorded exchange or byte of the gap passed.
    from: Option<Timestamp>,
    exchanges: u64,
    bytes: u64,
    last_note: Option<Instant>,
    /// Notes that were tried since recording worked.
    notes_in_outage: u32,
    alarm: Option<(Instant, String)>,
    /// Exchanges that are over but whose end the disk did not take. The spool keeps room for ends beyond its bound, so
    /// this happens only on a full or failing disk, and holds no more than were running then.
    unended: Vec<(Arc<Entry>, End)>,
}

impl Gaps {
    /// Whether something waits to be settled.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Counts what passed unrecorded.
    pub(super) fn add(&self, meters: &Meters, exchanges: u64, bytes: u64) {
        meters.unrecorded_exchanges.increment(exchanges);
        meters.unrecorded_bytes.increment(bytes);
        let mut state = self.lock();
        state.from.get_or_insert_with(Timestamp::now);
        state.exchanges += exchanges;
        state.bytes += bytes;
        self.open.store(true, Ordering::Release);
    }

    /// Keeps an end that the disk did not take.
    pub(super) fn end_later(&self, entry: Arc<Entry>, end: End) {
        self.lock().unended.push((entry, end));
        self.open.store(true, Ordering::Release);
    }

    /// Remembers why recording failed, and says it once per outage.
    pub(super) fn raise(&self, error: &spool::Error, policy: WhenSpoolFull) {
        let mut state = self.lock();
        if state.alarm.is_none() {
            let consequence = match policy {
                WhenSpoolFull::PassUnrecorded => "traffic passes unrecorded",
                WhenSpoolFull::Refuse => "traffic is refused",
            };
            tracing::error!(%error, "cannot record, {consequence}; make room on the disk, or look why the drain is behind");
        }
        state.alarm = Some((Instant::now(), error.to_string()));
        self.open.store(true, Ordering::Release);
    }

    /// The reason why recording is not to be expected to work, if there is one. When nothing was tried for a while and
    /// the spool `has_room` again, there is none.
    pub(super) fn alarm(&self, has_room: bool) -> Option<String> {
        let state = self.lock();
        let (since, reason) = state.alarm.as_ref()?;
        (!has_room || since.elapsed() < ALARM_LASTS).then(|| reason.clone())
    }

    /// Recording works again: ends what is left to end, and writes the gap with `note`. What fails stays for the next
    /// time. `now`: whatever the interval says.
    pub(super) fn settle(&self, note: impl FnOnce(Gap) -> spool::Result<()>, now: bool) {
        let mut state = self.lock();
        if state.alarm.take().is_some() {
            tracing::info!("recording works again");
        }
        state.unended.retain(|(entry, end)| entry.close(&[], &end.encode()).is_err());
        state.notes_in_outage = 0;
        if (now || state.is_due(NOTE_INTERVAL))
            && let Err(error) = state.write(note)
        {
            tracing::warn!(%error, "cannot put a gap on record yet");
        }
        let open = state.from.is_some() || !state.unended.is_empty();
        self.open.store(open, Ordering::Release);
    }

    /// Recording does not work: writes what is missing so far, if it is time to.
    pub(super) fn note_so_far(&self, note: impl FnOnce(Gap) -> spool::Result<()>) {
        let mut state = self.lock();
        if state.is_due(NOTE_INTERVAL * (1 << state.notes_in_outage.min(MAX_DOUBLINGS))) {
            state.notes_in_outage += 1;
            if let Err(error) = state.write(note) {
                tracing::debug!(%error, "cannot put the gap so far on record");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_due(&self, interval: Duration) -> bool {
        self.last_note.is_none_or(|last| last.elapsed() >= interval)
    }

    /// Writes the gap, if there is one; then there is none.
    fn write(&mut self, note: impl FnOnce(Gap) -> spool::Result<()>) -> spool::Result<()> {
        let Some(from) = self.from else { return Ok(()) };
        self.last_note = Some(Instant::now());
        note(Gap { from, until: Timestamp::now(), exchanges: self.exchanges, bytes: self.bytes })?;
        (self.from, self.exchanges, self.bytes) = (None, 0, 0);
        Ok(())
    }
}
