//! Asking the full-text index.
//!
//! Counting and finding need the index alone as long as the query narrows by what a document is marked with; moments,
//! models and projects are looked up for each match. A file holds one tenant's words.

use rusqlite::{Connection, OptionalExtension, params};

use super::indexing::TITLE;
use super::tables::{AFTER_MESSAGE, MESSAGE_COLUMNS, Tables, message_of};
use crate::conversation::identity::Role;
use crate::conversation::text;
use crate::indexing::{role_mark, session_mark};
use crate::model::{SearchHit, SearchQuery};
use crate::reading::{ContentReader, metadata_of};
use crate::search::MAX_COUNTED;
use crate::search::names::{ERROR_MARK, model_matches, project_matches, tool_mark};
use crate::search::query::{self, Condition, Filter, Query, Term};
use crate::search::snippet;
use crate::store::Result;

/// So many matches are weighed against each other. Of more, those whose words all stand in titles and in what the user
/// wrote come first, and the newest of them: weighing takes longer the more there are and tells less.
const MAX_WEIGHED: u64 = 1_000;

/// How much more a word in the title, in the user's and in the model's words tells than one in a dump of a tool; marks are
/// no words.
const WEIGHT: &str = "bm25(message_words, 40.0, 16.0, 8.0, 1.0, 0.0)";

pub(super) fn search(connection: &Connection, tenant: i64, query: &SearchQuery) -> Result<(Vec<SearchHit>, u64)> {
    let parsed = query::parse(query)?;
    let Some(matching) = Matching::of(connection, tenant, &parsed)? else {
        return Ok((Vec::new(), 0));
    };
    let total = matching.count(&matching.any())?;
    let messages = match (parsed.has_words(), total <= MAX_WEIGHED) {
        (true, true) => matching.weighed(query.offset, query.limit)?,
        (true, false) => matching.in_tiers(query.offset, query.limit)?,
        (false, _) => matching.newest(&matching.any(), 0.0, query.offset, query.limit)?,
    };
    let tables = Tables { connection, tenant };
    let mut reader = ContentReader::new(&tables);
    let hits = messages.into_iter().map(|(message, rank)| hit(connection, tenant, &parsed, message, rank, &mut reader));
    Ok((hits.collect::<Result<_>>()?, total))
}

const EVERYWHERE: &str = "{title user assistant rest}";
const BY_PEOPLE: &str = "{title user}";

/// A query in SQL and FTS5's language: which rows of `message_words` match.
struct Matching<'q> {
    connection: &'q Connection,
    wanted: Vec<&'q Term>,
    /// What the marks must be; never empty where no word is wanted.
    marks: Vec<String>,
    unwanted: Vec<String>,
    rows: Rows<'q>,
}

impl<'q> Matching<'q> {
    /// `None` if nothing can match.
    fn of(connection: &'q Connection, tenant: i64, query: &'q Query) -> Result<Option<Self>> {
        let mut marks = Vec::new();
        let mut unwanted: Vec<String> =
            query.terms.iter().filter(|t| t.excluded).map(|term| words(term, EVERYWHERE)).collect();
        let mut rows = Rows { connection, tenant, sql: String::new(), of_conversations: false };
        for condition in &query.conditions {
            let Some(mark) = mark(connection, tenant, &condition.filter)? else {
                rows.narrow(condition)?;
                continue;
            };
            match (mark.is_empty(), condition.excluded) {
                (true, true) => {}
                (true, false) => return Ok(None),
                (false, true) => unwanted.push(format!("marks : {mark}")),
                (false, false) => marks.push(format!("marks : {mark}")),
            }
        }
        let wanted: Vec<&Term> = query.terms.iter().filter(|t| !t.excluded).collect();
        if wanted.is_empty() && marks.is_empty() {
            let roles: Vec<String> = (0..Role::ALL.len()).map(role_mark).collect();
            marks.push(format!("marks : ({})", roles.join(" OR ")));
        }
        Ok(Some(Self { connection, wanted, marks, unwanted, rows }))
    }

    /// All that matches.
    fn any(&self) -> String {
        self.expression(EVERYWHERE, &[])
    }

    /// What matches with all its words in these columns, and none of `others`.
    fn expression(&self, columns: &str, others: &[String]) -> String {
        let words = self.wanted.iter().map(|term| words(term, columns));
        let wanted: Vec<String> = words.chain(self.marks.iter().cloned()).collect();
        let unwanted = [self.unwanted.as_slice(), others].concat();
        match unwanted.is_empty() {
            true => wanted.join(" AND "),
            false => format!("({}) NOT ({})", wanted.join(" AND "), unwanted.join(" OR ")),
        }
    }

    fn from(&self) -> String {
        let message = "CROSS JOIN message m ON m.id = message_words.rowid";
        let joins = match (self.rows.sql.is_empty(), self.rows.of_conversations) {
            (true, _) => String::new(),
            (false, false) => message.to_owned(),
            (false, true) => format!("{message} CROSS JOIN conversation c ON c.id = m.conversation"),
        };
        format!("FROM message_words {joins} WHERE message_words MATCH ?1 {}", self.rows.sql)
    }

    fn count(&self, expression: &str) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM (SELECT 1 {} LIMIT {MAX_COUNTED})", self.from());
        let mut query = self.connection.prepare(&sql)?;
        Ok(query.query_row([expression], |row| row.get::<_, i64>(0))? as u64)
    }

    /// A page of few matches, the most telling first: message and rank.
    fn weighed(&self, offset: u64, limit: u64) -> Result<Vec<(i64, f64)>> {
        let sql = format!("SELECT message_words.rowid, -{WEIGHT} {} ORDER BY 2 DESC, 1 DESC", self.from());
        self.page(&sql, &self.any(), offset, limit)
    }

    /// A page of many matches: those in what people wrote, then the others.
    fn in_tiers(&self, offset: u64, limit: u64) -> Result<Vec<(i64, f64)>> {
        let by_people = self.expression(BY_PEOPLE, &[]);
        let mut page = self.newest(&by_people, 1.0, offset, limit)?;
        let found = page.len() as u64;
        if found < limit {
            let before = if found > 0 { offset + found } else { self.count(&by_people)? };
            let words: Vec<String> = self.wanted.iter().map(|term| words(term, BY_PEOPLE)).collect();
            let others = self.expression(EVERYWHERE, &[format!("({})", words.join(" AND "))]);
            page.extend(self.newest(&others, 0.0, offset.saturating_sub(before), limit - found)?);
        }
        Ok(page)
    }

    fn newest(&self, expression: &str, rank: f64, offset: u64, limit: u64) -> Result<Vec<(i64, f64)>> {
        let sql = format!("SELECT message_words.rowid, {rank:.1} {} ORDER BY message_words.rowid DESC", self.from());
        self.page(&sql, expression, offset, limit)
    }

    fn page(&self, sql: &str, expression: &str, offset: u64, limit: u64) -> Result<Vec<(i64, f64)>> {
        let [offset, limit] = [offset, limit].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let mut query = self.connection.prepare(&format!("{sql} LIMIT ?2 OFFSET ?3"))?;
        let rows = query.query_map(params![expression, limit, offset], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }
}

/// A term in these columns, in FTS5's language. Words hold no ASCII character but letters and digits, so quoting them is enough.
fn words(term: &Term, columns: &str) -> String {
    let star = if term.prefix { " *" } else { "" };
    format!("{columns} : \"{}\"{star}", term.words.join(" "))
}

/// The mark that a filter asks for: empty if no message has it, `None` if it is nothing that documents are marked with.
fn mark(connection: &Connection, tenant: i64, filter: &Filter) -> Result<Option<String>> {
    Ok(Some(match filter {
        Filter::Role(role) => role_mark(*role as usize),
        Filter::HasError => ERROR_MARK.into(),
        Filter::Tool(name) => match name.strip_suffix('*') {
            Some(begin) => format!("{} *", tool_mark(begin)),
            None => tool_mark(name),
        },
        Filter::Session(name) => connection
            .prepare_cached("SELECT id FROM session WHERE tenant = ?1 AND name = ?2")?
            .query_row(params![tenant, name], |row| row.get(0))
            .optional()?
            .map(session_mark)
            .unwrap_or_default(),
        Filter::Since(_) | Filter::Until(_) | Filter::Model(_) | Filter::Project(_) => return Ok(None),
    }))
}

/// Conditions on the rows of messages and conversations.
struct Rows<'c> {
    connection: &'c Connection,
    tenant: i64,
    sql: String,
    /// Whether the rows of `conversation c` are needed.
    of_conversations: bool,
}

impl Rows<'_> {
    fn narrow(&mut self, condition: &Condition) -> Result<()> {
        let not = if condition.excluded { "NOT " } else { "" };
        let sql = match &condition.filter {
            Filter::Since(at) => format!("m.created_at >= {}", at.0),
            Filter::Until(at) => format!("m.created_at < {}", at.0),
            Filter::Model(wanted) => {
                // Methods and paths are names, too; no exchange has one as its model.
                let sql = "SELECT id, text FROM name WHERE tenant = ?1";
                let models = self.numbers(sql, |name| model_matches(name, wanted))?;
                format!(
                    "EXISTS (SELECT 1 FROM exchange e WHERE e.tenant = {} AND e.conversation = c.id
                         AND e.model IN ({models}))",
                    self.tenant
                )
            }
            Filter::Project(wanted) => {
                let sessions = self
                    .numbers("SELECT id, project FROM session WHERE tenant = ?1 AND project IS NOT NULL", |folder| {
                        project_matches(folder, wanted)
                    })?;
                format!("c.session IN ({sessions})")
            }
            Filter::Role(_) | Filter::Tool(_) | Filter::Session(_) | Filter::HasError => return Ok(()),
        };
        self.of_conversations |= matches!(condition.filter, Filter::Model(_) | Filter::Project(_));
        self.sql.push_str(&format!(" AND {not}{sql}"));
        Ok(())
    }

    /// The numbers of the rows whose text fits, with commas between them.
    fn numbers(&self, sql: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
        let mut query = self.connection.prepare_cached(sql)?;
        let mut rows = query.query([self.tenant])?;
        let mut numbers: Vec<String> = Vec::new();
        while let Some(row) = rows.next()? {
            if fits(&row.get::<_, String>(1)?) {
                numbers.push(row.get::<_, i64>(0)?.to_string());
            }
        }
        Ok(numbers.join(","))
    }
}

fn hit(
    connection: &Connection,
    tenant: i64,
    query: &Query,
    message: i64,
    rank: f64,
    reader: &mut ContentReader<'_>,
) -> Result<SearchHit> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {MESSAGE_COLUMNS}, s.name, c.metadata, {TITLE}
         FROM message m JOIN conversation c ON c.id = m.conversation JOIN session s ON s.id = c.session
         LEFT JOIN exchange x ON x.id = m.exchange WHERE m.tenant = ?1 AND m.id = ?2"
    ))?;
    let (row, session_id, metadata, title) = select.query_row(params![tenant, message], |row| {
        let after = |n: usize| row.get::<_, Option<String>>(AFTER_MESSAGE + n);
        Ok((message_of(row)?, after(0)?.unwrap_or_default(), after(1)?, after(2)?.unwrap_or_default()))
    })?;
    let content = reader.content(row.held)?;
    let said = text::words(&content);
    // A message may have been found by the title of the conversation that it begins.
    let shown =
        if snippet::occurs(&said, &query.terms) || !snippet::occurs(&title, &query.terms) { &said } else { &title };
    Ok(SearchHit {
        conversation_id: row.conversation_uuid,
        session_id,
        message_id: row.uuid(),
        turn: row.turn,
        role: row.role.name().to_owned(),
        snippet: snippet::snippet(shown, &query.terms),
        rank,
        created_at: row.created_at,
        content,
        conversation_metadata: metadata_of(metadata.as_deref()),
    })
}
