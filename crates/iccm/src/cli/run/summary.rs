//! What `iccm run` says at the end, in one line.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use uuid::Uuid;
use winni::model::{Exchange, ExchangeFilter, Outcome};

use crate::cli::reading;
use crate::config::Config;
use crate::render::quantity::{bytes, cost, count, counted};
use crate::render::safe::one_line;
use crate::wiring::Stopped;

/// A large record takes a while to be counted, and nobody waits for a prompt for the sake of a number.
const COUNTING_PATIENCE: Duration = Duration::from_secs(2);

/// What one recorder recorded.
#[derive(Debug, Default)]
pub(super) struct Summary {
    exchanges: Vec<Exchange>,
    /// Bytes that storing it took, if that is known.
    stored_bytes: Option<u64>,
    /// Why the counts are not (all) known.
    trouble: Option<String>,
}

impl Summary {
    /// Counts what is stored of the recorder. `stored_before` is what the record took before it began.
    pub(super) async fn of(recorder: Uuid, stopped: &Stopped, stored_before: Option<u64>) -> Self {
        let filter = ExchangeFilter { recorder: Some(recorder), ..ExchangeFilter::default() };
        match stopped.store.exchanges(filter).await {
            Ok(exchanges) => {
                let waiting = "not all of it is stored yet; the next start of iccm stores what is in the spool";
                let trouble = (!stopped.is_drained).then(|| waiting.to_owned());
                Self { exchanges, stored_bytes: stored_since(stopped, stored_before).await, trouble }
            }
            Err(error) => {
                let trouble = format!("recorded into the spool; the next start of iccm stores it ({error})");
                Self { trouble: Some(trouble), ..Self::default() }
            }
        }
    }

    /// The line, for people.
    pub(super) fn line(&self, gateway: SocketAddr) -> String {
        let text = match &self.trouble {
            Some(trouble) if self.exchanges.is_empty() => trouble.clone(),
            Some(trouble) => format!("{}; {trouble}", self.counts()),
            None if self.exchanges.is_empty() => {
                format!("nothing was recorded: the command sent nothing to http://{gateway} (iccm doctor may know why)")
            }
            None => self.counts(),
        };
        one_line(&text)
    }

    fn counts(&self) -> String {
        let sum = |of: fn(&Exchange) -> Option<u64>| self.exchanges.iter().filter_map(of).sum::<u64>();
        let conversations: BTreeSet<Uuid> = self.exchanges.iter().filter_map(|e| e.conversation_id).collect();
        let incomplete = self.exchanges.iter().filter(|e| e.outcome != Outcome::Complete).count() as u64;
        let failed = if incomplete > 0 { format!(" ({incomplete} incomplete)") } else { String::new() };
        let (read, written) = (sum(|e| e.cache_read_tokens), sum(|e| e.cache_write_tokens));
        let cached = if read + written > 0 {
            format!(" (cache: {} read, {} written)", count(read), count(written))
        } else {
            String::new()
        };
        [
            self.sessions(),
            counted(conversations.len() as u64, "conversation"),
            format!("{}{failed}", counted(self.exchanges.len() as u64, "exchange")),
            format!("tokens {} in{cached}, {} out", count(sum(|e| e.input_tokens)), count(sum(|e| e.output_tokens))),
            cost(self.cost()),
            self.sizes(),
        ]
        .join(" · ")
    }

    fn sessions(&self) -> String {
        let sessions: BTreeSet<&str> = self.exchanges.iter().filter_map(|e| e.session_id.as_deref()).collect();
        match (sessions.len(), sessions.first()) {
            (1, Some(only)) => format!("session {only}"),
            (several, _) => counted(several as u64, "session"),
        }
    }

    /// Unknown if it is unknown for any exchange that used tokens; the others cost nothing.
    fn cost(&self) -> Option<f64> {
        let used = |e: &&Exchange| e.input_tokens.is_some() || e.output_tokens.is_some();
        self.exchanges.iter().filter(used).map(|e| e.cost_usd).sum()
    }

    fn sizes(&self) -> String {
        let captured = self.exchanges.iter().map(|e| e.request_bytes + e.response_bytes).sum();
        match self.stored_bytes {
            Some(stored) => format!("{} captured, {} stored", bytes(captured), bytes(stored)),
            None => format!("{} captured", bytes(captured)),
        }
    }
}

/// What the record takes now; 0 where there is none, `None` if it cannot be told soon.
pub(super) async fn stored_bytes_of(config: Config) -> Option<u64> {
    if config.database_file().is_some_and(|file| !file.exists()) {
        return Some(0);
    }
    let counting = async {
        let store = reading::open(&config).await.ok()?;
        Some(store.stats().await.ok()?.stored_bytes)
    };
    tokio::time::timeout(COUNTING_PATIENCE, counting).await.ok().flatten()
}

/// The growth of the record, which is this recorder's work unless others record beside it: near enough for a summary.
async fn stored_since(stopped: &Stopped, before: Option<u64>) -> Option<u64> {
    let stats = tokio::time::timeout(COUNTING_PATIENCE, stopped.store.stats()).await.ok()?.ok()?;
    stats.stored_bytes.checked_sub(before?)
}

#[cfg(test)]
mod tests {
    use winni::model::{Durability, Kind, Timestamp};

    use super::*;

    fn exchange(conversation: u128, outcome: Outcome, tokens: Option<u64>, cost_usd: Option<f64>) -> Exchange {
        Exchange {
            id: Uuid::from_u128(1),
            recorder: Uuid::from_u128(2),
            seq: 1,
            session_id: Some("s-1".into()),
            conversation_id: Some(Uuid::from_u128(conversation)),
            kind: Kind::Message,
            started_at: Timestamp(0),
            first_byte_at: None,
            ended_at: None,
            method: "POST".into(),
            path: "/v1/messages".into(),
            status: Some(200),
            outcome,
            durability: Durability::Process,
            upstream: "https://api.anthropic.com".into(),
            model: None,
            streaming: true,
            request_bytes: 50_000,
            response_bytes: 1_000,
            input_tokens: tokens,
            output_tokens: tokens,
            cache_read_tokens: None,
            cache_write_tokens: None,
            cost_usd,
            key_fingerprint: None,
        }
    }

    fn line(exchanges: Vec<Exchange>, trouble: Option<&str>) -> String {
        let summary = Summary { exchanges, stored_bytes: Some(3_400), trouble: trouble.map(str::to_owned) };
        summary.line("127.0.0.1:4000".parse().unwrap())
    }

    #[test]
    fn the_line_counts_what_was_recorded() {
        let exchanges = vec![
            exchange(1, Outcome::Complete, Some(1000), Some(0.5)),
            exchange(2, Outcome::Complete, Some(500), Some(0.25)),
            exchange(2, Outcome::ClientAborted, None, None),
        ];
        assert_eq!(
            line(exchanges, None),
            "session s-1 · 2 conversations · 3 exchanges (1 incomplete) · tokens 1,500 in, 1,500 out · $0.7500 · 153.0 kB \
             captured, 3.4 kB stored"
        );
    }

    #[test]
    fn a_price_that_is_not_known_makes_the_cost_unknown() {
        let exchanges =
            vec![exchange(1, Outcome::Complete, Some(1), Some(0.5)), exchange(1, Outcome::Complete, Some(1), None)];
        assert!(line(exchanges, None).contains(" · cost unknown · "));
    }

    #[test]
    fn nothing_recorded_is_said() {
        assert!(
            line(Vec::new(), None)
                .starts_with("nothing was recorded: the command sent nothing to http://127.0.0.1:4000")
        );
        assert_eq!(line(Vec::new(), Some("recorded into the spool")), "recorded into the spool");
    }
}
