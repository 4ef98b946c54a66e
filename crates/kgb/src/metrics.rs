//! What the recorder counts, and how `/metrics` shows it.
//!
//! The registry belongs to one recorder and not to the process, so that two of them can live side by side; its handles
//! are made once, so that counting on the recording path is an atomic addition.

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use winni::model::Outcome;

/// The counters and gauges of one recorder.
pub struct Meters {
    registry: PrometheusRecorder,
    handle: PrometheusHandle,
    exchanges: [Counter; Outcome::ALL.len()],
    /// Exchanges that are running.
    pub(crate) active: Gauge,
    /// Bytes of request bodies.
    pub(crate) request_bytes: Counter,
    /// Bytes of response bodies.
    pub(crate) response_bytes: Counter,
    /// Messages of WebSocket connections, and what a relay reported.
    messages: Counter,
    /// Their bytes.
    pub(crate) message_bytes: Counter,
    /// Appends and syncs that the spool could not do.
    pub(crate) spool_errors: Counter,
    /// Exchanges that passed wholly or partly unrecorded.
    pub(crate) unrecorded_exchanges: Counter,
    /// Bytes that passed unrecorded.
    pub(crate) unrecorded_bytes: Counter,
    /// Exchanges refused because they could not be recorded.
    pub(crate) refused_unrecordable: Counter,
    /// Connections that were closed because what came was not HTTP.
    pub(crate) malformed_requests: Counter,
    /// 1 while the last attempt to record failed.
    pub(crate) cannot_record: Gauge,
    /// Bytes in the spool that are not released yet.
    pub(crate) spool_pending_bytes: Gauge,
    /// Items that the database has taken.
    pub(crate) drained_items: Counter,
    /// Batches that the database did not take.
    pub(crate) drain_errors: Counter,
    /// Items put aside because the database takes everything but them.
    pub(crate) quarantined_items: Counter,
    /// Items read from the spool that the database has not taken yet.
    pub(crate) drain_pending_items: Gauge,
}

impl Meters {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let registry = PrometheusBuilder::new().build_recorder();
        let handle = registry.handle();
        let counter = |name, help| counter(&registry, name, help);
        let gauge = |name, help| gauge(&registry, name, help);
        Self {
            exchanges: Outcome::ALL.map(|outcome| exchanges_counter(&registry, outcome)),
            active: gauge("iccm_active_exchanges", "Exchanges that are running."),
            request_bytes: counter("iccm_request_bytes_total", "Bytes of request bodies."),
            response_bytes: counter("iccm_response_bytes_total", "Bytes of response bodies."),
            messages: counter("iccm_messages_total", "Messages on WebSockets and through the relay."),
            message_bytes: counter("iccm_message_bytes_total", "Bytes of such messages."),
            spool_errors: counter("iccm_spool_errors_total", "Appends and syncs that failed."),
            unrecorded_exchanges: counter("iccm_unrecorded_exchanges_total", "Exchanges wholly or partly unrecorded."),
            unrecorded_bytes: counter("iccm_unrecorded_bytes_total", "Bytes that passed unrecorded."),
            refused_unrecordable: counter("iccm_refused_unrecordable_total", "Refused for want of a record."),
            malformed_requests: counter("iccm_malformed_requests_total", "Refused because they were not HTTP."),
            cannot_record: gauge("iccm_cannot_record", "1 while the last attempt to record failed."),
            spool_pending_bytes: gauge("iccm_spool_pending_bytes", "Bytes in the spool, not released yet."),
            drained_items: counter("iccm_drained_items_total", "Items that the database has taken."),
            drain_errors: counter("iccm_drain_errors_total", "Batches that the database did not take."),
            quarantined_items: counter("iccm_quarantined_items_total", "Items put aside."),
            drain_pending_items: gauge("iccm_drain_pending_items", "Items read but not stored yet."),
            registry,
            handle,
        }
    }

    /// Counts the end of an exchange.
    pub(crate) fn ended(&self, outcome: Outcome) {
        let place = Outcome::ALL.iter().position(|known| *known == outcome);
        if let Some(counter) = place.and_then(|at| self.exchanges.get(at)) {
            counter.increment(1);
        }
    }

    /// Counts a message of which so many bytes are there.
    pub(crate) fn message(&self, bytes: usize) {
        self.messages.increment(1);
        self.message_bytes.increment(bytes as u64);
    }

    /// All of them as Prometheus text.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// The registry, for components that count beside the recorder.
    pub fn registry(&self) -> &PrometheusRecorder {
        &self.registry
    }
}

const METADATA: Metadata<'static> = Metadata::new("kgb", Level::INFO, Some("kgb"));

fn exchanges_counter(registry: &PrometheusRecorder, outcome: Outcome) -> Counter {
    let name = "iccm_exchanges_total";
    registry.describe_counter(name.into(), None, "Exchanges that ended, by outcome.".into());
    let key = Key::from_parts(name, vec![Label::from_static_parts("outcome", outcome.name())]);
    registry.register_counter(&key, &METADATA)
}

fn counter(registry: &PrometheusRecorder, name: &'static str, help: &'static str) -> Counter {
    registry.describe_counter(name.into(), None, help.into());
    registry.register_counter(&Key::from_static_name(name), &METADATA)
}

fn gauge(registry: &PrometheusRecorder, name: &'static str, help: &'static str) -> Gauge {
    registry.describe_gauge(name.into(), None, help.into());
    registry.register_gauge(&Key::from_static_name(name), &METADATA)
}
