//! Several messages in one piece, which only 2025-03-26 has.

use tokio::sync::mpsc;

use crate::call::{OUTBOX_MESSAGES, Outbox, Outgoing};
use crate::message::{INVALID_REQUEST, Incoming, Malformed, RpcError, error_answer};
use crate::version::Version;

/// Messages in a batch, at most.
const MAX_MESSAGES: usize = 1000;

/// Answers a batch with an array, one message after the other; nothing, if none of them wants an answer. What comes before
/// an answer (progress) has no place in the array and is dropped.
pub(crate) async fn answers<F, A>(
    messages: Vec<Result<Incoming, Malformed>>,
    spoken: Version,
    answer: F,
) -> Option<String>
where
    F: Fn(Incoming, Outbox) -> A,
    A: Future<Output = ()>,
{
    if let Some(problem) = problem(&messages, spoken) {
        return Some(error_answer(None, &RpcError::new(INVALID_REQUEST, problem)));
    }
    let mut answers = Vec::new();
    for message in messages {
        match message {
            Ok(message) => answers.extend(only_answer(message, &answer).await),
            Err(malformed) => answers.push(malformed.0),
        }
    }
    (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")))
}

fn problem(messages: &[Result<Incoming, Malformed>], spoken: Version) -> Option<String> {
    if !spoken.has_batches() {
        return Some(format!("version {} has no batches; send one message at a time", spoken.name()));
    }
    match messages.len() {
        0 => Some("a batch must not be empty".to_owned()),
        1..=MAX_MESSAGES => None,
        more => Some(format!("a batch has at most {MAX_MESSAGES} messages, not {more}")),
    }
}

async fn only_answer<F, A>(message: Incoming, answer: &F) -> Option<String>
where
    F: Fn(Incoming, Outbox) -> A,
    A: Future<Output = ()>,
{
    let (outbox, mut inbox) = mpsc::channel(OUTBOX_MESSAGES);
    let collecting = async {
        let mut found = None;
        while let Some(outgoing) = inbox.recv().await {
            if let Outgoing::Answer(answer) = outgoing {
                found = Some(answer.text);
            }
        }
        found
    };
    tokio::join!(answer(message, outbox), collecting).1
}
