//! Which requests of a connection or session are being answered, so that they can be cancelled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::message::Id;

/// Requests under way, by id.
#[derive(Default)]
pub(crate) struct InFlight(Mutex<HashMap<Id, CancellationToken>>);

/// A request under way; dropped when it is answered.
pub(crate) struct Entry {
    all: Arc<InFlight>,
    id: Id,
    /// Cancelled when nobody wants the answer any more.
    pub(crate) cancelled: CancellationToken,
}

impl InFlight {
    /// A request begins. It is also cancelled with `parent`.
    pub(crate) fn begin(self: &Arc<Self>, id: &Id, parent: &CancellationToken) -> Entry {
        let cancelled = parent.child_token();
        self.map().insert(id.clone(), cancelled.clone());
        Entry { all: self.clone(), id: id.clone(), cancelled }
    }

    /// Cancels a request, if it is still under way.
    pub(crate) fn cancel(&self, id: &Id) {
        if let Some(cancelled) = self.map().get(id) {
            cancelled.cancel();
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Id, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.all.map().remove(&self.id);
    }
}
