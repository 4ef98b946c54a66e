//! Many clients at once, over both transports.

use std::sync::Barrier;

use serde_json::json;

use crate::server::{Backend, Dewey};

pub(crate) fn many_writers_of_one_conversation_get_turns_without_gap_or_double(backend: Backend) {
    const WRITERS: usize = 32;
    const EACH: usize = 15;
    let dewey = Dewey::start(backend);
    let (conversation, together) = (dewey.begin(), Barrier::new(WRITERS));
    let write = |writer: usize| {
        let mut socket = writer.is_multiple_of(2).then(|| dewey.mcp.socket());
        together.wait();
        let store = |n: usize| {
            let message = json!({"conversation_id": conversation, "role": "user", "content": format!("{writer}/{n}")});
            let stored = match &mut socket {
                Some(socket) => socket.call("dewey_store_message", &message),
                None => dewey.mcp.call("dewey_store_message", &message),
            };
            let stored = stored.json();
            (stored["turn_number"].as_u64().unwrap(), format!("{writer}/{n}"))
        };
        (0..EACH).map(store).collect::<Vec<_>>()
    };
    let mut told: Vec<(u64, String)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    told.sort();
    let turns: Vec<u64> = told.iter().map(|(turn, _)| *turn).collect();
    assert_eq!(turns, (1..=(WRITERS * EACH) as u64).collect::<Vec<_>>());
    let shown = dewey.mcp.call("dewey_get_conversation", &json!({"conversation_id": conversation})).json();
    let kept: Vec<&str> =
        shown["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    let told: Vec<&str> = told.iter().map(|(_, content)| content.as_str()).collect();
    assert_eq!(kept, told, "each message stands where its writer was told");
    dewey.stop();
}

pub(crate) fn one_startup_context_is_active_however_many_are_set_at_once(backend: Backend) {
    const SETTERS: usize = 16;
    let dewey = Dewey::start(backend);
    let together = Barrier::new(SETTERS);
    std::thread::scope(|scope| {
        for setter in 0..SETTERS {
            let (dewey, together) = (&dewey, &together);
            scope.spawn(move || {
                let mut socket = setter.is_multiple_of(2).then(|| dewey.mcp.socket());
                together.wait();
                let context = json!({"name": format!("context {}", setter % 4), "content": setter.to_string()});
                let set = match &mut socket {
                    Some(socket) => socket.call("dewey_set_startup_context", &context),
                    None => dewey.mcp.call("dewey_set_startup_context", &context),
                };
                assert_eq!(set.json()["is_active"], true);
            });
        }
    });
    let listed = dewey.mcp.call("dewey_list_startup_contexts", &json!({})).json();
    let contexts = listed["contexts"].as_array().unwrap();
    assert_eq!(contexts.len(), 4);
    assert_eq!(contexts.iter().filter(|context| context["is_active"] == true).count(), 1);
    let versions: u64 = contexts.iter().map(|context| context["version"].as_u64().unwrap()).sum();
    assert_eq!(versions, SETTERS as u64, "every version is kept");
    dewey.stop();
}
