//! What the full-text index is to hold of messages, read from the record.

use std::sync::Arc;

use serde_json::Value;

use crate::conversation::identity::Role;
use crate::ingest::fresh::Fresh;
use crate::reading::ContentReader;
use crate::search::document::{self, Document};
use crate::store::Result;
use crate::tables::{Content, Held};

/// Bytes of words that are read at a time, unless one message alone has more.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// What a message's document is made from, beside what it says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) conversation: i64,
    pub(crate) turn: u64,
    pub(crate) role: usize,
    pub(crate) session: i64,
    /// The conversation's, if this is its first message.
    pub(crate) title: Option<String>,
    pub(crate) failed: bool,
    pub(crate) held: Held,
}

/// What the index is to hold of a message.
pub(crate) struct Entry {
    pub(crate) message: i64,
    /// What it was made from; `None` if the message has gone meanwhile.
    pub(crate) place: Option<Place>,
    pub(crate) document: Document,
}

/// Reads what waiting messages say; fewer of them than were given if they say much.
pub(crate) fn entries(tables: &dyn Content, fresh: &Fresh, waiting: Vec<(i64, Option<Place>)>) -> Result<Vec<Entry>> {
    let mut contents = Contents { fresh, reader: ContentReader::new(tables) };
    let held = waiting.iter().filter_map(|(_, place)| place.as_ref().map(|p| p.held));
    let unknown: Vec<Held> = held.filter(|held| contents.fresh(*held).is_none()).collect();
    contents.reader.expect(unknown.into_iter())?;
    let (mut entries, mut bytes) = (Vec::with_capacity(waiting.len()), 0);
    for (message, place) in waiting {
        if bytes > MAX_WAITING {
            break;
        }
        let document = match &place {
            Some(place) => document_of(tables, place, &mut contents)?,
            None => Document::default(),
        };
        bytes += document.fields.iter().map(String::len).sum::<usize>();
        entries.push(Entry { message, place, document });
    }
    Ok(entries)
}

/// Contents from memory, or else from the database.
struct Contents<'a> {
    fresh: &'a Fresh,
    reader: ContentReader<'a>,
}

impl Contents<'_> {
    fn fresh(&self, held: Held) -> Option<Arc<Value>> {
        match held {
            Held::Exchange(exchange, source) => self.fresh.get(exchange, source),
            Held::Content(_) => None,
        }
    }

    fn content(&mut self, held: Held) -> Result<Arc<Value>> {
        self.fresh(held).map_or_else(|| self.reader.content(held).map(Arc::new), Ok)
    }
}

fn document_of(tables: &dyn Content, place: &Place, contents: &mut Contents<'_>) -> Result<Document> {
    let content = contents.content(place.held)?;
    let before = match document::answers_a_tool(&content) {
        true => tables.assistant_before(place.conversation, place.turn)?,
        false => None,
    };
    let before = before.map(|held| contents.content(held)).transpose()?;
    Ok(Document::of(&document::Source {
        role: Role::ALL.get(place.role).copied().unwrap_or(Role::User),
        content: &content,
        before: before.as_deref(),
        title: place.title.as_deref(),
        failed: place.failed,
    }))
}

/// The mark of a role's messages.
pub(crate) fn role_mark(role: usize) -> String {
    format!("r{role}")
}

/// The mark of a session's messages.
pub(crate) fn session_mark(session: i64) -> String {
    format!("s{session}")
}
