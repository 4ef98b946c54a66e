//! Agent sessions of the shape that real clients produce, from a seed.
//!
//! A session is a list of exchanges in the order in which they end, each with the exact bytes of both bodies and with
//! what a recorder should make of it: its kind, its line of messages, and how long that line is afterwards. The same
//! seed and shape give the same bytes.
//!
//! The histories grow as an agent's do: the whole history again with every turn, the cache mark moving to the newest
//! message, sub-agents with a history of their own, titles asked for on the side, answers that failed and were asked
//! for again, and rewinds.

pub mod client;
mod play;
pub mod prose;

pub use client::Client;

use crate::fake_api::replay::Recorded;

/// What a session should contain.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Whose requests are imitated.
    pub client: Client,
    /// Answers of the main agent.
    pub turns: usize,
    /// Sub-agents that the main agent starts; the first one starts one of its own.
    pub sub_agents: usize,
    /// Ask for a title at the start of each of the user's prompts.
    pub side_calls: bool,
    /// How often the user goes back to an earlier prompt and asks something else.
    pub rewinds: usize,
    /// How many answers fail first and are asked for again with the same bytes.
    pub retries: usize,
}

impl Shape {
    /// A bit of everything.
    pub fn mixed(client: Client, turns: usize) -> Self {
        Self { client, turns, sub_agents: 2, side_calls: true, rewinds: 1, retries: 2 }
    }
}

/// What a recorder should call an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A turn of a line.
    Message,
    /// A call that the agent made for itself.
    Side,
}

/// An exchange.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Both messages, exactly.
    pub recorded: Recorded,
    /// What it is.
    pub kind: Kind,
    /// The line that it belongs to (index in [`Session::lines`]); none for a side call.
    pub line: Option<usize>,
    /// Messages of that line when this exchange has ended, the answer included if it was given whole.
    pub line_messages: usize,
    /// Whether the answer was given whole.
    pub succeeded: bool,
}

/// A line of messages: a conversation.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// The line whose agent started this one.
    pub parent: Option<usize>,
    /// The line that it left, and how many messages both share.
    pub forked_from: Option<(usize, usize)>,
    /// Messages at the end.
    pub messages: usize,
}

/// A whole session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The session's id as the client names it.
    pub id: String,
    /// Every exchange.
    pub exchanges: Vec<Exchange>,
    /// Every line; the main agent's first.
    pub lines: Vec<Line>,
}

/// The session that the seed and the shape stand for.
pub fn session(seed: u64, shape: &Shape) -> Session {
    play::session(seed, shape)
}

#[cfg(test)]
mod tests;
