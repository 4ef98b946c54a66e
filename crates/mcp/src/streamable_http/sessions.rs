//! Sessions, as versions up to 2025-11-25 have them.
//!
//! A session holds what was agreed on and which of its requests can be cancelled; nothing of a server's data. So one that
//! this process does not know but that has the form of our ids (it is from before a restart, or gave way to newer ones) is
//! taken up again, and the client notices nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::in_flight::InFlight;
use crate::version::Version;

/// Sessions that are remembered; the oldest give way.
const MAX_SESSIONS: usize = 4096;
const PREFIX: &str = "iccm-";

/// What a client began with `initialize`.
pub(crate) struct Session {
    pub(crate) version: Version,
    pub(crate) in_flight: Arc<InFlight>,
    /// Cancelled by DELETE.
    pub(crate) ended: CancellationToken,
}

/// The sessions of a listener.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// `None` for those that were ended.
    sessions: HashMap<String, Option<Arc<Session>>>,
    /// Oldest first.
    order: VecDeque<String>,
}

impl Sessions {
    /// A new session's id.
    pub(crate) fn begin(&self, version: Version) -> String {
        let id = format!("{PREFIX}{}", Uuid::new_v4());
        self.known().remember(&id, Some(Arc::new(Session::new(version))));
        id
    }

    /// The session with this id. One that is taken up again speaks `spoken`.
    pub(crate) fn find(&self, id: &str, spoken: Version) -> Option<Arc<Session>> {
        let mut known = self.known();
        if let Some(found) = known.sessions.get(id) {
            return found.clone();
        }
        is_ours(id).then(|| {
            let session = Arc::new(Session::new(spoken));
            known.remember(id, Some(session.clone()));
            session
        })
    }

    /// Ends a session; false if it was not there.
    pub(crate) fn end(&self, id: &str) -> bool {
        let Some(session) = self.find(id, Version::UNSAID) else {
            return false;
        };
        session.ended.cancel();
        self.known().remember(id, None);
        true
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn remember(&mut self, id: &str, session: Option<Arc<Session>>) {
        if self.sessions.insert(id.to_owned(), session).is_none() {
            self.order.push_back(id.to_owned());
        }
        if self.order.len() > MAX_SESSIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.sessions.remove(&oldest);
        }
    }
}

impl Session {
    fn new(version: Version) -> Self {
        Self { version, in_flight: Arc::default(), ended: CancellationToken::new() }
    }
}

fn is_ours(id: &str) -> bool {
    id.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == 36 && rest.parse::<Uuid>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_until_it_is_ended() {
        let sessions = Sessions::default();
        let id = sessions.begin(Version::V2025_06_18);
        let session = sessions.find(&id, Version::UNSAID).unwrap();
        assert_eq!(session.version, Version::V2025_06_18);
        assert!(sessions.end(&id));
        assert!(session.ended.is_cancelled());
        assert!(sessions.find(&id, Version::UNSAID).is_none());
        assert!(!sessions.end(&id));
    }

    #[test]
    fn a_session_from_before_a_restart_goes_on_and_a_foreign_id_is_nobodys() {
        let (before, after) = (Sessions::default(), Sessions::default());
        let id = before.begin(Version::V2025_06_18);
        assert_eq!(after.find(&id, Version::V2025_11_25).unwrap().version, Version::V2025_11_25);
        for foreign in ["", "iccm-", "iccm-x", "4f0c5e9a-6a4b-4f7e-9a51-0123456789ab"] {
            assert!(after.find(foreign, Version::UNSAID).is_none(), "{foreign}");
        }
    }

    #[test]
    fn sessions_are_bounded() {
        let sessions = Sessions::default();
        for _ in 0..MAX_SESSIONS + 10 {
            sessions.begin(Version::UNSAID);
        }
        assert_eq!(sessions.known().sessions.len(), MAX_SESSIONS);
        assert_eq!(sessions.known().order.len(), MAX_SESSIONS);
    }
}
