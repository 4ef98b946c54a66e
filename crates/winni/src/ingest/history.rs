//! The history that a request resends, as messages with an identity.

use std::sync::Arc;

use serde_json::Value;
use wire::spans::{ArrayKey, Spans};

use super::bodies::WholeBody;
use crate::content::manifest::BlockHash;
use crate::conversation::identity::{self, MessageDigest, Role};
use crate::conversation::message::Message;
use crate::conversation::request::history_key;
use crate::conversation::threading::Step;
use crate::recent::Recent;
use crate::store::Result;
use crate::tables::{NewTurn, Source};

/// A message of a request's history: which elements it is made of, and its identity.
pub(crate) struct HistoryMessage {
    pub(crate) source: Source,
    pub(crate) role: Role,
    pub(crate) digest: MessageDigest,
    /// What it says, where it had to be read.
    pub(crate) content: Option<Arc<Value>>,
}

/// The messages of a request's history. Consecutive elements of OpenAI's responses API that the model wrote are one.
pub(crate) fn history(
    whole: &WholeBody,
    spans: &Spans,
    known: &mut Recent<BlockHash, (Role, MessageDigest)>,
) -> Result<Vec<HistoryMessage>> {
    let key = history_key(spans);
    let hashes = whole.split.as_ref().and_then(|s| s.manifest.arrays.iter().find(|a| a.key == key as u8));
    let mut history: Vec<HistoryMessage> = Vec::new();
    let mut open: Option<Message> = None;
    for (number, range) in spans.elements(key).iter().enumerate() {
        let hash = hashes.and_then(|a| a.elements.get(number)).map(|e| e.hash);
        let source = Source { first: number as i64, count: 1 };
        if key == ArrayKey::Messages
            && let Some((role, digest)) = hash.and_then(|h| known.get(&h))
        {
            history.push(HistoryMessage { source, role, digest, content: None });
            continue;
        }
        let element =
            whole.bytes.get(range.clone()).and_then(|b| serde_json::from_slice(b).ok()).unwrap_or(Value::Null);
        let message = Message::of(element);
        let (role, digest) = (message.role, identity::digest(message.role, &message.content));
        if let (Some(hash), ArrayKey::Messages) = (hash, key) {
            known.put(hash, (role, digest), 1);
        }
        if let (Some(before), Some(last), Role::Assistant, ArrayKey::Input) = (&mut open, history.last_mut(), role, key)
        {
            before.join(message);
            last.source.count += 1;
            last.digest = identity::digest(role, &before.content);
            continue;
        }
        let mut content = None;
        match key {
            ArrayKey::Messages => content = Some(Arc::new(message.content)),
            _ => open = (role == Role::Assistant).then_some(message),
        }
        history.push(HistoryMessage { source, role, digest, content });
    }
    Ok(history)
}

pub(crate) fn request_turns(history: &[HistoryMessage], steps: &[Step], known: u64) -> Vec<NewTurn> {
    let turn = |(number, (message, step)): (usize, (&HistoryMessage, &Step))| NewTurn {
        turn: number as u64 + 1,
        role: message.role,
        complete: true,
        chain: step.chain,
        source: message.source,
    };
    history.iter().zip(steps).enumerate().skip(known as usize).map(turn).collect()
}
