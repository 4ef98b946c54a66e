//! Where an exchange's turns go: the conversation that it continues, or a new one and where that comes from.

use uuid::Uuid;
use wire::assembled::Assembled;
use wire::spans::Spans;

use super::bodies::WholeBody;
use super::history::HistoryMessage;
use crate::conversation::identity::{self, Chain, Role};
use crate::conversation::message::Message;
use crate::conversation::request::{Reading, history_key};
use crate::conversation::text;
use crate::conversation::threading::{self, Place, Step};
use crate::model::{CapturedExchange, Outcome};
use crate::reading::content::awaits_agent;
use crate::store::Result;
use crate::tables::{Expected, Ingest, NewLine, NewTurn, Source};

/// Where the exchange's turns go.
pub(crate) struct Target {
    pub(crate) conversation: i64,
    /// So many turns of the history are the conversation's already.
    pub(crate) known: u64,
}

/// Where a new conversation comes from.
#[derive(Default)]
struct Origin {
    parent: Option<i64>,
    fork: Option<(i64, u64)>,
}

/// What decides where turns go.
pub(crate) struct Context<'a> {
    pub(crate) tables: &'a dyn Ingest,
    pub(crate) exchange: &'a CapturedExchange,
    pub(crate) reading: &'a Reading,
    pub(crate) named: Option<i64>,
    pub(crate) whole: Option<&'a WholeBody>,
}

/// Steps of a history that are announced together, from its end; further ones are seldom needed.
const ANNOUNCED: usize = 4;

/// The steps that are looked for first: how many messages there are up to each, and their chain.
pub(crate) fn last_steps(history: &[Step]) -> Vec<(u64, Chain)> {
    numbered(history).rev().take(ANNOUNCED).collect()
}

fn numbered(history: &[Step]) -> impl DoubleEndedIterator<Item = (u64, Chain)> {
    history.iter().enumerate().map(|(index, step)| (index as u64 + 1, step.chain))
}

/// Where a history belongs; its [`last_steps`] have been announced. Without a session, all conversations of clients that
/// name none are local.
pub(crate) fn place(
    tables: &dyn Ingest,
    epoch: i32,
    session: Option<i64>,
    agent: Option<&str>,
    history: &[Step],
) -> Result<Place> {
    // Ever larger parts of the history are announced, the further back its place is.
    let mut announced = ANNOUNCED;
    threading::place(history, session.is_some(), |length, chain| {
        let from_end = history.len() + 1 - length as usize;
        if from_end > announced {
            let steps: Vec<_> = numbered(history).rev().skip(announced).take(announced * 3).collect();
            announced *= 4;
            tables.expect(epoch, &[Expected { session, agent, steps, blocks: &[] }])?;
        }
        let mut known = match session {
            Some(session) => tables.known_in_session(session, agent, length, chain)?,
            None => Vec::new(),
        };
        // Another agent's line is nothing to continue or to fork from.
        if agent.is_none() {
            known.extend(tables.known_elsewhere(session, chain)?);
        }
        Ok(known)
    })
}

impl Context<'_> {
    pub(crate) fn target(&self, place: Place, history: &[HistoryMessage], spans: Option<&Spans>) -> Result<Target> {
        let (fork, known) = match place {
            Place::Continue { conversation, known } => return Ok(Target { conversation, known }),
            Place::Fork { conversation, turn } => (Some((conversation, turn)), turn),
            Place::New => (None, 0),
        };
        let session = match (self.named, fork) {
            (Some(session), _) => session,
            (None, Some((of, _))) => self.tables.session_of(of)?,
            (None, None) => self.tables.session(&Uuid::now_v7().to_string(), true)?,
        };
        let opening = self.opening(history, known, spans);
        let Origin { parent, fork } = match fork {
            Some(_) => Origin { parent: self.parent_of_agent(session)?, fork },
            None => self.origin(session, &opening)?,
        };
        let title = opening.iter().find(|m| m.role == Role::User).and_then(|m| text::title(&m.content));
        let agent = self.reading.agent.clone();
        let new = NewLine { session, agent, parent, fork, title, at: self.exchange.started_at };
        Ok(Target { conversation: self.tables.create_line(&new)?, known })
    }

    /// The messages that are new, for as long as they are needed to name the conversation.
    fn opening(&self, history: &[HistoryMessage], known: u64, spans: Option<&Spans>) -> Vec<Message> {
        let (Some(whole), Some(spans)) = (self.whole, spans) else {
            return Vec::new();
        };
        let elements = spans.elements(history_key(spans));
        let read = |m: &HistoryMessage| {
            let range = elements.get(usize::try_from(m.source.first).ok()?)?.clone();
            serde_json::from_slice(whole.bytes.get(range)?).ok().map(Message::of)
        };
        history.iter().skip(known as usize).take(8).filter_map(read).collect()
    }

    fn parent_of_agent(&self, session: i64) -> Result<Option<i64>> {
        match (&self.reading.agent, &self.reading.parent_agent) {
            (None, _) => Ok(None),
            (Some(_), Some(parent)) => self.tables.of_agent(session, parent),
            (Some(_), None) => Ok(self.tables.main_lines(session, 1)?.first().map(|(id, _)| *id)),
        }
    }

    /// Where a line that shares nothing with another comes from: an agent's id names its parent; without one, the tool
    /// call that is waiting for a sub-agent with this prompt; or the line that was summarised to make room.
    fn origin(&self, session: i64, opening: &[Message]) -> Result<Origin> {
        if self.reading.agent.is_some() {
            return Ok(Origin { parent: self.parent_of_agent(session)?, fork: None });
        }
        let said = opening.iter().find(|m| m.role == Role::User).map(|m| text::words(&m.content)).unwrap_or_default();
        let main_lines = self.tables.main_lines(session, 8)?;
        for (conversation, tip) in &main_lines {
            if awaits_agent(self.tables, *conversation, *tip, &said)? {
                return Ok(Origin { parent: Some(*conversation), fork: None });
            }
        }
        if self.tables.summary_at(session)?.is_some()
            && let Some(&(conversation, tip)) = main_lines.first()
        {
            self.tables.set_summary_at(session, None)?;
            return Ok(Origin { parent: None, fork: Some((conversation, tip)) });
        }
        Ok(Origin::default())
    }

    /// Adds the answer as the turn after the history, unless that turn is known already.
    pub(crate) fn add_answer(
        &self,
        target: &mut Target,
        turns: &mut Vec<NewTurn>,
        answer: &Assembled,
        asked: u64,
        before: &Chain,
    ) -> Result<()> {
        let content = answer.message.get("content").cloned().unwrap_or_default();
        if text::blocks(&content).is_empty() {
            return Ok(());
        }
        let complete = answer.complete && answer.error.is_none() && self.exchange.outcome == Outcome::Complete;
        let chain = identity::continued(before, &identity::digest(Role::Assistant, &content));
        if turns.is_empty() {
            match self.tables.turn(target.conversation, asked + 1)? {
                Some((known, _)) if known == chain && !complete => return Ok(()),
                Some((known, true)) if known == chain => return Ok(()),
                Some((_, true)) if !complete => return Ok(()),
                Some((known, true)) if known != chain => self.fork(target, asked)?,
                _ => {}
            }
        }
        turns.push(NewTurn { turn: asked + 1, role: Role::Assistant, complete, chain, source: Source::RESPONSE });
        Ok(())
    }

    /// The same question was asked again and answered differently.
    fn fork(&self, target: &mut Target, turn: u64) -> Result<()> {
        let session = self.tables.session_of(target.conversation)?;
        let new = NewLine {
            session,
            agent: self.reading.agent.clone(),
            parent: self.parent_of_agent(session)?,
            fork: Some((target.conversation, turn)),
            title: None,
            at: self.exchange.started_at,
        };
        target.conversation = self.tables.create_line(&new)?;
        Ok(())
    }
}
