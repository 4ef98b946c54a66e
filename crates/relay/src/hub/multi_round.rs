//! Questions between a call and its answer, where client and backend are of different eras.
//!
//! *Parked*: a legacy backend asks while a modern client waits for a call. The call is answered with the question
//! (`input_required`); the backend goes on waiting. The client calls again with the answers, which go to the backend, and
//! the answer of the first call becomes that of the second. The backend is called once.
//!
//! *Gathered*: a modern backend answers a legacy client's call with questions. The client is asked each of them, and the
//! backend is called again with the answers, as its protocol wants it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use wire::json_rpc::{self, Edits, IdKey, Message, Outcome, code, members, text};

use super::asked::{Asked, Question};
use super::calls::{Call, Refusal, cancellation, finished, not_connected};
use super::{Again, Hub, Place, State, Waiting};
use crate::link::{Outbox, Outgoing};
use crate::protocol::{Era, META_PROGRESS, Params, RESOURCES_READ, TOOLS_CALL};

/// What a `requestState` of the relay's own begins with.
pub(crate) const PARKED: &str = "iccm-parked-";
/// Calls that clients never came back for; the oldest make room.
const MAX_PARKED: usize = 256;
/// What a modern client can be asked.
const QUESTIONS: [&str; 3] = ["sampling/createMessage", "elicitation/create", "roots/list"];
/// What a modern client can call again.
const ASKABLE: [&str; 3] = [TOOLS_CALL, "prompts/get", RESOURCES_READ];

/// A backend's call that waits for the client to come back.
#[derive(Debug)]
pub(super) struct Parked {
    server: String,
    number: u64,
    /// By name: the backend's id, and the question as JSON.
    questions: BTreeMap<String, (String, String)>,
    /// The answer came while nobody waited.
    answer: Option<Bytes>,
    order: u64,
}

/// A legacy client's call whose questions are being asked.
#[derive(Debug)]
pub(super) struct Gathering {
    server: String,
    call: Box<Call>,
    open: usize,
    answers: Vec<(String, String)>,
    state: Option<String>,
}

impl Hub {
    /// Takes a backend's question into a call that waits. Gives the answer to that call, unless it has been answered with
    /// another question already; then the client learns of this one when it comes back.
    pub(super) fn park(&self, server: &str, question: &Question<'_>) -> Result<Option<Vec<u8>>, String> {
        let method = question.method;
        if !QUESTIONS.contains(&method) {
            return Err(format!("a client of the era 2026-07-28 cannot be asked {method}"));
        }
        let mut state = self.lock();
        let name = format!("question-{}", state.next_id());
        let params = question.params.map_or("{}", RawValue::get);
        let asked = (question.id.get().to_owned(), format!(r#"{{"method":{},"params":{params}}}"#, text(method)));
        let (number, token) = state.vehicle(server, question.within).ok_or_else(|| {
            format!("a client of the era 2026-07-28 can be asked {method} only during a call, and there is none")
        })?;
        if let Some(token) = token {
            if let Some(parked) = state.parked.get_mut(&token) {
                parked.questions.insert(name, asked);
            }
            return Ok(None);
        }
        let order = state.next_id();
        let token = new_token(order);
        let waiting =
            state.backends.get_mut(server).and_then(|b| b.waiting.insert(number, Waiting::Parked(token.clone())));
        let Some(Waiting::Client(call)) = waiting else { return Err("the call has just ended".to_owned()) };
        state.forget_place(&call.id, number);
        let questions = BTreeMap::from([(name, asked)]);
        let parked = Parked { server: server.to_owned(), number, questions, answer: None, order };
        let result = input_required(&parked.questions, &token);
        state.keep_parked(token, parked);
        Ok(Some(json_rpc::result(&call.id, &result)))
    }

    /// The answer to a parked call came before the client did.
    pub(super) fn answered_while_parked(&self, token: &str, bytes: Bytes) {
        if let Some(parked) = self.lock().parked.get_mut(token) {
            parked.answer = Some(bytes);
        }
    }

    /// The client comes back with answers. Gives what can be said to it at once.
    pub(crate) fn come_back(&self, token: &str, call: Call, params: &Params<'_>) -> Option<Vec<u8>> {
        let mut state = self.lock();
        let Some(mut parked) = state.parked.remove(token) else {
            let message = "the call that this belongs to has ended; call again without requestState";
            return Some(Refusal::invalid(message).response(&call.id));
        };
        if let Some(bytes) = &parked.answer {
            return match Message::parse(bytes) {
                Ok(Message::Response { outcome, .. }) => Some(finished(&call, bytes, outcome)),
                _ => None,
            };
        }
        let answers = params.get("inputResponses").and_then(members).unwrap_or_default();
        let outbox = state.backends.get(&parked.server).and_then(|backend| backend.outbox.clone());
        for answer in &answers {
            if let (Some((id, _)), Some(outbox)) = (parked.questions.remove(&*answer.name), &outbox) {
                let bytes = json_rpc::result(&id, answer.value.get()).into();
                // A full queue: the backend's own patience with its question ends the call.
                let _ = outbox.send(Outgoing::Other { bytes });
            }
        }
        if !parked.questions.is_empty() {
            let result = input_required(&parked.questions, token);
            state.parked.insert(token.to_owned(), parked);
            return Some(json_rpc::result(&call.id, &result));
        }
        if let Ok(id) = serde_json::from_str::<&RawValue>(&call.id) {
            let place = Place::Backend { server: parked.server.clone(), id: parked.number };
            state.places.insert(IdKey::of(id), place);
        }
        if let Some(waiting) = state.waiting(&parked.server, parked.number) {
            *waiting = Waiting::Client(Box::new(call));
        }
        None
    }

    /// Asks a legacy client what a modern backend wants to know before it answers. Gives the call back if the backend wants
    /// nothing.
    pub(super) async fn asks_back(&self, server: &str, call: Box<Call>, outcome: Outcome<'_>) -> Option<Box<Call>> {
        let Outcome::Result(result) = outcome else { return Some(call) };
        if call.again.is_none() {
            return Some(call);
        }
        let result = Params::of(Some(result));
        if result.text("resultType").as_deref() != Some("input_required") {
            return Some(call);
        }
        let questions = result.get("inputRequests").and_then(members).unwrap_or_default();
        let (gathering, sent) = {
            let mut state = self.lock();
            let gathering = state.next_id();
            let mut sent = Vec::new();
            for question in &questions {
                let asked = Params::of(Some(question.value));
                let number = state.next_id();
                let name = question.name.clone().into_owned();
                state.asked.insert(number, Asked::Gathered { gathering, name });
                let params = asked.get("params").map_or("{}", RawValue::get);
                sent.push(json_rpc::request(&number.to_string(), &asked.text("method").unwrap_or_default(), params));
            }
            if let Ok(id) = serde_json::from_str::<&RawValue>(&call.id) {
                state.places.insert(IdKey::of(id), Place::Gathering(gathering));
            }
            let request_state = result.get("requestState").map(|state| state.get().to_owned());
            let (server, open) = (server.to_owned(), questions.len());
            let new = Gathering { server, call, open, answers: Vec::new(), state: request_state };
            state.gatherings.insert(gathering, new);
            (gathering, sent)
        };
        let has_questions = !sent.is_empty();
        for message in sent {
            self.send(message).await;
        }
        if !has_questions {
            self.ask_again(gathering).await;
        }
        None
    }

    /// One of the answers.
    pub(super) async fn gathered(&self, gathering: u64, name: String, outcome: Outcome<'_>) {
        let refused = {
            let mut state = self.lock();
            let Some(entry) = state.gatherings.get_mut(&gathering) else { return };
            entry.open = entry.open.saturating_sub(1);
            match outcome {
                Outcome::Result(result) => {
                    entry.answers.push((name, result.get().to_owned()));
                    if entry.open > 0 {
                        return;
                    }
                    None
                }
                Outcome::Error(error) => Some((entry.call.id.clone(), entry.server.clone(), error.get().to_owned())),
            }
        };
        match refused {
            None => self.ask_again(gathering).await,
            Some((id, server, error)) => {
                self.drop_gathering(gathering).await;
                if let Ok(id) = serde_json::from_str::<&RawValue>(&id) {
                    self.lock().places.remove(&IdKey::of(id));
                }
                let message = format!("server {server:?} asked for more, and the client answered with an error");
                self.send(json_rpc::error(&id, code::INTERNAL_ERROR, &message, Some(&error))).await;
            }
        }
    }

    /// Takes back the open questions of a call that is over.
    pub(super) async fn drop_gathering(&self, gathering: u64) {
        let open: Vec<u64> = {
            let mut state = self.lock();
            state.gatherings.remove(&gathering);
            let is_its = |asked: &Asked| matches!(asked, Asked::Gathered { gathering: g, .. } if *g == gathering);
            let open = state.asked.iter().filter(|(_, asked)| is_its(asked)).map(|(number, _)| *number).collect();
            state.asked.retain(|_, asked| !is_its(asked));
            open
        };
        for number in open {
            self.send(cancellation(&number.to_string(), "the call was cancelled")).await;
        }
    }

    /// Calls the backend again, with the answers.
    async fn ask_again(&self, gathering: u64) {
        let refused = match self.next_round(gathering) {
            // A queue that has just filled up ends with the connection, which answers the call.
            Some(Ok((outbox, request))) => {
                let _ = outbox.send(request);
                return;
            }
            Some(Err(refused)) => refused,
            None => return,
        };
        self.send(refused).await;
    }

    fn next_round(&self, gathering: u64) -> Option<Result<(Outbox, Outgoing), Vec<u8>>> {
        let mut state = self.lock();
        let Gathering { server, mut call, answers, state: request_state, .. } = state.gatherings.remove(&gathering)?;
        let key = serde_json::from_str::<&RawValue>(&call.id).map(IdKey::of).ok()?;
        let number = state.next_id();
        let ready = state.backends.get_mut(&server).and_then(|backend| Some((backend.outbox.clone()?, backend)));
        let Some((outbox, backend)) = ready else {
            let phase = state.backends.get(&server).map(|backend| not_connected(&server, &backend.phase));
            state.places.remove(&key);
            let message = phase.unwrap_or_else(|| format!("server {server:?} was removed"));
            return Some(Err(Refusal::of_server(&server, message).response(&call.id)));
        };
        let again = call.again.as_mut()?;
        let bytes = with_answers(again, number, &answers, request_state.as_deref()).into();
        let request = Outgoing::Request { id: number, bytes, about: again.about.clone().map(Box::new) };
        backend.waiting.insert(number, Waiting::Client(call));
        state.places.insert(key, Place::Backend { server, id: number });
        Some(Ok((outbox, request)))
    }
}

impl State {
    /// The call that can carry a question of a backend: its number, and its token if it is parked already.
    fn vehicle(&self, server: &str, within: Option<u64>) -> Option<(u64, Option<String>)> {
        let backend = self.backends.get(server)?;
        let fits = |number: &u64, waiting: &Waiting| match waiting {
            Waiting::Client(call) => {
                (call.era == Era::Modern && ASKABLE.contains(&&*call.method)).then_some((*number, None))
            }
            Waiting::Parked(token) => Some((*number, Some(token.clone()))),
            Waiting::Own(_) => None,
        };
        if let Some((number, waiting)) = within.and_then(|id| Some((id, backend.waiting.get(&id)?))) {
            return fits(&number, waiting);
        }
        // Without a stream for each call it cannot be known which one is meant; the newest that waits is as good as any,
        // for whoever answers is the same.
        let all = backend.waiting.iter().filter_map(|(number, waiting)| fits(number, waiting));
        all.max_by_key(|(number, token)| (token.is_none(), *number))
    }

    fn keep_parked(&mut self, token: String, parked: Parked) {
        if self.parked.len() >= MAX_PARKED
            && let Some(oldest) = self.parked.iter().min_by_key(|(_, parked)| parked.order).map(|(t, _)| t.clone())
        {
            self.parked.remove(&oldest);
        }
        self.parked.insert(token, parked);
    }
}

/// Hard to guess, since it comes back as the client's word.
fn new_token(order: u64) -> String {
    let mut random = [0; 16];
    // Without randomness the number alone tells the calls apart.
    let _ = getrandom::fill(&mut random);
    format!("{PARKED}{order:x}-{:032x}", u128::from_ne_bytes(random))
}

fn input_required(questions: &BTreeMap<String, (String, String)>, token: &str) -> String {
    let requests: Vec<String> =
        questions.iter().map(|(name, (_, question))| format!("{}:{question}", text(name))).collect();
    format!(
        r#"{{"resultType":"input_required","inputRequests":{{{}}},"requestState":{}}}"#,
        requests.join(","),
        text(token)
    )
}

/// The request with the answers in its parameters; they are what a later round adds to.
fn with_answers(again: &mut Again, number: u64, answers: &[(String, String)], state: Option<&str>) -> Vec<u8> {
    let source = again.params.clone();
    if let Ok(params) = serde_json::from_str::<&RawValue>(&source) {
        let mut edits = Edits::of_text(&source);
        let given = Params::of(Some(params));
        if let Some(token) = given.inner("_meta").get(META_PROGRESS) {
            edits.replace(token, number.to_string());
        }
        let answers: Vec<String> = answers.iter().map(|(name, answer)| format!("{}:{answer}", text(name))).collect();
        edits.set(params, "inputResponses", &format!("{{{}}}", answers.join(",")));
        match (state, given.get("requestState")) {
            (Some(state), _) => _ = edits.set(params, "requestState", state),
            (None, Some(old)) => _ = edits.replace(old, "null"),
            (None, None) => {}
        }
        again.params = String::from_utf8(edits.finish()).unwrap_or(source);
    }
    json_rpc::request(&number.to_string(), &again.method, &again.params)
}
