//! Whatever goes wrong upstream, the client sees exactly what it would have seen without a recorder, and the record says
//! what happened.

use std::net::TcpListener;
use std::time::Duration;

use e2e::fake_api::FakeApi;
use e2e::fake_api::log::Sent;
use e2e::http::Ending;
use e2e::raw_client::{Connection, Request, exchange};
use e2e::recorder::Place;
use e2e::stage::{Stage, assert_same, faulty, scripted};
use serde_json::Value;

/// How long a client of these tests listens to an upstream that has fallen silent, before it gives up.
const GIVES_UP_AFTER: Duration = Duration::from_secs(3);

/// A fault that needs no timing: the same seen both ways, and the outcome on record.
fn passes(stage: &Stage, request: &Request, case: &str, outcome: &str) -> Value {
    let (direct, through) = stage.both(request);
    assert_same(case, &direct, &through);
    let recorded = stage.place.recorded(&format!("case={case}"));
    assert_eq!(recorded["outcome"], outcome, "{case}: {recorded}");
    assert_eq!(recorded["status"].as_u64(), direct.status().map(u64::from), "{case}");
    assert_eq!(recorded["id"].as_str(), through.exchange_id(), "{case}: the client was told the exchange's id");
    let id = recorded["id"].as_str().unwrap();
    assert_eq!(stage.place.part(id, "request-body"), request.body, "{case}");
    assert_eq!(stage.place.part(id, "response-body"), direct.body, "{case}");
    assert_eq!(recorded["response_bytes"], direct.body.len(), "{case}");
    recorded
}

/// A fault that breaks the connection when the client has read what came before.
fn breaks_off(fault: &str, stream: bool) {
    let stage = Stage::new();
    // An exchange before it, so that the broken connection is one that the gateway had kept open and used before.
    assert_eq!(exchange(stage.recorder.address(), &scripted("before", "hello", true)).status(), Some(200));
    let request = faulty(fault, stream).field("x-fake-gate", fault);
    let (direct, through) = stage.both_gated(&request, fault);
    assert_same(fault, &direct, &through);
    assert!(matches!(direct.ending, Ending::Closed | Ending::Reset), "the fault was played: {:?}", direct.ending);
    let recorded = stage.place.recorded(&format!("case={fault}"));
    assert_eq!(recorded["outcome"], "upstream_aborted", "{recorded}");
    assert_eq!(recorded["status"].as_u64(), direct.status().map(u64::from));
    let id = recorded["id"].as_str().unwrap();
    assert_eq!(stage.place.part(id, "request-body"), request.body);
    if direct.head.is_some() {
        assert_eq!(stage.place.part(id, "response-body"), direct.body);
    }
    let tries = stage.behind.log().iter().filter(|entry| entry.target.contains(fault)).count();
    assert_eq!(tries, 1, "a request is forwarded once, never again on its own account");
}

/// A fault after which nothing comes any more; the client gives up.
fn falls_silent(fault: &str) {
    let stage = Stage::new();
    let request = faulty(fault, true);
    let seen = [stage.direct.address(), stage.recorder.address()].map(|address| {
        let mut connection = Connection::open(address).unwrap();
        connection.listen_for(GIVES_UP_AFTER);
        connection.request(&request).unwrap();
        connection.response("POST")
    });
    assert_same(fault, &seen[0], &seen[1]);
    assert_eq!(seen[0].ending, Ending::Silence, "the fault was played");
    stage
        .behind
        .wait("the gateway to hang up on the upstream", |log| (log.last()?.sent == Sent::ClientGone).then_some(()));
    let recorded = stage.place.recorded(&format!("case={fault}"));
    assert_eq!(recorded["outcome"], "client_aborted", "{recorded}");
    if seen[0].head.is_some() {
        assert_eq!(stage.place.part(recorded["id"].as_str().unwrap(), "response-body"), seen[0].body);
    }
}

#[test]
fn error_statuses_pass_verbatim_with_their_retry_after() {
    let stage = Stage::new();
    for status in [400, 401, 403, 404, 413, 429, 500, 503, 529] {
        let fault = format!("status_{status}");
        let recorded = passes(&stage, &faulty(&fault, true), &fault, "complete");
        assert_eq!(recorded["status"], status);
    }
}

#[test]
fn an_html_error_page_passes_verbatim() {
    passes(&Stage::new(), &faulty("html_502", true), "html_502", "complete");
}

#[test]
fn an_answer_without_content_passes() {
    passes(&Stage::new(), &faulty("no_content", true), "no_content", "complete");
}

#[test]
fn an_error_event_in_a_stream_passes_and_the_exchange_is_complete() {
    passes(&Stage::new(), &faulty("error_event", true), "error_event", "complete");
}

#[test]
fn a_stream_that_ends_cleanly_but_early_ends_just_so() {
    passes(&Stage::new(), &faulty("early_end", true), "early_end", "complete");
}

#[test]
fn pings_and_comment_lines_pass() {
    passes(&Stage::new(), &faulty("pings", true), "pings", "complete");
}

#[test]
fn a_slow_stream_passes() {
    let request = scripted("slow", "think", true).field("x-fake-pace-ms", "30");
    passes(&Stage::new(), &request, "slow", "complete");
}

#[test]
fn an_answer_that_ends_with_the_connection_is_complete() {
    passes(&Stage::new(), &faulty("close_delimited", false), "close_delimited", "complete");
}

#[test]
fn each_event_of_a_stream_passes_before_the_next_one_is_sent() {
    let stage = Stage::new();
    let request = faulty("lockstep", true).field("x-fake-gate", "step");
    let mut connection = Connection::open(stage.recorder.address()).unwrap();
    connection.request(&request).unwrap();
    stage.behind.open_gate("step");
    let mut events = 0;
    // Reads an event, then allows the next: a gateway that holds an event back never gets any further.
    let seen = connection.response_seen("POST", &mut |body| {
        let complete = body.windows(2).filter(|end| end == b"\n\n").count();
        while events < complete {
            events += 1;
            stage.behind.open_gate("step");
        }
    });
    assert_eq!(seen.ending, Ending::Complete);
    assert!(events > 8, "{events} events");
    assert_eq!(stage.place.recorded("case=lockstep")["outcome"], "complete");
}

#[test]
fn a_close_without_reply_closes_the_client_without_reply() {
    breaks_off("close_without_reply", true);
}

#[test]
fn a_reset_without_reply_resets_the_client() {
    breaks_off("reset_without_reply", true);
}

#[test]
fn a_head_that_breaks_off_closes_the_client_without_reply() {
    let stage = Stage::new();
    let request = faulty("half_head", true).field("x-fake-gate", "half");
    let (direct, through) = stage.both_gated(&request, "half");
    assert!(!direct.fragment.is_empty() && direct.ending == Ending::Closed, "the fault was played");
    // Half a head cannot be forwarded; to a client both are a connection closed before an answer.
    assert_eq!((through.head, through.ending), (None, Ending::Closed));
    assert_eq!(stage.place.recorded("case=half_head")["outcome"], "upstream_aborted");
}

#[test]
fn a_stream_cut_by_fin_is_cut_for_the_client() {
    breaks_off("fin_mid_stream", true);
}

#[test]
fn a_stream_cut_by_a_reset_is_reset_for_the_client() {
    breaks_off("reset_mid_stream", true);
}

#[test]
fn a_body_shorter_than_its_content_length_is_cut_for_the_client() {
    breaks_off("fin_mid_length", false);
}

#[test]
fn an_upstream_that_never_answers_lets_the_client_decide() {
    falls_silent("hang");
}

#[test]
fn a_stream_that_stalls_lets_the_client_decide() {
    falls_silent("stall_mid_stream");
}

#[test]
fn a_client_that_goes_away_in_mid_stream_cancels_the_upstream_and_is_on_record() {
    let stage = Stage::new();
    for (case, reset) in [("closed", false), ("reset", true)] {
        let request = scripted(case, "think", true).field("x-fake-fault", "lockstep").field("x-fake-gate", case);
        let mut connection = Connection::open(stage.recorder.address()).unwrap();
        connection.request(&request).unwrap();
        for _ in 0..3 {
            stage.behind.open_gate(case);
        }
        stage.behind.wait_at_gate(case);
        if reset {
            connection.reset();
        } else {
            drop(connection);
        }
        let recorded = stage.place.recorded(&format!("case={case}"));
        assert_eq!(recorded["outcome"], "client_aborted", "{recorded}");
        // The upstream's side of the connection is closed: its further events find nobody.
        let target = format!("case={case}");
        (0..40).for_each(|_| stage.behind.open_gate(case));
        let sent = stage.behind.wait("the end of the stream", |log| {
            let entry = log.iter().find(|entry| entry.target.contains(&target))?;
            (entry.sent != Sent::Running).then_some(entry.sent)
        });
        assert_eq!(sent, Sent::ClientGone, "{case}");
    }
}

#[test]
fn a_request_that_breaks_off_is_on_record_as_far_as_it_came() {
    let stage = Stage::new();
    let mut request = scripted("upload", "hello", true);
    request.body = b"{\"half\": ".repeat(1000);
    let request = request.field("Content-Length", "100000");
    let mut connection = Connection::open(stage.recorder.address()).unwrap();
    connection.request(&request).unwrap();
    drop(connection);
    let recorded = stage.place.recorded("case=upload");
    assert_eq!(recorded["outcome"], "client_aborted", "{recorded}");
    assert_eq!(stage.place.part(recorded["id"].as_str().unwrap(), "request-body"), request.body);
}

#[test]
fn an_upstream_that_cannot_be_reached_is_a_502_in_the_apis_own_shape() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let place = Place::new();
    let recorder = place.kgb(&format!("http://{nobody}"));
    let request = scripted("refused", "hello", true);
    let seen = exchange(recorder.address(), &request);
    assert_eq!((seen.status(), seen.get("x-iccm-error")), (Some(502), Some("upstream_unreachable")));
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!((&body["type"], &body["error"]["type"]), (&Value::from("error"), &Value::from("api_error")));
    let recorded = place.recorded("case=refused");
    assert_eq!(recorded["outcome"], "upstream_unreachable");
    let id = recorded["id"].as_str().unwrap();
    assert_eq!(place.part(id, "request-body"), request.body);
    assert_eq!(place.part(id, "response-body"), seen.body);
}

#[test]
fn the_gateway_serves_the_next_request_after_every_fault() {
    let stage = Stage::new();
    for fault in ["close_without_reply", "reset_mid_stream", "fin_mid_length", "status_529", "early_end"] {
        let _ = exchange(stage.recorder.address(), &faulty(fault, fault != "fin_mid_length"));
        let after = scripted(&format!("after-{fault}"), "hello", true);
        assert_eq!(exchange(stage.recorder.address(), &after).ending, Ending::Complete, "after {fault}");
    }
    let api: FakeApi = stage.behind;
    assert_eq!(api.log().len(), 10);
}
