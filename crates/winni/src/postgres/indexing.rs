//! Filling the full-text index behind the traffic.
//!
//! A message is either in the queue or in the index, never in both: so its words can be erased from wherever they are.
//!
//! Whoever fills the index writes beside the tenant's writer, not in turn with it. What keeps the two apart is a message's
//! row in the queue. The filler locks it before it looks at what the message is, and passes over those that a writer has
//! locked; so it never waits. A writer that changes what a message is indexed with takes that row first, which waits for
//! the filler, and only then removes the words that the filler may have added.

use std::collections::{HashMap, HashSet};

use super::batch::Batch;
use super::connection::Connection;
use super::snapshot::{HELD_COLUMNS, Snapshot, held_of};
use super::value::given;
use crate::indexing::{Entry, Place, entries, role_mark, session_mark};
use crate::ingest::fresh::Fresh;
use crate::model::Outcome;
use crate::search::document::{Document, FIELDS};
use crate::store::Result;

/// What the index is to hold of a message, as it will be written.
pub(super) struct Ready {
    entry: Entry,
    vectors: Vec<String>,
}

impl Ready {
    fn of(entry: Entry) -> Self {
        let vectors = entry.place.as_ref().map(|place| vectors(&entry.document, place)).unwrap_or_default();
        Self { entry, vectors }
    }

    pub(super) fn message(&self) -> i64 {
        self.entry.message
    }
}

/// Reads up to `max` waiting messages. The writing thread is not asked: it has traffic to store.
pub(super) fn waiting(snapshot: &Snapshot<'_>, fresh: &Fresh, max: usize) -> Result<Vec<Ready>> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let rows = snapshot.connection.query(
        "SELECT message FROM message_unindexed WHERE tenant = $1 ORDER BY message LIMIT $2",
        &[&snapshot.tenant, &max],
    )?;
    let messages: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let mut places = places(snapshot.connection, snapshot.tenant, &messages)?;
    let waiting = messages.into_iter().map(|message| (message, places.remove(&message))).collect();
    Ok(entries(snapshot, fresh, waiting)?.into_iter().map(Ready::of).collect())
}

/// A conversation's title, of `conversation c JOIN session s`: an agent names its session, which is then what its main
/// lines are about.
pub(super) const TITLE: &str = "CASE WHEN c.source = 'captured' AND c.agent IS NULL AND c.parent IS NULL
     THEN coalesce(s.title, c.title) ELSE c.title END";

fn places(connection: &Connection, tenant: i64, messages: &[i64]) -> Result<HashMap<i64, Place>> {
    let sql = format!(
        "SELECT m.id, m.conversation, m.turn, m.role, c.session,
                CASE WHEN NOT EXISTS (SELECT FROM message b WHERE b.tenant = m.tenant
                                      AND b.conversation = m.conversation AND b.turn < m.turn)
                     THEN {TITLE} END,
                coalesce(x.outcome <> $3 OR x.status >= 400, false), {HELD_COLUMNS}
         FROM unnest($2::bigint[]) AS w (id)
         CROSS JOIN LATERAL (SELECT * FROM message WHERE tenant = $1 AND id = w.id OFFSET 0) m
         CROSS JOIN LATERAL (SELECT * FROM conversation WHERE tenant = $1 AND id = m.conversation OFFSET 0) c
         CROSS JOIN LATERAL (SELECT title FROM session WHERE tenant = $1 AND id = c.session OFFSET 0) s
         LEFT JOIN LATERAL (SELECT outcome, status FROM exchange WHERE tenant = $1 AND id = m.exchange OFFSET 0) x ON true"
    );
    let rows = connection.query(&sql, &[&tenant, &messages, &(Outcome::Complete as i16)])?;
    let place = |row: &tokio_postgres::Row| {
        let place = Place {
            conversation: row.try_get(1)?,
            turn: row.try_get::<_, i64>(2)? as u64,
            role: row.try_get::<_, i16>(3)? as usize,
            session: row.try_get(4)?,
            title: row.try_get::<_, Option<String>>(5)?.map(given),
            failed: row.try_get(6)?,
            held: held_of(row, 7)?,
        };
        Ok((row.try_get(0)?, place))
    };
    rows.iter().map(place).collect()
}

/// Puts entries into the index, within a transaction: of messages that are still what they were when they were read. Others
/// wait for the next time.
pub(super) fn index(connection: &Connection, tenant: i64, read: &[Ready]) -> Result<()> {
    let messages: Vec<i64> = read.iter().map(|ready| ready.entry.message).collect();
    let rows = connection.query(
        "SELECT u.message FROM unnest($2::bigint[]) AS w (id)
         JOIN message_unindexed u ON u.tenant = $1 AND u.message = w.id FOR UPDATE OF u SKIP LOCKED",
        &[&tenant, &messages],
    )?;
    let locked: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let now = places(connection, tenant, &locked)?;
    let waited: HashSet<i64> = locked.into_iter().collect();
    let is_same = |ready: &&Ready| {
        let message = ready.entry.message;
        waited.contains(&message) && now.get(&message) == ready.entry.place.as_ref()
    };
    let (mut done, mut ids, mut parts, mut words) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Ready { entry, vectors } in read.iter().filter(is_same) {
        done.push(entry.message);
        for (part, vector) in vectors.iter().enumerate() {
            ids.push(entry.message);
            parts.push(part as i32);
            words.push(vector.as_str());
        }
    }
    connection.execute(
        "DELETE FROM message_unindexed u USING unnest($2::bigint[]) AS w (id) WHERE u.tenant = $1 AND u.message = w.id",
        &[&tenant, &done],
    )?;
    connection.execute(
        "INSERT INTO message_words (tenant, message, part, created_at, words)
         SELECT $1, w.message, w.part, m.created_at, w.words::tsvector
         FROM unnest($2::bigint[], $3::integer[], $4::text[]) AS w (message, part, words)
         CROSS JOIN LATERAL (SELECT created_at FROM message WHERE tenant = $1 AND id = w.message OFFSET 0) m",
        &[&tenant, &ids, &parts, &words],
    )?;
    Ok(())
}

/// Merges what was added to the parts of the index into them: each search reads the lists in which it waits. How many there
/// are.
pub(super) fn merge_lists(connection: &Connection) -> Result<usize> {
    let sql = "SELECT gin_clean_pending_list(i.indexrelid) FROM pg_inherits p
         JOIN pg_index i ON i.indrelid = p.inhrelid JOIN pg_class c ON c.oid = i.indexrelid
         WHERE p.inhparent = 'message_words'::regclass AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'gin')";
    Ok(connection.query(sql, &[])?.len())
}

/// Takes messages that are gone out of the queue and out of the index.
pub(super) fn forget(batch: &Batch<'_>, messages: &[i64]) -> Result<()> {
    // In this order: see the top.
    for table in ["message_unindexed", "message_words"] {
        let sql = format!("DELETE FROM {table} WHERE tenant = $1 AND message = ANY($2)");
        batch.sql()?.execute(&sql, &[&batch.tenant(), &messages])?;
    }
    Ok(())
}

/// Queues the first messages of a session's captured main lines anew: they carry its title.
pub(super) fn requeue_titles(batch: &Batch<'_>, session: i64) -> Result<()> {
    let rows = batch.sql()?.query(
        "SELECT m.id FROM conversation c CROSS JOIN LATERAL
             (SELECT id FROM message WHERE tenant = c.tenant AND conversation = c.id ORDER BY turn LIMIT 1) m
         WHERE c.tenant = $1 AND c.session = $2 AND c.source = 'captured' AND c.agent IS NULL AND c.parent IS NULL",
        &[&batch.tenant(), &session],
    )?;
    requeue(batch, &rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>())
}

/// Queues messages anew, whose documents are others now.
pub(super) fn requeue(batch: &Batch<'_>, messages: &[i64]) -> Result<()> {
    // One that waits already is locked, so that nobody indexes it as it was.
    batch.sql()?.execute(
        "INSERT INTO message_unindexed (tenant, message) SELECT $1, unnest($2::bigint[])
         ON CONFLICT (tenant, message) DO UPDATE SET message = excluded.message",
        &[&batch.tenant(), &messages],
    )?;
    let sql = "DELETE FROM message_words WHERE tenant = $1 AND message = ANY($2)";
    batch.sql()?.execute(sql, &[&batch.tenant(), &messages])?;
    Ok(())
}

/// Places of one part, and places of one word in it: what a tsvector keeps of them.
const MAX_PLACES: usize = 16_383;
const MAX_OF_ONE: usize = 255;

/// Bytes of words in a tsvector, with room for their places.
const MAX_WORDS_BYTES: usize = 512 * 1024;

/// Words that a part repeats of the one before, so that a phrase that begins in one of them is whole in one of them.
const OVERLAP: usize = 24;

/// What tells titles from dumps.
const WEIGHTS: [char; FIELDS] = ['A', 'B', 'C', 'D'];

/// A document as literals of tsvectors, in as many parts as none of them drops a place. A field begins two places after the
/// one before has ended, so that no phrase reaches across. Marks stand in every part.
fn vectors(document: &Document, place: &Place) -> Vec<String> {
    let mut marks: Vec<String> = document.marks.iter().map(|mark| lexeme(&format!("~{mark}"))).collect();
    marks.push(lexeme(&format!("~{}", role_mark(place.role))));
    marks.push(lexeme(&format!("~{}", session_mark(place.session))));
    let marks = marks.join(" ");
    let words = document.fields.iter().zip(WEIGHTS).map(|(field, weight)| {
        field.split(' ').filter(|w| !w.is_empty()).map(move |word| Some((word, weight))).chain([None])
    });
    let words: Vec<Option<(&str, char)>> = words.flatten().collect();
    let mut parts = Vec::new();
    let mut first = 0;
    loop {
        let (part, end) = part(&words, first);
        parts.push(if part.is_empty() { marks.clone() } else { format!("{part} {marks}") });
        if end >= words.len() {
            break;
        }
        first = end.saturating_sub(OVERLAP).max(first + 1);
    }
    if parts.len() > 1 {
        parts[0] += &without_places(&words);
    }
    parts
}

/// All words, for the first part, so that it tells alone whether a message has several of them. A tsvector has an end: of
/// more than half a megabyte of distinct words the first ones are found.
fn without_places(words: &[Option<(&str, char)>]) -> String {
    let mut known = HashSet::new();
    let mut all = String::new();
    for (word, _) in words.iter().flatten().filter(|(word, _)| known.insert(*word)) {
        if all.len() + word.len() > MAX_WORDS_BYTES {
            break;
        }
        all.push(' ');
        all += &lexeme(word);
    }
    all
}

/// The part that begins with this word, and where the next one does.
fn part(words: &[Option<(&str, char)>], first: usize) -> (String, usize) {
    let mut places: HashMap<&str, Vec<String>> = HashMap::new();
    let (mut end, mut bytes) = (first, 0);
    while end < words.len() && end - first < MAX_PLACES && bytes < MAX_WORDS_BYTES / 2 {
        if let Some((word, weight)) = words[end] {
            bytes += word.len();
            let of_one = places.entry(word).or_default();
            if of_one.len() >= MAX_OF_ONE {
                break;
            }
            of_one.push(format!("{}{weight}", end - first + 1));
        }
        end += 1;
    }
    let words = places.into_iter().map(|(word, places)| format!("{}:{}", lexeme(word), places.join(",")));
    (words.collect::<Vec<_>>().join(" "), end)
}

/// A lexeme's literal. Words hold no quote and no backslash; a mark is made of a tool's name in hexadecimal and may be too
/// long for a lexeme, which takes less than 2 KiB.
pub(super) fn lexeme(word: &str) -> String {
    const LONGEST: usize = 2_000;
    format!("'{}'", &word[..word.floor_char_boundary(LONGEST.min(word.len()))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Held;

    #[test]
    fn no_place_is_dropped_and_no_phrase_reaches_across_fields() {
        let place =
            Place { conversation: 1, turn: 1, role: 0, session: 7, title: None, failed: false, held: Held::Content(1) };
        let rest: Vec<String> = (0..600).map(|n| format!("the w{n}")).collect();
        let fields = ["a title".to_owned(), "asked".to_owned(), String::new(), rest.join(" ")];
        let parts = vectors(&Document { fields, marks: vec!["error".into()] }, &place);
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|p| p.contains("'~error' '~r0' '~s7'")));
        assert!((0..600).all(|n| parts[0].contains(&format!("'w{n}'"))), "the first part has all words");
        assert!((0..600).all(|n| parts.iter().any(|p| p.contains(&format!("'w{n}':")))));
        assert!(parts[0].contains("'title':2A") && parts[0].contains("'asked':4B") && parts[0].contains("'w0':8D"));
        assert_eq!(vectors(&Document::default(), &place), ["'~r0' '~s7'"]);
    }
}
