//! `iccm dewey` over a record of its own, in either database.

use std::io::BufReader;
use std::process::ChildStdout;
use std::time::Duration;

use e2e::mcp::Mcp;
use e2e::process::{self, Running};
use e2e::recorder::Place;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Where the record is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    /// A place with an empty record.
    pub(crate) fn place(self) -> Place {
        match self {
            Self::Sqlite => Place::new(),
            Self::Postgres => {
                let database = e2e::postgres::shared().database();
                Place::new().with_arguments(&["--database", database.url()])
            }
        }
    }
}

/// `iccm dewey`. Killed when dropped.
pub(crate) struct Dewey {
    running: Running,
    _stdout: BufReader<ChildStdout>,
    pub(crate) mcp: Mcp,
    pub(crate) url: String,
    pub(crate) place: Place,
}

impl Dewey {
    pub(crate) fn start(backend: Backend) -> Self {
        Self::at(backend.place())
    }

    pub(crate) fn at(place: Place) -> Self {
        let import = place.data_dir().join("import");
        std::fs::create_dir_all(&import).unwrap();
        let lines = "{\"role\":\"user\",\"content\":\"one\"}\n{\"role\":\"assistant\",\"content\":\"two\"}\n";
        std::fs::write(import.join("messages.jsonl"), lines).unwrap();
        let command = place.command(["dewey", "--json", "--dewey-listen", "127.0.0.1:0"]);
        let (mut running, mut stdout) = Running::start_reading(command);
        let ready: Value = serde_json::from_str(&process::first_line(&mut running, &mut stdout)).unwrap();
        let url = ready["dewey"].as_str().unwrap().to_owned();
        Self { running, _stdout: stdout, mcp: Mcp::of_url(&ready["dewey"]), url, place }
    }

    pub(crate) fn websocket_url(&self) -> String {
        self.url.replace("http://", "ws://")
    }

    /// How many conversations are on record, by its own count.
    pub(crate) fn total(&self) -> u64 {
        self.mcp.call("dewey_list_conversations", &json!({})).json()["total"].as_u64().unwrap()
    }

    pub(crate) fn begin(&self) -> String {
        self.mcp.call("dewey_begin_conversation", &json!({})).json()["conversation_id"].as_str().unwrap().to_owned()
    }

    /// Everything that its tools tell of what is stored.
    pub(crate) fn told(&self) -> Value {
        let call = |tool: &str, arguments: Value| self.mcp.call(tool, &arguments).json();
        let listed = call("dewey_list_conversations", json!({"limit": 100}));
        let conversations = listed["conversations"].as_array().unwrap().iter();
        let shown: Vec<Value> =
            conversations.map(|c| call("dewey_get_conversation", json!({"conversation_id": c["id"]}))).collect();
        let contexts = call("dewey_list_startup_contexts", json!({"include_content": true}));
        json!([listed, shown, contexts, self.place.json_lines(&["stats"])])
    }

    pub(crate) fn stop(mut self) {
        self.running.signal(Signal::TERM);
        let finished = self.running.end(Duration::from_secs(30));
        assert_eq!(finished.code(), 0);
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    }
}
