//! Answers taken from recorded exchanges instead of a script.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

/// An exchange as somebody recorded or generated it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The request's fields.
    pub request_headers: Vec<(String, String)>,
    /// The request's body.
    pub request_body: Vec<u8>,
    /// The answer's status.
    pub status: u16,
    /// The answer's fields.
    pub response_headers: Vec<(String, String)>,
    /// The answer's body.
    pub response_body: Vec<u8>,
}

/// Answers by request: the same request again gets the next of its answers, and the last one for ever after.
#[derive(Debug, Default)]
pub struct Replay(Mutex<HashMap<(String, String, String), VecDeque<Recorded>>>);

impl Replay {
    /// Answers for these exchanges.
    pub fn new(exchanges: impl IntoIterator<Item = Recorded>) -> Self {
        let mut answers: HashMap<_, VecDeque<Recorded>> = HashMap::new();
        for exchange in exchanges {
            let key = key(&exchange.method, &exchange.target, &exchange.request_body);
            answers.entry(key).or_default().push_back(exchange);
        }
        Self(Mutex::new(answers))
    }

    /// The answer to a request, if it was recorded.
    pub fn answer(&self, method: &str, target: &str, body: &[u8]) -> Option<Recorded> {
        let mut answers = self.0.lock().expect("no panic under this lock");
        let queue = answers.get_mut(&key(method, target, body))?;
        if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() }
    }
}

fn key(method: &str, target: &str, body: &[u8]) -> (String, String, String) {
    (method.to_owned(), target.to_owned(), crate::sha256(body))
}
