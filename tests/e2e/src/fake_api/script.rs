//! What the fake model says, step by step.
//!
//! A script is chosen by `SCRIPT:name` in the newest user text; its step is the number of answers since. The last step
//! of every script calls no tool, so that the agent's loop ends. No script's text contains a marker, except the prompts
//! of sub-agents, which name the sub-agent's own script.

use serde_json::{Value, json};

use super::answer::Block;
use super::request::{MessageRequest, SideCall};

/// Answers of the `long` script, its sub-agent's not counted: the fourteen steps call tools, the last one ends it.
pub const LONG_STEPS: usize = 15;

/// The blocks of the answer to a request.
pub fn answer(request: &MessageRequest) -> Vec<Block> {
    if let Some(side) = request.side_call() {
        return vec![Block::text(side_answer(side, request))];
    }
    let (name, step) = request.wishes.script.clone().unwrap_or(("hello".to_owned(), 0));
    let folder = request.wishes.folder.clone().unwrap_or_else(|| "/tmp".to_owned());
    let stage = Stage { request, folder, step };
    match name.as_str() {
        "long" => stage.long(),
        "think" => vec![
            Block::Thinking("The user wants a thought. Here is one, with a few words in it.".to_owned()),
            Block::RedactedThinking("RW5jcnlwdGVk".to_owned()),
            Block::text("I have thought about it."),
        ],
        "tools" => stage.then("Both tools have run.", &[vec![stage.write(0), stage.bash("echo parallel; seq 1 5")]]),
        "read" => stage.then("The folder has been read.", &[vec![stage.bash("ls | wc -l")]]),
        "agent" => stage.then("The agent has reported.", &[vec![stage.agent("read", false)]]),
        "agents" => {
            stage.then("Both agents have reported.", &[vec![stage.agent("read", false), stage.agent("think", false)]])
        }
        "nested" => stage.then("The outer agent has reported.", &[vec![stage.agent("agent", false)]]),
        "background" => stage.then("The background agent is on its way.", &[vec![stage.agent("read", true)]]),
        "dewey" => stage.dewey("mcp__dewey__"),
        "library" => stage.dewey("mcp__relay__"),
        "librarian" => stage.librarian(),
        "errands" => {
            let errand = |tool: &str| vec![Block::tool(&format!("mcp__relay__own_{tool}"), json!({}))];
            stage.then("Both errands are run.", &[errand("near"), errand("direct")])
        }
        "relay" => stage.then(
            "The added tool has answered.",
            &[
                vec![Block::tool(
                    "mcp__relay__relay_add_server",
                    json!({"name": "added", "command": request.wishes.server, "args": ["stdio", "legacy", "added"]}),
                )],
                vec![Block::tool("mcp__relay__own_added", json!({}))],
            ],
        ),
        "fiedler" => stage.then(
            "The orchestra has played.",
            &[vec![Block::tool("mcp__relay__fiedler_send", json!({"prompt": "Sing", "models": ["gpt-4o", "grok"]}))]],
        ),
        "exit" => stage.then("The command has run.", &[vec![stage.bash("exit 3")]]),
        other => vec![Block::text(stage.plain(other))],
    }
}

struct Stage<'a> {
    request: &'a MessageRequest,
    folder: String,
    step: usize,
}

impl Stage<'_> {
    /// Fifteen answers: files written, read and run, two tools at once, thinking, and one sub-agent.
    fn long(&self) -> Vec<Block> {
        let n = self.step;
        let says = |text: String| Block::text(text);
        match n {
            n if n + 1 >= LONG_STEPS => vec![says("All fourteen steps are done.".to_owned())],
            6 => vec![says(format!("Step {n}: a sub-agent looks at the files.")), self.agent("read", false)],
            n if n % 4 == 0 => vec![says(format!("Step {n}: write a module.")), self.write(n)],
            n if n % 4 == 1 => vec![self.read(n - 1)],
            n if n % 4 == 2 => vec![
                Block::Thinking(format!("Step {n}: the module exists, now let us see what it does when it is run.")),
                self.bash(&format!("wc -c mod{}.py; seq 1 60", n - 2)),
            ],
            n => vec![says(format!("Step {n}: two at once.")), self.bash(&format!("echo {n}; ls")), self.read(n - 3)],
        }
    }

    /// Tools of Dewey, as the MCP server `dewey` of a client or behind its relay: stored, read, listed, found.
    fn dewey(&self, prefix: &str) -> Vec<Block> {
        let call = |tool: &str, input: Value| vec![Block::tool(&format!("{prefix}dewey_{tool}"), input)];
        let messages = json!([
            {"role": "user", "content": "Where does the albatross nest?"},
            {"role": "assistant", "content": [{"type": "text", "text": "On the island."}]},
        ]);
        self.then(
            "The library knows it all.",
            &[
                call("set_startup_context", json!({"name": "claude", "content": "Remember the albatross."})),
                call("get_startup_context", json!({})),
                call("store_messages_bulk", json!({"messages": messages, "session_id": "from-claude"})),
                call("list_conversations", json!({"session_id": "from-claude"})),
                call("search", json!({"query": "albatross", "session_id": "from-claude"})),
                call("store_message", json!({"conversation_id": "nonsense", "role": "user", "content": "x"})),
            ],
        )
    }

    /// A message stored with Dewey's tools, which the relay offers: the second call needs what the first one gave.
    fn librarian(&self) -> Vec<Block> {
        let call = |tool: &str, input: Value| vec![Block::tool(&format!("mcp__relay__dewey_{tool}"), input)];
        let conversation = self.request.told("conversation_id").unwrap_or_default();
        let message =
            json!({"conversation_id": conversation, "role": "user", "content": "The heron nests in the reeds."});
        let steps =
            [call("begin_conversation", json!({"session_id": "from-the-relay"})), call("store_message", message)];
        self.then("The librarian has it.", &steps)
    }

    fn then(&self, end: &str, steps: &[Vec<Block>]) -> Vec<Block> {
        steps.get(self.step).cloned().unwrap_or_else(|| vec![Block::text(end)])
    }

    fn plain(&self, name: &str) -> String {
        match self.request.wishes.bytes {
            Some(bytes) => "All work and no play makes a dull recording. ".chars().cycle().take(bytes).collect(),
            None => format!("This is the answer of the script {name}."),
        }
    }

    fn write(&self, n: usize) -> Block {
        let functions: String = (0..30)
            .map(|i| format!("def f{n}_{i}(x):\n    \"\"\"doc {i}\"\"\"\n    return x * {i} + {n}\n\n"))
            .collect();
        Block::tool("Write", json!({"file_path": format!("{}/mod{n}.py", self.folder), "content": functions}))
    }

    fn read(&self, n: usize) -> Block {
        Block::tool("Read", json!({"file_path": format!("{}/mod{n}.py", self.folder)}))
    }

    fn bash(&self, command: &str) -> Block {
        Block::tool("Bash", json!({"command": command, "description": "Run a small command"}))
    }

    /// A call of a sub-agent whose prompt carries its own script. The tool is called `Agent` from 2.1 on, `Task` before.
    fn agent(&self, script: &str, background: bool) -> Block {
        let name = if self.request.tool("Task").is_some() { "Task" } else { "Agent" };
        let mut input = json!({
            "description": format!("Run {script}"),
            "prompt": format!("SCRIPT:{script} DIR:{} Do it and report.", self.folder),
            "subagent_type": "general-purpose",
        });
        if self
            .request
            .tool(name)
            .is_some_and(|tool| tool["input_schema"]["properties"]["run_in_background"].is_object())
        {
            input["run_in_background"] = Value::Bool(background);
        }
        Block::tool(name, input)
    }
}

fn side_answer(side: SideCall, request: &MessageRequest) -> String {
    match side {
        SideCall::Title => json!({"title": "A scripted session", "branch": "claude/scripted-session"}).to_string(),
        SideCall::Compaction => {
            "<analysis>\nThe session ran a script.\n</analysis>\n\n<summary>\n1. Primary Request and \
             Intent: run a scripted session.\n2. Pending Tasks: none.\n</summary>"
                .to_owned()
        }
        SideCall::Short => short_answer(&request.json.to_string()),
    }
}

fn short_answer(body: &str) -> String {
    if body.contains("isNewTopic") {
        json!({"isNewTopic": true, "title": "Scripted session"}).to_string()
    } else if body.contains("command prefix") {
        "none".to_owned()
    } else if body.contains("title for the conversation") {
        "Scripted session".to_owned()
    } else if body.contains("Files modified by") {
        "mod0.py\nmod4.py\nmod8.py\nmod12.py\nREADME.md".to_owned()
    } else if body.contains("is_displaying_contents") {
        "<is_displaying_contents>\nfalse\n</is_displaying_contents>\n\n<filepaths>\n</filepaths>".to_owned()
    } else {
        "OK".to_owned()
    }
}
