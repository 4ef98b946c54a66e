//! Messages of connections in SQLite.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::tables::Tables;
use crate::model::{
    CapturedFrame, Direction, Durability, Frame, FrameFilter, FrameForm, FrameSource, Outcome, Timestamp,
};
use crate::store::Result;
use crate::tables::{
    ConnectionRow, FoundFrame, FrameContent, FrameIngest, Frames, FramesOf, Location, NewFrame, Owner,
};

const FRAME: &str = "SELECT f.id, f.uuid, k.uuid, r.uuid, f.seq, s.name, c.uuid, server.text, k.source, f.direction, f.at,
        f.ended_us, f.form, f.outcome, f.durability, f.bytes, method.text, f.rpc_id, subject.text, f.tool_use, f.is_error,
        f.connection
     FROM frame f
     JOIN connection k ON k.id = f.connection
     JOIN recorder r ON r.id = f.recorder
     JOIN name server ON server.id = k.server
     LEFT JOIN session s ON s.id = coalesce(f.session, k.session)
     LEFT JOIN conversation c ON c.id = f.conversation
     LEFT JOIN name method ON method.id = f.method
     LEFT JOIN name subject ON subject.id = f.subject
     WHERE f.tenant = ?1";

pub(super) fn list(connection: &Connection, tenant: i64, filter: &FrameFilter) -> Result<Vec<Frame>> {
    let sql = format!(
        "{FRAME}
         AND (?2 IS NULL OR s.name = ?2)
         AND (?3 IS NULL OR k.uuid = ?3)
         ORDER BY f.id LIMIT ?4 OFFSET ?5"
    );
    let limit = filter.limit.map_or(-1, |limit| limit as i64);
    let by_connection = filter.connection_id.map(Uuid::into_bytes);
    let mut query = connection.prepare_cached(&sql)?;
    let rows =
        query.query_map(params![tenant, filter.session_id, by_connection, limit, filter.offset as i64], found_of)?;
    Ok(rows.map(|row| row.map(|found| found.frame)).collect::<std::result::Result<_, _>>()?)
}

pub(super) fn session_of_tool_use(connection: &Connection, tenant: i64, id: &str) -> Result<Option<String>> {
    let sql = "SELECT s.name FROM tool_use t JOIN session s ON s.id = t.session WHERE t.tenant = ?1 AND t.id = ?2";
    Ok(connection.prepare_cached(sql)?.query_row(params![tenant, id], |row| row.get(0)).optional()?)
}

fn found_of(row: &Row<'_>) -> rusqlite::Result<FoundFrame> {
    let unknown = |column| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Integer,
            "a number without a name".into(),
        )
    };
    let at: i64 = row.get(10)?;
    let frame = Frame {
        id: Uuid::from_bytes(row.get(1)?),
        connection_id: Uuid::from_bytes(row.get(2)?),
        recorder: Uuid::from_bytes(row.get(3)?),
        seq: row.get::<_, i64>(4)? as u64,
        session_id: row.get(5)?,
        conversation_id: row.get::<_, Option<[u8; 16]>>(6)?.map(Uuid::from_bytes),
        server: row.get(7)?,
        source: FrameSource::of(row.get(8)?).ok_or_else(|| unknown(8))?,
        direction: Direction::of(row.get(9)?).ok_or_else(|| unknown(9))?,
        at: Timestamp(at),
        ended_at: row.get::<_, Option<i64>>(11)?.map(|us| Timestamp(at + us)),
        form: FrameForm::of(row.get(12)?).ok_or_else(|| unknown(12))?,
        outcome: Outcome::ALL.get(row.get::<_, usize>(13)?).copied().ok_or_else(|| unknown(13))?,
        durability: if row.get::<_, i64>(14)? == Durability::Power as i64 {
            Durability::Power
        } else {
            Durability::Process
        },
        bytes: row.get::<_, i64>(15)? as u64,
        method: row.get(16)?,
        rpc_id: row.get(17)?,
        name: row.get(18)?,
        tool_use_id: row.get(19)?,
        is_error: row.get(20)?,
    };
    Ok(FoundFrame { row: row.get(0)?, connection: row.get(21)?, frame })
}

const CONTENT: &str = "SELECT id, pack, pack_offset, pack_length, chunks, digest, epoch FROM frame WHERE tenant = ?1";

fn content_of(row: &Row<'_>) -> rusqlite::Result<FrameContent> {
    let at = match row.get(1)? {
        Some(pack) => Some(Location { pack, offset: row.get(2)?, length: row.get(3)? }),
        None => None,
    };
    Ok(FrameContent { row: row.get(0)?, epoch: row.get(6)?, at, chunks: row.get(4)?, digest: row.get(5)? })
}

impl Frames for Tables<'_> {
    fn frame_content(&self, row: i64) -> Result<FrameContent> {
        let mut query = self.connection.prepare_cached(&format!("{CONTENT} AND id = ?2"))?;
        Ok(query.query_row(params![self.tenant, row], content_of)?)
    }

    fn asked(&self, tool_use: &str) -> Result<Vec<FoundFrame>> {
        let sql = format!("{FRAME} AND f.tool_use = ?2 AND f.kind = 0 ORDER BY f.id");
        let mut query = self.connection.prepare_cached(&sql)?;
        let rows = query.query_map(params![self.tenant, tool_use], found_of)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    fn answered(&self, request: &FoundFrame) -> Result<Option<FoundFrame>> {
        let sql = format!(
            "{FRAME} AND f.connection = ?2 AND f.rpc_id = ?3 AND f.direction <> ?4 AND f.kind IN (2, 3) AND f.id > ?5
             ORDER BY f.id LIMIT 1"
        );
        let FoundFrame { row, connection, frame } = request;
        let key = params![self.tenant, connection, frame.rpc_id, frame.direction as i64, row];
        Ok(self.connection.prepare_cached(&sql)?.query_row(key, found_of).optional()?)
    }
}

impl FrameIngest for Tables<'_> {
    fn connection(&self, uuid: Uuid) -> Result<Option<ConnectionRow>> {
        let mut query =
            self.connection.prepare_cached("SELECT id, session FROM connection WHERE tenant = ?1 AND uuid = ?2")?;
        let found = query.query_row(params![self.tenant, uuid.as_bytes()], |row| {
            Ok(ConnectionRow { id: row.get(0)?, session: row.get(1)? })
        });
        Ok(found.optional()?)
    }

    fn add_connection(&self, frame: &CapturedFrame, server: i64, session: Option<i64>) -> Result<i64> {
        self.connection
            .prepare_cached(
                "INSERT INTO connection (tenant, uuid, server, source, session) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![self.tenant, frame.connection_id.as_bytes(), server, frame.source as i64, session])?;
        Ok(self.connection.last_insert_rowid())
    }

    fn give_connection(&self, connection: i64, session: Option<i64>) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE connection SET session = ?3 WHERE tenant = ?1 AND id = ?2")?
            .execute(params![self.tenant, connection, session])?;
        Ok(())
    }

    fn owner_of_request(&self, connection: i64, direction: i64, id: &str) -> Result<Option<Owner>> {
        let mut query = self.connection.prepare_cached(
            "SELECT session, conversation, tool_use FROM frame
             WHERE tenant = ?1 AND connection = ?2 AND rpc_id = ?3 AND direction <> ?4 AND kind = 0
             ORDER BY id DESC LIMIT 1",
        )?;
        let found = query.query_row(params![self.tenant, connection, id, direction], |row| {
            Ok(Owner { session: row.get(0)?, conversation: row.get(1)?, tool_use: row.get(2)? })
        });
        Ok(found.optional()?)
    }

    fn owner_of_tool_use(&self, id: &str) -> Result<Option<(i64, i64)>> {
        let mut query = self
            .connection
            .prepare_cached("SELECT session, conversation FROM tool_use WHERE tenant = ?1 AND id = ?2")?;
        Ok(query.query_row(params![self.tenant, id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    fn note_tool_use(&self, id: &str, session: i64, conversation: i64) -> Result<bool> {
        let key = params![self.tenant, id, session, conversation];
        let added = self
            .connection
            .prepare_cached(
                "INSERT OR IGNORE INTO tool_use (tenant, id, session, conversation) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(key)?;
        let owned = self
            .connection
            .prepare_cached(
                "UPDATE frame SET session = coalesce(session, ?3), conversation = ?4
                 WHERE tenant = ?1 AND tool_use = ?2 AND conversation IS NULL",
            )?
            .execute(key)?;
        if owned > 0 {
            self.connection
                .prepare_cached(
                    "UPDATE connection SET session = ?3 WHERE tenant = ?1 AND session IS NULL
                     AND id IN (SELECT connection FROM frame WHERE tenant = ?1 AND tool_use = ?2)",
                )?
                .execute(params![self.tenant, id, session])?;
        }
        Ok(added > 0)
    }

    fn insert_frame(&self, new: &NewFrame<'_>) -> Result<()> {
        let captured = new.captured;
        self.connection
            .prepare_cached(
                "INSERT INTO frame (tenant, uuid, recorder, seq, exchange, connection, session, conversation, direction,
                    form, at, ended_us, outcome, durability, kind, method, rpc_id, subject, tool_use, is_error, bytes,
                    pack, pack_offset, pack_length, chunks, digest)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                    ?22, ?23, ?24, ?25, ?26)",
            )?
            .execute(params![
                self.tenant,
                captured.id.as_bytes(),
                new.recorder,
                new.seq as i64,
                new.exchange,
                new.connection,
                new.owner.session,
                new.owner.conversation,
                captured.direction as i64,
                captured.form.number(),
                captured.at.0,
                captured.ended_at.map(|t| t.0 - captured.at.0),
                captured.outcome as i64,
                captured.durability as i64,
                new.kind,
                new.method,
                new.rpc_id,
                new.subject,
                new.owner.tool_use,
                new.is_error,
                captured.body.size() as i64,
                new.at.map(|at| at.pack),
                new.at.map(|at| at.offset),
                new.at.map(|at| at.length),
                new.chunks,
                new.digest,
            ])?;
        Ok(())
    }
}

impl Tables<'_> {
    pub(super) fn contents_of_frames(&self, of: FramesOf) -> Result<Vec<FrameContent>> {
        let (conversation, epoch) = match of {
            FramesOf::Conversation(conversation) => (Some(conversation), None),
            FramesOf::Epoch(epoch) => (None, Some(epoch)),
        };
        let mut query = self.connection.prepare(&format!(
            "{CONTENT} AND (?2 IS NULL OR conversation = ?2) AND (?3 IS NULL OR epoch = ?3)
             AND (pack IS NOT NULL OR chunks IS NOT NULL) ORDER BY id"
        ))?;
        let rows = query.query_map(params![self.tenant, conversation, epoch], content_of)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    pub(super) fn frame_row(&self, uuid: Uuid) -> Result<Option<i64>> {
        Ok(self
            .connection
            .prepare_cached("SELECT id FROM frame WHERE tenant = ?1 AND uuid = ?2")?
            .query_row(params![self.tenant, uuid.as_bytes()], |row| row.get(0))
            .optional()?)
    }
}

/// The exchanges that hold messages of a conversation's tool calls.
pub(super) fn exchanges_of(connection: &Connection, tenant: i64, conversation: i64) -> Result<Vec<i64>> {
    let mut query = connection.prepare_cached(
        "SELECT DISTINCT exchange FROM frame WHERE tenant = ?1 AND conversation = ?2 AND exchange IS NOT NULL",
    )?;
    let rows = query.query_map(params![tenant, conversation], |row| row.get(0))?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

/// How many messages of MCP there are. A relay's connection on which a tool call passed that a spy saw, too, is the spy's
/// connection seen from the other end, and is not counted again.
pub(super) fn mcp_frames(connection: &Connection, tenant: i64) -> Result<u64> {
    let count: i64 = connection.query_row(
        "SELECT count(*) FROM frame f JOIN connection k ON k.id = f.connection
         WHERE f.tenant = ?1 AND k.source <> ?2 AND NOT (k.source = ?3 AND k.id IN (
             SELECT sent.connection FROM connection relay
             JOIN frame sent ON sent.tenant = ?1 AND sent.connection = relay.id AND sent.rpc_id IS NOT NULL
             JOIN frame seen ON seen.tenant = ?1 AND seen.tool_use = sent.tool_use AND seen.rpc_id = sent.rpc_id
             JOIN connection spy ON spy.id = seen.connection
             WHERE relay.tenant = ?1 AND relay.source = ?3 AND sent.tool_use IS NOT NULL AND spy.source IN (?4, ?5)))",
        params![
            tenant,
            FrameSource::Gateway as i64,
            FrameSource::Relay as i64,
            FrameSource::Spy as i64,
            FrameSource::SpyHttp as i64
        ],
        |row| row.get(0),
    )?;
    Ok(count as u64)
}

/// Takes the content of the messages that served a conversation's tool calls.
pub(super) fn erase(connection: &Connection, tenant: i64, conversation: i64) -> Result<()> {
    connection.execute(
        "UPDATE frame SET conversation = NULL, pack = NULL, pack_offset = NULL, pack_length = NULL, chunks = NULL,
             digest = NULL
         WHERE tenant = ?1 AND conversation = ?2",
        params![tenant, conversation],
    )?;
    connection
        .execute("DELETE FROM tool_use WHERE tenant = ?1 AND conversation = ?2", params![tenant, conversation])?;
    Ok(())
}
