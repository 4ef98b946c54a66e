//! Messages of connections: kept exactly, and joined to whose they are.

use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::*;
use wire::head::{Headers, RequestHead, ResponseHead};

use crate::agent::{Agent, exchange_at, stream, user};
use crate::lake::Lake;

const AT: i64 = 1_795_343_900_000_000;

pub(crate) fn frame(connection: Uuid, direction: Direction, at: i64, body: impl Into<Vec<u8>>) -> CapturedFrame {
    CapturedFrame {
        id: Uuid::now_v7(),
        connection_id: connection,
        at: Timestamp(AT + at),
        ended_at: Some(Timestamp(AT + at)),
        durability: Durability::Process,
        outcome: Outcome::Complete,
        direction,
        source: FrameSource::Spy,
        form: FrameForm::Text,
        server: "dewey".into(),
        session_id: None,
        body: Box::new(body.into()),
    }
}

pub(crate) fn call(id: u64, tool_use: &str) -> String {
    json!({"jsonrpc":"2.0","id":id,"method":"tools/call","params":{"name":"dewey_search","arguments":{"query":"x"},
        "_meta":{"claudecode/toolUseId":tool_use}}})
    .to_string()
}

pub(crate) fn result(id: u64, text: &str) -> String {
    json!({"jsonrpc":"2.0","id":id,"result":{"content":[{"type":"text","text":text}],"isError":false}}).to_string()
}

/// An exchange whose answer calls a tool.
fn asks_for(agent: &mut Agent, tool_use: &str) -> CapturedExchange {
    let block = json!({"type":"tool_use","id":tool_use,"name":"mcp__dewey__dewey_search","input":{"query":"x"}});
    agent.ask(&[user(&format!("please {tool_use}"))], &stream(&[block], true))
}

async fn frames(lake: &Lake, filter: FrameFilter) -> Vec<Frame> {
    lake.store.frames(filter).await.unwrap()
}

async fn body(lake: &Lake, id: Uuid) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert_eq!(lake.store.frame_body(id, &mut bytes).await.unwrap(), Some(true));
    bytes
}

pub(crate) async fn messages_come_back_exactly_and_once(lake: Lake) {
    let connection = Uuid::now_v7();
    let large: Vec<u8> = (0..9_000_000u32).flat_map(|n| n.to_le_bytes().into_iter().take(1)).collect();
    let bodies: [Vec<u8>; 5] =
        [call(1, "toolu_x").into_bytes(), Vec::new(), b"not JSON \xff".to_vec(), large.clone(), b"[1]".to_vec()];
    let mut ids = Vec::new();
    for bytes in &bodies {
        let item = || {
            let mut frame = frame(connection, Direction::ToServer, 0, bytes.clone());
            frame.id = Uuid::from_u128(ids.len() as u128 + 1);
            Item::Frame(Box::new(frame))
        };
        let seq = ids.len() as u64;
        for _ in 0..2 {
            lake.store.append(Batch { recorder: lake.recorder, items: vec![(seq, item())] }).await.unwrap();
        }
        ids.push(Uuid::from_u128(ids.len() as u128 + 1));
    }
    let end = ConnectionEnd {
        connection_id: connection,
        at: Timestamp(AT),
        outcome: Outcome::Complete,
        by_client: Some((1000, "done".into())),
        by_server: None,
    };
    let watermark =
        lake.store.append(Batch { recorder: lake.recorder, items: vec![(5, Item::ConnectionEnd(end))] }).await.unwrap();
    assert_eq!(watermark.contiguous, 6);
    for (id, bytes) in ids.iter().zip(&bodies) {
        assert!(body(&lake, *id).await == *bytes);
    }
    let found = frames(&lake, FrameFilter { connection_id: Some(connection), ..FrameFilter::default() }).await;
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), ids);
    assert_eq!(found.iter().map(|f| f.bytes).collect::<Vec<_>>(), bodies.each_ref().map(|b| b.len() as u64));
    assert_eq!((found[0].method.as_deref(), found[0].rpc_id.as_deref()), (Some("tools/call"), Some("1")));
    let stats = lake.store.stats().await.unwrap();
    assert_eq!(stats.mcp_frames, 5);
    assert_eq!(stats.captured_bytes, bodies.iter().map(|b| b.len() as u64).sum::<u64>());
    assert_eq!(lake.store.frame_body(Uuid::now_v7(), &mut Vec::new()).await.unwrap(), None);
}

pub(crate) async fn a_call_belongs_to_the_conversation_whose_model_asked(mut lake: Lake) {
    let mut agent = Agent::new("S");
    let (before, after) = (Uuid::now_v7(), Uuid::now_v7());
    // The model's exchange is stored first …
    lake.record(asks_for(&mut agent, "toolu_1")).await;
    lake.keep_frame(frame(before, Direction::ToServer, 0, r#"{"id":0,"method":"initialize"}"#)).await;
    lake.keep_frame(frame(before, Direction::ToServer, 1000, call(1, "toolu_1"))).await;
    lake.keep_frame(frame(before, Direction::ToClient, 13_500, result(1, "found"))).await;
    // … or last.
    lake.keep_frame(frame(after, Direction::ToServer, 2000, call(1, "toolu_2"))).await;
    lake.keep_frame(frame(after, Direction::ToClient, 4000, result(1, "late"))).await;
    assert_eq!(frames(&lake, FrameFilter { session_id: Some("S".into()), ..FrameFilter::default() }).await.len(), 3);
    lake.record(asks_for(&mut agent, "toolu_2")).await;

    let found = frames(&lake, FrameFilter { session_id: Some("S".into()), ..FrameFilter::default() }).await;
    assert_eq!(found.len(), 5, "initialize goes with its connection");
    let conversations = lake.conversations().await;
    let of = |index: usize| Some(conversations[index].id);
    let owners: Vec<_> = found.iter().map(|f| f.conversation_id).collect();
    assert_eq!(owners, [None, of(0), of(0), of(1), of(1)]);
    assert!(found[1..].iter().all(|f| f.tool_use_id.is_some()));

    let ids = ["toolu_2", "toolu_1", "toolu_unknown"].map(str::to_owned).to_vec();
    let calls = lake.store.tool_calls(ids).await.unwrap();
    assert_eq!(calls.iter().map(|c| c.tool_use_id.as_str()).collect::<Vec<_>>(), ["toolu_1", "toolu_2"]);
    let first = &calls[0];
    assert_eq!((first.server.as_str(), first.tool.as_deref()), ("dewey", Some("dewey_search")));
    assert_eq!((first.duration_ms, first.is_error), (Some(12.5), false));
    assert_eq!(first.arguments, json!({"query": "x"}));
    assert_eq!(first.result["content"][0]["text"], "found");
}

pub(crate) async fn a_call_that_relay_and_spy_have_both_seen_is_one(mut lake: Lake) {
    let mut agent = Agent::new("S");
    lake.record(asks_for(&mut agent, "toolu_1")).await;
    let hello = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let by_relay = |frame| CapturedFrame { source: FrameSource::Relay, server: "library".into(), ..frame };
    let (through, direct, spied) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    // The two recorders are stored in any order.
    for (connection, is_relay) in [(through, true), (spied, false)] {
        for (direction, text) in [
            (Direction::ToServer, hello.to_owned()),
            (Direction::ToServer, call(7, "toolu_1")),
            (Direction::ToClient, result(7, "found")),
        ] {
            let seen = frame(connection, direction, 0, text);
            lake.keep_frame(if is_relay { by_relay(seen) } else { seen }).await;
        }
    }
    // The same tool call asks another server, too, which no spy stands before.
    lake.keep_frame(by_relay(frame(direct, Direction::ToServer, 9, call(8, "toolu_1")))).await;

    let calls = lake.store.tool_calls(vec!["toolu_1".into()]).await.unwrap();
    let told: Vec<_> = calls.iter().map(|call| (call.source, call.duration_ms.is_some())).collect();
    assert_eq!(told, [(FrameSource::Spy, true), (FrameSource::Relay, false)]);
    assert_eq!(lake.store.stats().await.unwrap().mcp_frames, 4, "three of the spy's connection, one of the other");
    let all = frames(&lake, FrameFilter::default()).await;
    assert_eq!(all.len(), 7, "both copies are kept");
    assert_eq!(body(&lake, all[1].id).await, call(7, "toolu_1").into_bytes());
}

pub(crate) async fn a_session_that_the_client_names_goes_first(mut lake: Lake) {
    let connection = Uuid::now_v7();
    lake.record(asks_for(&mut Agent::new("S"), "toolu_1")).await;
    let named = CapturedFrame {
        session_id: Some("named".into()),
        ..frame(connection, Direction::ToServer, 0, call(1, "toolu_1"))
    };
    lake.keep_frame(named).await;
    let meta = json!({"id":1,"method":"initialize","params":{"_meta":{"sessionId":"by meta"}}}).to_string();
    lake.keep_frame(frame(Uuid::now_v7(), Direction::ToServer, 0, meta)).await;
    lake.keep_frame(frame(Uuid::now_v7(), Direction::ToServer, 0, r#"{"id":1,"method":"ping"}"#)).await;
    let sessions: Vec<_> =
        frames(&lake, FrameFilter::default()).await.into_iter().map(|frame| frame.session_id).collect();
    assert_eq!(sessions, [Some("named".into()), Some("by meta".into()), None]);
}

pub(crate) async fn failures_and_silence_are_told(mut lake: Lake) {
    let connection = Uuid::now_v7();
    lake.keep_frame(frame(connection, Direction::ToServer, 0, call(1, "toolu_1"))).await;
    lake.keep_frame(frame(connection, Direction::ToServer, 0, call(2, "toolu_2"))).await;
    lake.keep_frame(frame(connection, Direction::ToServer, 0, call(3, "toolu_3"))).await;
    // The server asks something under the same id; that is no answer.
    lake.keep_frame(frame(connection, Direction::ToClient, 1, r#"{"id":1,"method":"ping"}"#)).await;
    lake.keep_frame(frame(connection, Direction::ToClient, 2, r#"{"id":2,"error":{"code":-1,"message":"no"}}"#)).await;
    lake.keep_frame(frame(connection, Direction::ToClient, 3, r#"{"id":3,"result":{"isError":true}}"#)).await;
    let calls = lake.store.tool_calls((1..4).map(|n| format!("toolu_{n}")).collect()).await.unwrap();
    let told: Vec<_> = calls.iter().map(|c| (c.response_id.is_some(), c.is_error)).collect();
    assert_eq!(told, [(false, false), (true, true), (true, true)]);
    assert_eq!(calls[1].result["message"], "no");
}

/// An exchange with a Streamable HTTP server.
fn over_http(request: &str, response: &str, sse: bool) -> CapturedExchange {
    let fields = |fields: &[(&str, &str)]| {
        Headers(fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect())
    };
    let content_type = if sse { "text/event-stream" } else { "application/json" };
    CapturedExchange {
        server: Some("far".into()),
        request_head: RequestHead {
            method: "POST".into(),
            target: "/mcp/far".into(),
            version: "HTTP/1.1".into(),
            headers: fields(&[("mcp-session-id", "M")]),
        },
        response_head: Some(ResponseHead {
            status: 200,
            version: "HTTP/1.1".into(),
            headers: fields(&[("content-type", content_type)]),
        }),
        ..exchange_at(Timestamp(AT), "/mcp/far", &[], request.into(), response.as_bytes(), Outcome::Complete)
    }
}

pub(crate) async fn messages_within_http_exchanges_are_found(mut lake: Lake) {
    lake.record(asks_for(&mut Agent::new("S"), "toolu_1")).await;
    let events = format!("data: {{\"method\":\"notifications/progress\"}}\n\ndata: {}\n\n", result(1, "streamed"));
    let mut streamed = over_http(&call(1, "toolu_1"), &events, true);
    let first = events.find("\n\n").unwrap() as u64 + 2;
    streamed.response_chunks = vec![
        ChunkTiming { after_us: 1000, bytes: first },
        ChunkTiming { after_us: 7000, bytes: events.len() as u64 - first },
    ];
    let id = lake.record(streamed).await;
    lake.record(over_http(&format!("[{},{}]", call(2, "toolu_2"), call(3, "toolu_3")), &result(3, "three"), false))
        .await;
    lake.record(over_http("", "not found", false)).await;

    let found = frames(&lake, FrameFilter::default()).await;
    let told: Vec<_> = found.iter().map(|f| (f.direction, f.method.as_deref(), f.rpc_id.as_deref())).collect();
    use Direction::{ToClient, ToServer};
    let expected = [
        (ToServer, Some("tools/call"), Some("1")),
        (ToClient, Some("notifications/progress"), None),
        (ToClient, None, Some("1")),
        (ToServer, Some("tools/call"), Some("2")),
        (ToServer, Some("tools/call"), Some("3")),
        (ToClient, None, Some("3")),
    ];
    assert_eq!(told, expected);
    assert!(found.iter().all(|f| f.source == FrameSource::SpyHttp && f.connection_id == found[0].connection_id));
    assert_eq!(body(&lake, found[2].id).await, result(1, "streamed").into_bytes());
    let calls = lake.store.tool_calls(vec!["toolu_1".into(), "toolu_3".into()]).await.unwrap();
    assert_eq!(calls.iter().map(|c| c.duration_ms).collect::<Vec<_>>(), [Some(7.0), Some(9.0)]);
    let exchange = lake.store.exchange(id).await.unwrap().unwrap();
    assert_eq!(exchange.kind, Kind::Other);
}

pub(crate) async fn an_erased_conversation_takes_its_tool_calls_with_it(mut lake: Lake) {
    let mut agent = Agent::new("S");
    let connection = Uuid::now_v7();
    lake.record(asks_for(&mut agent, "toolu_1")).await;
    lake.keep_frame(frame(connection, Direction::ToServer, 0, call(1, "toolu_1"))).await;
    lake.keep_frame(frame(connection, Direction::ToClient, 1, result(1, "a secret to forget"))).await;
    lake.keep_frame(frame(connection, Direction::ToServer, 2, r#"{"id":9,"method":"ping"}"#)).await;
    let http = lake.record(over_http(&call(1, "toolu_1"), &result(1, "a secret to forget"), false)).await;
    let going = lake.conversations().await[0].id;
    lake.store.delete_conversation(going, true).await.unwrap();
    let found = frames(&lake, FrameFilter::default()).await;
    assert_eq!(found.len(), 5, "their places stay");
    for frame in &found {
        let kept = lake.store.frame_body(frame.id, &mut Vec::new()).await.unwrap();
        assert_eq!(kept, Some(frame.method.as_deref() == Some("ping")), "{frame:?}");
    }
    assert_eq!(lake.store.part(http, Part::ResponseBody, &mut Vec::new()).await.unwrap(), Some(false));
    let calls: Vec<Value> =
        lake.store.tool_calls(vec!["toolu_1".into()]).await.unwrap().into_iter().map(|call| call.result).collect();
    assert!(calls.iter().all(Value::is_null), "{calls:?}");
}

pub(crate) async fn the_session_whose_model_made_a_call_is_known(mut lake: Lake) {
    let known = async |lake: &Lake, id: &str| lake.store.session_of_tool_use(id.to_owned()).await.unwrap();
    // The server's side alone says nothing of whose model asked.
    lake.keep_frame(frame(Uuid::now_v7(), Direction::ToServer, 0, call(1, "toolu_1"))).await;
    assert_eq!(known(&lake, "toolu_1").await, None);
    let (mut one, mut other) = (Agent::new("s1"), Agent::new("s2"));
    lake.record(asks_for(&mut one, "toolu_1")).await;
    lake.record(asks_for(&mut other, "toolu_2")).await;
    assert_eq!(known(&lake, "toolu_1").await.as_deref(), Some("s1"));
    assert_eq!(known(&lake, "toolu_2").await.as_deref(), Some("s2"));
    for nobody in ["toolu_3", "", "toolu_1' OR '1'='1", "toolu_\u{fffd}"] {
        assert_eq!(known(&lake, nobody).await, None, "{nobody:?}");
    }
    // Another process on the same database sees the same.
    assert_eq!(lake.again().await.session_of_tool_use("toolu_2".into()).await.unwrap().as_deref(), Some("s2"));
    let erased = lake.conversations().await.into_iter().find(|c| c.session_id == "s1").unwrap().id;
    lake.store.delete_conversation(erased, true).await.unwrap();
    assert_eq!(known(&lake, "toolu_1").await, None, "an erased conversation takes its calls with it");
    assert_eq!(known(&lake, "toolu_2").await.as_deref(), Some("s2"));
}
