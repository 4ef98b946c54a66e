//! What backends ask the client: sampling, elicitation, roots.
//!
//! A legacy client is asked as it is: the backend's request passes through with another id, and so does the answer. A
//! modern client cannot be asked; its call is answered with the question instead (see [`super::multi_round`]).

use wire::json_rpc::{self, Edits, IdKey, Outcome, code};

use super::Hub;
use super::calls::cancellation;
use crate::protocol::{META_PROGRESS, Params};

/// A question that the client has not answered.
#[derive(Debug)]
pub(super) enum Asked {
    /// A backend's own request.
    Forwarded { server: String, generation: u64, id: Box<str>, progress: Option<Box<str>> },
    /// One of the questions that stand between a call and its answer.
    Gathered { gathering: u64, name: String },
}

/// A request of a backend.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) source: &'a [u8],
    pub(crate) id: &'a serde_json::value::RawValue,
    pub(crate) method: &'a str,
    pub(crate) params: Option<&'a serde_json::value::RawValue>,
    /// The call on whose stream it came.
    pub(crate) within: Option<u64>,
}

impl Hub {
    /// Passes a backend's question on to the client, or answers that it cannot be asked.
    pub(crate) async fn ask_client(&self, server: &str, question: &Question<'_>) {
        let is_legacy = self.lock().client.legacy;
        if is_legacy {
            let bytes = self.forwarded_question(server, question);
            return self.send(bytes).await;
        }
        match self.park(server, question) {
            Ok(Some(answer)) => self.send(answer).await,
            Ok(None) => {}
            Err(why) => {
                self.send_to(server, json_rpc::error(question.id.get(), code::METHOD_NOT_FOUND, &why, None));
            }
        }
    }

    fn forwarded_question(&self, server: &str, question: &Question<'_>) -> Vec<u8> {
        let params = Params::of(question.params);
        let token = params.inner("_meta").get(META_PROGRESS);
        let number = {
            let mut state = self.lock();
            let number = state.next_id();
            let generation = state.backends.get(server).map_or(0, |backend| backend.generation);
            let asked = Asked::Forwarded {
                server: server.to_owned(),
                generation,
                id: question.id.get().into(),
                progress: token.map(|token| token.get().into()),
            };
            state.asked.insert(number, asked);
            number.to_string()
        };
        let Some(mut edits) = Edits::of(question.source) else { return question.source.to_vec() };
        edits.replace(question.id, number.clone());
        if let Some(token) = token {
            edits.replace(token, number);
        }
        edits.finish()
    }

    /// The client's answer: to the backend that asked, if it is still the same connection.
    pub(crate) async fn client_answered(&self, source: &[u8], id: &serde_json::value::RawValue, outcome: Outcome<'_>) {
        let asked = IdKey::of(id).number().and_then(|number| self.lock().asked.remove(&number));
        match asked {
            Some(Asked::Forwarded { server, generation, id: original, .. }) => {
                let is_same = self.lock().backends.get(&server).is_some_and(|b| b.generation == generation);
                if let (true, Some(mut edits)) = (is_same, Edits::of(source)) {
                    edits.replace(id, &*original);
                    self.send_to(&server, edits.finish());
                }
            }
            Some(Asked::Gathered { gathering, name }) => self.gathered(gathering, name, outcome).await,
            None => tracing::debug!(id = id.get(), "the client answers what nobody asked"),
        }
    }

    /// Progress of the client with something that a backend asked for.
    pub(crate) fn client_progress(&self, source: &[u8], params: &Params<'_>) {
        let Some(token) = params.get(META_PROGRESS) else { return };
        let known = IdKey::of(token).number().and_then(|number| match self.lock().asked.get(&number) {
            Some(Asked::Forwarded { server, progress, .. }) => Some((server.clone(), progress.clone()?)),
            _ => None,
        });
        if let Some(((server, original), mut edits)) = known.zip(Edits::of(source)) {
            edits.replace(token, original);
            self.send_to(&server, edits.finish());
        }
    }

    /// A backend does not want an answer any more.
    pub(crate) async fn withdrawn(&self, server: &str, source: &[u8], params: &Params<'_>) {
        let Some(id) = params.get("requestId") else { return };
        let key = IdKey::of(id);
        let number = {
            let mut state = self.lock();
            let is_it = |asked: &Asked| matches!(asked, Asked::Forwarded { server: s, id, .. } if s == server && same(id, &key));
            let number = state.asked.iter().find(|(_, asked)| is_it(asked)).map(|(number, _)| *number);
            number.inspect(|number| _ = state.asked.remove(number))
        };
        if let Some((number, mut edits)) = number.zip(Edits::of(source)) {
            edits.replace(id, number.to_string());
            self.send(edits.finish()).await;
        }
    }

    /// Takes back everything that a backend asked, because it is gone.
    pub(super) async fn withdraw_questions_of(&self, server: &str) {
        let numbers: Vec<u64> = {
            let mut state = self.lock();
            let is_its = |asked: &Asked| matches!(asked, Asked::Forwarded { server: s, .. } if s == server);
            let numbers = state.asked.iter().filter(|(_, asked)| is_its(asked)).map(|(number, _)| *number).collect();
            state.asked.retain(|_, asked| !is_its(asked));
            numbers
        };
        for number in numbers {
            self.send(cancellation(&number.to_string(), "the server that asked is gone")).await;
        }
    }
}

fn same(id: &str, key: &IdKey) -> bool {
    serde_json::from_str(id).map(IdKey::of).is_ok_and(|other| other == *key)
}
