//! What is known of one conversation, joined for reading.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::{Conversation, ConversationFilter, Exchange, ExchangeFilter, ToolCall, Turn};
use winni::store::Store;

use super::blocks::{Block, blocks, preview};
use super::calls::{Claim, claim};

/// A conversation with all that is shown of it.
pub(super) struct Transcript {
    pub(super) conversation: Conversation,
    pub(super) turns: Vec<Turn>,
    /// Its sub-agents' conversations, oldest first.
    pub(super) sub_agents: Vec<SubAgent>,
    pub(super) totals: Totals,
    /// What became of its model's tool calls at MCP servers, in the order of the asking.
    pub(super) tool_calls: Vec<ToolCall>,
    /// What those calls have stored and is still there, by the message that asked for it.
    pub(super) stored: HashMap<Uuid, Vec<Turn>>,
}

/// A conversation that an agent of this one was started for.
pub(super) struct SubAgent {
    pub(super) conversation: Conversation,
    /// The `tool_use.id` of the call that started it, if it is known.
    pub(super) started_by: Option<String>,
}

/// Sums over a conversation's exchanges.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Totals {
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) cache_read_tokens: u64,
    pub(super) cache_write_tokens: u64,
    /// Exchanges that did not end with `complete`.
    pub(super) incomplete_exchanges: u64,
}

impl Transcript {
    pub(super) async fn load(store: &dyn Store, conversation: Conversation) -> anyhow::Result<Self> {
        let turns = store.turns(conversation.id, 0, None).await?;
        let filter = ExchangeFilter { conversation_id: Some(conversation.id), ..ExchangeFilter::default() };
        let totals = Totals::of(&store.exchanges(filter).await?);
        let sub_agents = sub_agents(store, &conversation, &turns).await?;
        let tool_calls = store.tool_calls(tool_use_ids(&turns)).await?;
        let stored = stored(store, &tool_calls).await?;
        Ok(Self { conversation, turns, sub_agents, totals, tool_calls, stored })
    }

    /// What a tool call came to at MCP servers.
    pub(super) fn served<'a>(&'a self, tool_use_id: &'a str) -> impl Iterator<Item = &'a ToolCall> {
        self.tool_calls.iter().filter(move |call| call.tool_use_id == tool_use_id)
    }

    /// The messages that a call has stored.
    pub(super) fn stored_by(&self, call: &ToolCall) -> &[Turn] {
        self.stored.get(&call.request_id).map_or(&[], Vec::as_slice)
    }

    /// The sub-agents that a tool call started.
    pub(super) fn started_by<'a>(&'a self, tool_use_id: &'a str) -> impl Iterator<Item = &'a SubAgent> {
        self.sub_agents.iter().filter(move |agent| agent.started_by.as_deref() == Some(tool_use_id))
    }

    /// The sub-agents whose start is not known.
    pub(super) fn unattached(&self) -> impl Iterator<Item = &SubAgent> {
        self.sub_agents.iter().filter(|agent| agent.started_by.is_none())
    }

    /// The names of the tools by the ids of their calls: a result names only the id.
    pub(super) fn tool_names(&self) -> HashMap<&str, &str> {
        let mut names = HashMap::new();
        for turn in &self.turns {
            for block in blocks(&turn.content) {
                if let Block::ToolUse { id, name, .. } = block {
                    names.insert(id, name);
                }
            }
        }
        names
    }

    /// The conversation's fields, its turns, its sub-agents and its totals in one object.
    pub(super) fn as_json(&self) -> Value {
        let agents: Vec<Value> = self
            .sub_agents
            .iter()
            .map(|agent| json!({"conversation_id": agent.conversation.id, "tool_use_id": agent.started_by}))
            .collect();
        let mut object = json!(self.conversation);
        if let Some(fields) = object.as_object_mut() {
            fields.insert("turns".into(), json!(self.turns));
            fields.insert("sub_agents".into(), json!(agents));
            fields.insert("tool_calls".into(), self.tool_calls.iter().map(|call| self.call_as_json(call)).collect());
            fields.insert("totals".into(), json!(self.totals));
        }
        object
    }

    /// A call, and the messages that it has stored.
    fn call_as_json(&self, call: &ToolCall) -> Value {
        let mut object = json!(call);
        if let Some(fields) = object.as_object_mut() {
            fields.insert("stored".into(), json!(self.stored_by(call)));
        }
        object
    }
}

impl Totals {
    pub(super) fn of(exchanges: &[Exchange]) -> Self {
        let sum = |count: fn(&Exchange) -> Option<u64>| exchanges.iter().filter_map(count).sum();
        let incomplete = exchanges.iter().filter(|e| e.outcome != winni::model::Outcome::Complete).count();
        Self {
            input_tokens: sum(|e| e.input_tokens),
            output_tokens: sum(|e| e.output_tokens),
            cache_read_tokens: sum(|e| e.cache_read_tokens),
            cache_write_tokens: sum(|e| e.cache_write_tokens),
            incomplete_exchanges: incomplete as u64,
        }
    }
}

/// The ids of the model's tool calls, in order.
fn tool_use_ids(turns: &[Turn]) -> Vec<String> {
    let of_turn = |turn: &Turn| -> Vec<String> {
        let calls = blocks(&turn.content).into_iter().filter_map(|block| match block {
            Block::ToolUse { id, .. } if !id.is_empty() => Some(id.to_owned()),
            _ => None,
        });
        calls.collect()
    };
    turns.iter().flat_map(of_turn).collect()
}

/// Looks up what calls say that they have stored: a server can say anything, and messages can be erased.
async fn stored(store: &dyn Store, calls: &[ToolCall]) -> anyhow::Result<HashMap<Uuid, Vec<Turn>>> {
    let mut found = HashMap::new();
    for call in calls {
        let Some(Claim { conversation, messages, turn }) = claim(call) else { continue };
        if store.conversation(conversation).await?.is_none() {
            continue;
        }
        let (offset, limit) = turn.map_or((0, None), |turn| (turn.saturating_sub(1), Some(1)));
        let mut turns = store.turns(conversation, offset, limit).await?;
        turns.retain(|turn| messages.contains(&turn.id));
        found.insert(call.request_id, turns);
    }
    Ok(found)
}

async fn sub_agents(store: &dyn Store, parent: &Conversation, turns: &[Turn]) -> anyhow::Result<Vec<SubAgent>> {
    let filter = ConversationFilter { session_id: Some(parent.session_id.clone()), ..ConversationFilter::default() };
    let mut children: Vec<Conversation> = store.conversations(filter).await?;
    children.retain(|c| c.parent_conversation_id == Some(parent.id));
    children.sort_by_key(|c| c.created_at);
    let mut agents: Vec<SubAgent> = Vec::new();
    for conversation in children {
        let started_by = match conversation.metadata.get("tool_use_id").and_then(Value::as_str) {
            Some(id) => Some(id.to_owned()),
            None => call_with_prompt(turns, &first_words(store, conversation.id).await?, &agents),
        };
        agents.push(SubAgent { conversation, started_by });
    }
    Ok(agents)
}

/// What a conversation begins with.
async fn first_words(store: &dyn Store, conversation: Uuid) -> anyhow::Result<String> {
    let turns = store.turns(conversation, 0, Some(4)).await?;
    let users: Vec<String> = turns.iter().filter(|t| t.role == "user").map(|t| preview(&t.content)).collect();
    Ok(users.join("\n"))
}

/// The tool call whose prompt a sub-agent's conversation begins with: how Claude Code's sub-agents are started. Calls that
/// explain another sub-agent already are passed over, so that equal prompts are told apart by their order.
fn call_with_prompt(turns: &[Turn], first_words: &str, known: &[SubAgent]) -> Option<String> {
    let taken = |id: &str| known.iter().any(|agent| agent.started_by.as_deref() == Some(id));
    for turn in turns {
        for block in blocks(&turn.content) {
            let Block::ToolUse { id, input, .. } = block else {
                continue;
            };
            let prompt = input.get("prompt").and_then(Value::as_str).map(str::trim).unwrap_or("");
            if !prompt.is_empty() && first_words.contains(prompt) && !taken(id) {
                return Some(id.to_owned());
            }
        }
    }
    None
}
