//! What a model's reply comes to, whichever API gave it and whether or not it was streamed.
//!
//! The message is derived from the recorded bytes for reading and search; it never replaces them. Its content is in
//! Anthropic's blocks for all APIs (`text`, `thinking`, `tool_use` …), each whole, in the order of the reply, and with
//! the keys in the order in which they came. Fields whose names begin with an underscore are ours and say what the
//! reply alone could not: [`PARTIAL_JSON`], [`UNKNOWN_DELTAS`], [`OTHER_CHOICES`].

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// The only field of a tool's `input` whose JSON is not whole (the reply broke off, or the model wrote it badly): the
/// text as it came.
pub const PARTIAL_JSON: &str = "_partial_json";

/// The field of a block that keeps, as they came, the deltas whose type is not known here.
pub const UNKNOWN_DELTAS: &str = "_unknown_deltas";

/// The field of a message that keeps the contents of further choices, where more than one was asked for (OpenAI chat).
pub const OTHER_CHOICES: &str = "_other_choices";

/// A reply, put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assembled {
    /// `{"role":"assistant","content":[…],"id","model","stop_reason","usage",…}`, the usage as the API gave it.
    pub message: Value,
    /// The model that answered, as it names itself.
    pub model: Option<String>,
    /// The tokens.
    pub usage: Usage,
    /// Why the model stopped, in the API's own word.
    pub stop_reason: Option<String>,
    /// The reply reached its own end. Anything else is the beginning of a message.
    pub complete: bool,
    /// The API's error object, from an error reply or from inside a stream.
    pub error: Option<Value>,
    /// Events and deltas that are not known here or are no JSON.
    pub unknown_events: u64,
    /// Known events at a place where the protocol does not have them, e.g. a delta for a block that never began.
    pub misplaced_events: u64,
    /// The unknown events that were JSON, as they came.
    pub unknown: Vec<Value>,
}

/// Tokens as they are billed: the four kinds are disjoint, except that one-hour cache writes are part of all cache
/// writes. `None` is what the API did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input that neither came from the cache nor went into it. (OpenAI counts cached input twice; here it is once.)
    pub input_tokens: Option<u64>,
    /// Output, thinking included.
    pub output_tokens: Option<u64>,
    /// Input read from the cache.
    pub cache_read_tokens: Option<u64>,
    /// Input written to the cache, for whichever time.
    pub cache_write_tokens: Option<u64>,
    /// Of these, what is kept for an hour.
    pub cache_write_1h_tokens: Option<u64>,
}

pub(crate) type Object = Map<String, Value>;

/// The content of a reply under way. Blocks have the numbers that the stream gives them; a number that begins twice
/// makes two blocks, and what follows belongs to the later one, so that nothing is lost.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    blocks: Vec<(u64, Block)>,
    latest: HashMap<u64, usize>,
}

impl Blocks {
    /// Begins a block; false when one with this number has begun before.
    pub(crate) fn begin(&mut self, index: u64, fields: Object) -> bool {
        let replaced = self.latest.insert(index, self.blocks.len());
        self.blocks.push((index, Block { fields, json: String::new() }));
        replaced.is_none()
    }

    pub(crate) fn get_mut(&mut self, index: u64) -> Option<&mut Block> {
        let position = *self.latest.get(&index)?;
        self.blocks.get_mut(position).map(|(_, block)| block)
    }

    /// The block with this number, begun as `{"type":kind}` where it has not been.
    pub(crate) fn get_or_begin(&mut self, index: u64, kind: &str) -> &mut Block {
        let blocks = &mut self.blocks;
        let position = *self.latest.entry(index).or_insert_with(|| {
            let fields = Object::from_iter([("type".to_owned(), kind.into())]);
            blocks.push((index, Block { fields, json: String::new() }));
            blocks.len() - 1
        });
        &mut self.blocks[position].1
    }

    pub(crate) fn finish(mut self) -> Vec<Value> {
        self.blocks.sort_by_key(|(index, _)| *index);
        self.blocks.into_iter().map(|(_, block)| block.finish()).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) fields: Object,
    /// The tool's input so far, as text.
    pub(crate) json: String,
}

impl Block {
    /// Appends to a text field. A value of another type that stood there (null, as a rule) gives way.
    pub(crate) fn append(&mut self, field: &str, text: &str) {
        match self.fields.get_mut(field) {
            Some(Value::String(so_far)) => so_far.push_str(text),
            Some(other) => *other = text.into(),
            None => {
                self.fields.insert(field.to_owned(), text.into());
            }
        }
    }

    /// Adds an element to a list field.
    pub(crate) fn push(&mut self, field: &str, element: Value) {
        match self.fields.get_mut(field) {
            Some(Value::Array(list)) => list.push(element),
            Some(other) => *other = Value::Array(vec![element]),
            None => {
                self.fields.insert(field.to_owned(), Value::Array(vec![element]));
            }
        }
    }

    fn finish(mut self) -> Value {
        if !self.json.is_empty() {
            self.fields.insert("input".to_owned(), tool_input(&self.json));
        }
        Value::Object(self.fields)
    }
}

/// A tool's input from its text. APIs leave the text empty for a tool without arguments.
pub(crate) fn tool_input(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(Object::new());
    }
    serde_json::from_str(text)
        .unwrap_or_else(|_| Value::Object(Object::from_iter([(PARTIAL_JSON.to_owned(), text.into())])))
}

/// Copies fields over those of the same name. A null says nothing, and so replaces nothing.
pub(crate) fn merge(into: &mut Object, from: Object) {
    for (key, value) in from {
        if !value.is_null() || !into.contains_key(&key) {
            into.insert(key, value);
        }
    }
}

pub(crate) fn text_of(object: &Object, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(str::to_owned)
}

pub(crate) fn take_object(object: &mut Object, key: &str) -> Option<Object> {
    match object.remove(key) {
        Some(Value::Object(inner)) => Some(inner),
        _ => None,
    }
}

/// The error in a reply or an event; null, which some servers send with every chunk, is none.
pub(crate) fn take_error(reply: &mut Object) -> Option<Value> {
    reply.remove("error").filter(|error| !error.is_null())
}

/// A message's frame around its content.
pub(crate) fn message(
    id: Option<String>,
    model: Option<&str>,
    content: Vec<Value>,
    stop: Option<&str>,
    usage: Value,
) -> Object {
    let mut message = Object::new();
    message.insert("role".to_owned(), json!("assistant"));
    message.insert("content".to_owned(), Value::Array(content));
    let optional = [
        ("id", id.map(Value::from)),
        ("model", model.map(Value::from)),
        ("stop_reason", stop.map(Value::from)),
        ("usage", Some(usage).filter(|usage| !usage.is_null())),
    ];
    for (field, value) in optional {
        if let Some(value) = value {
            message.insert(field.to_owned(), value);
        }
    }
    message
}
