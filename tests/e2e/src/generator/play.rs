//! The session's course: who asks what next.

use serde_json::{Value, json};

use super::client::{Message, Speaker};
use super::{Exchange, Kind, Line, Session, Shape, prose};
use crate::fake_api::answer::{Answer, Block};
use crate::fake_api::replay::Recorded;
use crate::random::Random;

/// The user asks something new after so many answers.
const PROMPT_EVERY: usize = 6;

/// See [`super::session`].
pub(super) fn session(seed: u64, shape: &Shape) -> Session {
    let mut random = Random::new(seed);
    let speaker = Speaker { session: random.uuid(), device: random.hex(64), agent: None, parent_agent: None };
    let session = Session { id: speaker.session.clone(), exchanges: Vec::new(), lines: vec![Line::default()] };
    let mut play = Play { shape, random, session };
    let mut main = Agent { speaker, history: Vec::new(), line: 0 };
    play.main_agent(&mut main);
    play.session
}

struct Agent {
    speaker: Speaker,
    history: Vec<Message>,
    line: usize,
}

struct Play<'a> {
    shape: &'a Shape,
    random: Random,
    session: Session,
}

impl Play<'_> {
    fn main_agent(&mut self, main: &mut Agent) {
        let turns = self.shape.turns.max(1);
        self.first_prompt(main);
        for turn in 1..=turns {
            if falls_on(self.shape.retries, turns, turn) {
                self.failed_turn(main, turn);
            }
            if falls_beside_prompts(self.shape.sub_agents, turns, turn) {
                let nested = self.session.lines.iter().all(|line| line.parent.is_none());
                self.delegate(main, nested);
            } else if turn.is_multiple_of(PROMPT_EVERY) || turn == turns {
                let closing = prose::sentences(&mut self.random, 300);
                self.turn(main, vec![Block::text(closing)]);
                if turn < turns {
                    self.next_prompt(main, falls_on(self.shape.rewinds, turns / PROMPT_EVERY, turn / PROMPT_EVERY));
                }
            } else {
                self.work(main);
            }
        }
    }

    fn first_prompt(&mut self, agent: &mut Agent) {
        let prompt = prose::sentences(&mut self.random, 200);
        self.title(agent, &prompt);
        let reminder = format!("<system-reminder>\n{}</system-reminder>", prose::sentences(&mut self.random, 600));
        agent.history.push(Message::texts("user", [reminder, prompt]));
        if self.shape.client.has_system_messages() {
            let environment = prose::sentences(&mut self.random, 6_000);
            agent.history.push(Message::texts("system", [format!("# Environment\n{environment}")]));
        }
    }

    /// The user asks again; on a rewind, after having gone back to before the latest prompt.
    fn next_prompt(&mut self, agent: &mut Agent, rewind: bool) {
        let is_prompt =
            |message: &Message| message.role == "user" && message.blocks.iter().all(|b| b["type"] == "text");
        let latest = agent.history.iter().rposition(is_prompt).filter(|position| *position > 0);
        if let (true, Some(shared)) = (rewind, latest) {
            let forked_from = Some((agent.line, shared));
            agent.history.truncate(shared);
            agent.line = self.session.lines.len();
            self.session.lines.push(Line { forked_from, ..Line::default() });
        }
        let prompt = prose::sentences(&mut self.random, 120);
        self.title(agent, &prompt);
        agent.history.push(Message::texts("user", [prompt]));
    }

    /// One or two tool calls and their results.
    fn work(&mut self, agent: &mut Agent) {
        let mut blocks = Vec::new();
        if self.random.one_in(3) {
            blocks.push(Block::Thinking(prose::sentences(&mut self.random, 400)));
        }
        if self.random.one_in(2) {
            blocks.push(Block::text(prose::sentences(&mut self.random, 80)));
        }
        let random = &mut self.random;
        let path = format!("/home/user/project/{}_{}.py", prose::word(random), random.between(0, 50));
        let size = random.between(300, 3_000);
        let (input, result) = match random.between(0, 3) {
            0 => (json!({"file_path": path, "content": prose::code(random, size)}), "File created".to_owned()),
            1 => (json!({"file_path": path}), prose::listing(random, size)),
            _ => (json!({"command": "pytest -q", "description": "Run tests"}), prose::sentences(random, size)),
        };
        let name = if input["command"].is_string() {
            "Bash"
        } else if input["content"].is_string() {
            "Write"
        } else {
            "Read"
        };
        blocks.push(Block::tool(name, input));
        let mut results = vec![json!(result)];
        if self.random.one_in(4) {
            blocks.push(Block::tool("Read", json!({"file_path": path})));
            results.push(json!(prose::listing(&mut self.random, 500)));
        }
        let answer = self.turn(agent, blocks);
        agent.history.push(tool_results(&answer, results));
    }

    /// A sub-agent is started, works for two turns and reports.
    fn delegate(&mut self, agent: &mut Agent, nested: bool) {
        let task = prose::sentences(&mut self.random, 150);
        let input = json!({"description": "Look around", "prompt": task, "subagent_type": "general-purpose"});
        let answer = self.turn(agent, vec![Block::tool(self.shape.client.agent_tool(), input)]);
        let speaker = Speaker {
            agent: Some(format!("a{}", self.random.hex(16))),
            parent_agent: agent.speaker.agent.clone(),
            ..agent.speaker.clone()
        };
        let mut child = Agent { speaker, history: Vec::new(), line: self.session.lines.len() };
        self.session.lines.push(Line { parent: Some(agent.line), ..Line::default() });
        child
            .history
            .push(Message::texts("user", ["<system-reminder>\nYou work for an agent.\n</system-reminder>", &task]));
        self.work(&mut child);
        if nested {
            self.delegate(&mut child, false);
        }
        let report = prose::sentences(&mut self.random, 250);
        self.turn(&mut child, vec![Block::text(report.clone())]);
        agent.history.push(tool_results(&answer, vec![json!([{"type": "text", "text": report}])]));
    }

    fn title(&mut self, agent: &Agent, prompt: &str) {
        if self.shape.side_calls {
            let body = self.shape.client.title_call(&agent.speaker, prompt);
            let answer = self.answer(vec![Block::text("{\"title\":\"A generated session\"}")], body.len());
            self.push(&agent.speaker, body, 200, &answer.events().concat(), (Kind::Side, None, 0));
        }
    }

    /// A turn that is answered whole; the answer joins the history.
    fn turn(&mut self, agent: &mut Agent, blocks: Vec<Block>) -> Answer {
        let body = self.shape.client.turn(&agent.speaker, &agent.history);
        let answer = self.answer(blocks, body.len());
        let content = answer.content().as_array().cloned().unwrap_or_default();
        agent.history.push(Message { role: "assistant", blocks: content });
        let messages = agent.history.len();
        self.session.lines[agent.line].messages = messages;
        self.push(&agent.speaker, body, 200, &answer.events().concat(), (Kind::Message, Some(agent.line), messages));
        answer
    }

    /// A turn whose answer fails, by status or in the middle of its stream; the same bytes are sent again afterwards.
    fn failed_turn(&mut self, agent: &Agent, turn: usize) {
        let body = self.shape.client.turn(&agent.speaker, &agent.history);
        let text = prose::sentences(&mut self.random, 200);
        let whole = self.answer(vec![Block::text(text)], body.len()).events();
        let (status, answer) = if turn.is_multiple_of(2) {
            let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
            (529, error.to_string().into_bytes())
        } else {
            (200, whole[..whole.len() / 2].concat())
        };
        self.push(&agent.speaker, body, status, &answer, (Kind::Message, Some(agent.line), agent.history.len()));
        self.session.exchanges.last_mut().expect("just pushed").succeeded = false;
    }

    fn answer(&mut self, blocks: Vec<Block>, request_bytes: usize) -> Answer {
        Answer { id: self.random.hex(24), model: self.shape.client.model().to_owned(), blocks, request_bytes }
    }

    fn push(
        &mut self,
        speaker: &Speaker,
        body: Vec<u8>,
        status: u16,
        answer: &[u8],
        (kind, line, line_messages): (Kind, Option<usize>, usize),
    ) {
        let stream = status == 200;
        let content_type = if stream { "text/event-stream; charset=utf-8" } else { "application/json" };
        let mut response_headers = vec![("content-type".to_owned(), content_type.to_owned())];
        response_headers.push(("request-id".to_owned(), format!("req_{}", self.random.hex(24))));
        if stream {
            response_headers.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
        }
        let recorded = Recorded {
            method: "POST".to_owned(),
            target: "/v1/messages?beta=true".to_owned(),
            request_headers: self.shape.client.fields(speaker),
            request_body: body,
            status,
            response_headers,
            response_body: answer.to_vec(),
        };
        self.session.exchanges.push(Exchange { recorded, kind, line, line_messages, succeeded: true });
    }
}

/// Whether one of `times` events that are spread evenly over `turns` falls on `turn`.
fn falls_on(times: usize, turns: usize, turn: usize) -> bool {
    turn > 0 && (1..=times).any(|k| k * turns / (times + 1) == turn)
}

/// The same for events that a prompt's turn cannot have: they come a turn later.
fn falls_beside_prompts(times: usize, turns: usize, turn: usize) -> bool {
    let is_prompt = |turn: usize| turn.is_multiple_of(PROMPT_EVERY);
    !is_prompt(turn) && (falls_on(times, turns, turn) || (is_prompt(turn - 1) && falls_on(times, turns, turn - 1)))
}

fn tool_results(answer: &Answer, results: Vec<Value>) -> Message {
    let calls = answer.blocks.iter().enumerate().filter(|(_, block)| matches!(block, Block::Tool { .. }));
    let blocks = calls
        .zip(results)
        .map(|((i, _), content)| json!({"tool_use_id": answer.tool_id(i), "type": "tool_result", "content": content}))
        .collect();
    Message { role: "user", blocks }
}
