//! Asking a server to tell of changes: of the resources that the client wants to hear of, and of the lists.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use wire::json_rpc::{self, text};

use super::Session;
use crate::backend::handshake::member;
use crate::hub::Own;
use crate::link::Outgoing;
use crate::protocol::{CANCELLED, Era, LISTEN, ListKind};

impl Session<'_> {
    /// Tells the server what the client wants to hear of.
    pub(super) fn sync(&mut self) {
        let wanted = if self.introduced.capabilities.subscribe || self.era == Era::Modern {
            self.hub.wanted_of(self.name)
        } else {
            BTreeSet::new()
        };
        match self.era {
            Era::Legacy => self.subscribe(wanted),
            Era::Modern if self.listening.is_none() || wanted != self.subscribed => self.listen(wanted),
            Era::Modern => {}
        }
        if self.era == Era::Legacy
            && let Some(level) = self.hub.take_log_level(self.name)
        {
            self.request(Own::Quiet("logging/setLevel"), "logging/setLevel", &member("level", &level));
        }
    }

    fn subscribe(&mut self, wanted: BTreeSet<String>) {
        for uri in wanted.difference(&self.subscribed) {
            self.request(Own::Quiet("resources/subscribe"), "resources/subscribe", &member("uri", uri));
        }
        for uri in self.subscribed.difference(&wanted) {
            self.request(Own::Quiet("resources/unsubscribe"), "resources/unsubscribe", &member("uri", uri));
        }
        self.subscribed = wanted;
    }

    /// Opens a new stream before the old one is closed, so that nothing is missed; what both tell does no harm.
    fn listen(&mut self, wanted: BTreeSet<String>) {
        let uris: Vec<String> = wanted.iter().map(|uri| text(uri)).collect();
        let uris =
            if uris.is_empty() { String::new() } else { format!(r#","resourceSubscriptions":[{}]"#, uris.join(",")) };
        let filter = format!(
            r#""notifications":{{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true{uris}}}"#
        );
        let new = self.request(Own::Listen, LISTEN, &filter);
        self.listened = Instant::now();
        if let Some(old) = self.listening.replace(new) {
            let params = format!(r#"{{"requestId":{old}}}"#);
            // Over HTTP closing the stream is what ends it; there the notification would be an error.
            self.put(Outgoing::Abandon { id: old });
            self.put(Outgoing::Streamless { bytes: json_rpc::notification(CANCELLED, Some(&params)).into() });
        }
        self.subscribed = wanted;
    }

    /// The stream that tells of changes has ended. It is opened again at once, which also shows whether the server is still
    /// there, unless it ends as soon as it begins; then the next beat does it. What changed meanwhile is asked for.
    pub(super) fn listen_ended(&mut self, number: u64) {
        if self.listening != Some(number) {
            return;
        }
        self.listening = None;
        if self.listened.elapsed() >= Duration::from_secs(1) {
            self.listen_again();
        }
    }

    pub(super) fn listen_again(&mut self) {
        self.sync();
        ListKind::ALL.into_iter().for_each(|kind| self.fetch(kind));
    }
}
