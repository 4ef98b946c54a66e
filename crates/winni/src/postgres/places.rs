//! Where known histories stand: what was read ahead for a batch, and what the batch itself has added.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use tokio_postgres::Row;

use super::error::damaged;
use super::value::given;
use crate::conversation::identity::Chain;
use crate::conversation::threading::Known;
use crate::store::Result;
use crate::tables::{NewLine, NewTurn};

/// The conversations of sessions (and agents) that hold given steps of whoever has this place among them. Their rows come
/// first, in any plan: a history that is common may stand in any number of other sessions.
pub(super) const IN_SESSION: &str =
    "SELECT w.chain, m.id, c.id, w.turn, c.session, c.agent, c.tip, t.complete, s.derived
     FROM unnest($2::bigint[], $3::text[]) WITH ORDINALITY AS a (session, agent, place)
     CROSS JOIN LATERAL (SELECT id, session, agent, tip FROM conversation
           WHERE tenant = $1 AND session = a.session AND agent IS NOT DISTINCT FROM a.agent OFFSET 0) c
     CROSS JOIN LATERAL (SELECT turn, chain FROM unnest($4::bigint[], $5::bigint[], $6::bytea[]) AS w (place, turn, chain)
           WHERE w.place = a.place OFFSET 0) w
     CROSS JOIN LATERAL (SELECT id FROM message
           WHERE tenant = $1 AND conversation = c.id AND turn = w.turn AND chain = w.chain OFFSET 0) m
     JOIN session s ON s.tenant = $1 AND s.id = c.session
     LEFT JOIN message t ON t.tenant = $1 AND t.conversation = c.id AND t.turn = c.tip";

/// The newest conversations that hold given chains, each in other sessions than the one given with it.
pub(super) const ELSEWHERE: &str =
    "SELECT w.chain, m.id, m.conversation, m.turn, m.session, NULL::text, m.tip, t.complete,
            m.derived
     FROM unnest($2::bigint[], $3::bytea[]) AS w (session, chain)
     CROSS JOIN LATERAL (
         SELECT m.id, m.conversation, m.turn, c.session, c.tip, s.derived
         FROM message m JOIN conversation c ON c.tenant = m.tenant AND c.id = m.conversation
         JOIN session s ON s.tenant = c.tenant AND s.id = c.session
         WHERE m.tenant = $1 AND m.chain = w.chain AND c.agent IS NULL AND c.session IS DISTINCT FROM w.session
         ORDER BY m.id DESC LIMIT 16) m
     LEFT JOIN message t ON t.tenant = $1 AND t.conversation = m.conversation AND t.turn = m.tip";

/// One conversation as it is.
pub(super) const LINE: &str = "SELECT c.id, c.session, c.agent, c.tip, t.complete, s.derived
     FROM conversation c JOIN session s ON s.tenant = c.tenant AND s.id = c.session
     LEFT JOIN message t ON t.tenant = c.tenant AND t.conversation = c.id AND t.turn = c.tip
     WHERE c.tenant = $1 AND c.id = $2";

/// At most so many of the latter.
const MAX_ELSEWHERE: usize = 16;

/// A message that ends a history.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    message: i64,
    conversation: i64,
    turn: u64,
}

/// A conversation, as it is now.
struct Line {
    session: i64,
    agent: Option<String>,
    derived: bool,
    tip: u64,
    tip_complete: bool,
}

/// What a history was looked for with.
type Asked = (Option<i64>, Option<String>, Chain);

/// Known histories by their chains.
#[derive(Default)]
pub(super) struct Places {
    seen: HashMap<Chain, Vec<Seen>>,
    lines: HashMap<i64, Line>,
    asked: HashSet<Asked>,
}

impl Places {
    /// This step is looked for; whether it has not been before.
    pub(super) fn ask(&mut self, session: Option<i64>, agent: Option<&str>, chain: &Chain) -> bool {
        self.asked.insert((session, agent.map(str::to_owned), *chain))
    }

    /// Takes the rows of [`IN_SESSION`] or [`ELSEWHERE`]. What the batch has changed of a conversation stays as it is.
    pub(super) fn add_found(&mut self, rows: &[Row]) -> Result<()> {
        for row in rows {
            let chain: &[u8] = row.try_get(0)?;
            let chain: Chain = chain.try_into().map_err(|_| damaged("a chain is not 16 bytes"))?;
            let seen = Seen { message: row.try_get(1)?, conversation: row.try_get(2)?, turn: turn(row, 3)? };
            let known = self.seen.entry(chain).or_default();
            if !known.contains(&seen) {
                known.push(seen);
            }
            if let Entry::Vacant(line) = self.lines.entry(seen.conversation) {
                line.insert(line_of(row, 4)?);
            }
        }
        Ok(())
    }

    /// Takes the rows of [`LINE`].
    pub(super) fn add_lines(&mut self, rows: &[Row]) -> Result<()> {
        for row in rows {
            self.lines.insert(row.try_get(0)?, line_of(row, 1)?);
        }
        Ok(())
    }

    pub(super) fn add_line(&mut self, conversation: i64, new: &NewLine, derived: bool) {
        let tip = new.fork.map_or(0, |(_, turn)| turn);
        // The shared tip is another conversation's, and counts as whole.
        let line = Line { session: new.session, agent: new.agent.clone(), derived, tip, tip_complete: true };
        self.lines.insert(conversation, line);
    }

    pub(super) fn add_turn(&mut self, conversation: i64, message: i64, new: &NewTurn) {
        self.seen.entry(new.chain).or_default().push(Seen { message, conversation, turn: new.turn });
        if let Some(line) = self.lines.get_mut(&conversation) {
            (line.tip, line.tip_complete) = (new.turn, new.complete);
        }
    }

    /// The conversation's turns from `first` on are gone.
    pub(super) fn give_way(&mut self, conversation: i64, first: u64) {
        for seen in self.seen.values_mut() {
            seen.retain(|s| s.conversation != conversation || s.turn < first);
        }
    }

    /// The conversation's last turn, if it is known here.
    pub(super) fn tip(&self, conversation: i64) -> Option<u64> {
        self.lines.get(&conversation).map(|line| line.tip)
    }

    pub(super) fn session_of(&self, conversation: i64) -> Option<i64> {
        self.lines.get(&conversation).map(|line| line.session)
    }

    pub(super) fn in_session(&self, session: i64, agent: Option<&str>, turn: u64, chain: &Chain) -> Vec<Known> {
        self.known(chain, |line| line.session == session && line.agent.as_deref() == agent)
            .filter(|(seen, _)| seen.turn == turn)
            .map(|(seen, line)| known(seen, line, true))
            .collect()
    }

    pub(super) fn elsewhere(&self, session: Option<i64>, chain: &Chain) -> Vec<Known> {
        let mut found: Vec<(&Seen, &Line)> =
            self.known(chain, |line| line.agent.is_none() && Some(line.session) != session).collect();
        found.sort_by_key(|(seen, _)| std::cmp::Reverse(seen.message));
        found.truncate(MAX_ELSEWHERE);
        found.into_iter().map(|(seen, line)| known(seen, line, session.is_none() && line.derived)).collect()
    }

    fn known(&self, chain: &Chain, wanted: impl Fn(&Line) -> bool) -> impl Iterator<Item = (&Seen, &Line)> {
        let seen = self.seen.get(chain).into_iter().flatten();
        seen.filter_map(move |seen| {
            let line = self.lines.get(&seen.conversation)?;
            wanted(line).then_some((seen, line))
        })
    }
}

fn line_of(row: &Row, first: usize) -> Result<Line> {
    Ok(Line {
        session: row.try_get(first)?,
        agent: row.try_get::<_, Option<String>>(first + 1)?.map(given),
        tip: turn(row, first + 2)?,
        tip_complete: row.try_get::<_, Option<bool>>(first + 3)?.unwrap_or(true),
        derived: row.try_get(first + 4)?,
    })
}

fn known(seen: &Seen, line: &Line, local: bool) -> Known {
    Known { conversation: seen.conversation, turn: seen.turn, tip: line.tip, tip_complete: line.tip_complete, local }
}

fn turn(row: &Row, column: usize) -> Result<u64> {
    Ok(row.try_get::<_, i64>(column)? as u64)
}
