//! Messages of connections.

use tokio_postgres::Row;
use uuid::Uuid;

use super::batch::Batch;
use super::error::damaged;
use super::snapshot::{Snapshot, location_of};
use super::value::{given, stored, text_key};
use crate::model::{
    CapturedFrame, Direction, Durability, Frame, FrameFilter, FrameForm, FrameSource, Outcome, Timestamp,
};
use crate::store::Result;
use crate::tables::{ConnectionRow, FoundFrame, FrameContent, FrameIngest, Frames, FramesOf, NewFrame, Owner};

const FRAME: &str = "SELECT f.id, f.uuid, k.uuid, r.uuid, f.seq, s.name, c.uuid, server.text, k.source, f.direction, f.at,
        f.ended_us, f.form, f.outcome, f.durability, f.bytes, method.text, f.rpc_id, subject.text, f.tool_use, f.is_error,
        f.connection
     FROM frame f
     JOIN connection k ON k.tenant = f.tenant AND k.id = f.connection
     JOIN recorder r ON r.tenant = f.tenant AND r.id = f.recorder
     JOIN name server ON server.tenant = f.tenant AND server.id = k.server
     LEFT JOIN session s ON s.tenant = f.tenant AND s.id = coalesce(f.session, k.session)
     LEFT JOIN conversation c ON c.tenant = f.tenant AND c.id = f.conversation
     LEFT JOIN name method ON method.tenant = f.tenant AND method.id = f.method
     LEFT JOIN name subject ON subject.tenant = f.tenant AND subject.id = f.subject
     WHERE f.tenant = $1";

pub(super) fn list(snapshot: &Snapshot<'_>, filter: &FrameFilter) -> Result<Vec<Frame>> {
    let sql = format!(
        "{FRAME} AND ($2::bytea IS NULL OR s.key = $2) AND ($3::uuid IS NULL OR k.uuid = $3)
         ORDER BY f.id LIMIT $4 OFFSET $5"
    );
    let session = filter.session_id.as_deref().map(text_key);
    let limit = filter.limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let offset = i64::try_from(filter.offset).unwrap_or(i64::MAX);
    let rows =
        snapshot.connection.query(&sql, &[&snapshot.tenant, &session, &filter.connection_id, &limit, &offset])?;
    rows.iter().map(|row| Ok(found_of(row)?.frame)).collect()
}

pub(super) fn session_of_tool_use(snapshot: &Snapshot<'_>, id: &str) -> Result<Option<String>> {
    let sql = "SELECT s.name FROM tool_use t JOIN session s ON s.tenant = t.tenant AND s.id = t.session
         WHERE t.tenant = $1 AND t.key = $2";
    let row = snapshot.connection.query_opt(sql, &[&snapshot.tenant, &text_key(id)])?;
    row.map(|row| Ok(given(row.try_get(0)?))).transpose()
}

fn found_of(row: &Row) -> Result<FoundFrame> {
    let unknown = || damaged("a message of a connection has a number without a name");
    let number = |column: usize| Ok::<_, tokio_postgres::Error>(row.try_get::<_, i16>(column)? as u8);
    let text = |column: usize| Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<String>>(column)?.map(given));
    let at: Timestamp = row.try_get(10)?;
    let frame = Frame {
        id: row.try_get(1)?,
        connection_id: row.try_get(2)?,
        recorder: row.try_get(3)?,
        seq: row.try_get::<_, i64>(4)? as u64,
        session_id: text(5)?,
        conversation_id: row.try_get(6)?,
        server: text(7)?.unwrap_or_default(),
        source: FrameSource::of(number(8)?).ok_or_else(unknown)?,
        direction: Direction::of(number(9)?).ok_or_else(unknown)?,
        at,
        ended_at: row.try_get::<_, Option<i64>>(11)?.map(|us| Timestamp(at.0 + us)),
        form: FrameForm::of(number(12)?).ok_or_else(unknown)?,
        outcome: Outcome::ALL.get(usize::from(number(13)?)).copied().ok_or_else(unknown)?,
        durability: match number(14)? == Durability::Power as u8 {
            true => Durability::Power,
            false => Durability::Process,
        },
        bytes: row.try_get::<_, i64>(15)? as u64,
        method: text(16)?,
        rpc_id: text(17)?,
        name: text(18)?,
        tool_use_id: text(19)?,
        is_error: row.try_get(20)?,
    };
    Ok(FoundFrame { row: row.try_get(0)?, connection: row.try_get(21)?, frame })
}

const CONTENT: &str = "SELECT id, pack, pack_offset, pack_length, chunks, digest, epoch FROM frame WHERE tenant = $1";

fn content_of(row: &Row) -> Result<FrameContent> {
    let at = match row.try_get::<_, Option<i64>>(1)? {
        Some(_) => Some(location_of(row, 1)?),
        None => None,
    };
    Ok(FrameContent {
        row: row.try_get(0)?,
        epoch: row.try_get(6)?,
        at,
        chunks: row.try_get(4)?,
        digest: row.try_get(5)?,
    })
}

impl Frames for Snapshot<'_> {
    fn frame_content(&self, row: i64) -> Result<FrameContent> {
        content_of(&self.connection.query_one(&format!("{CONTENT} AND id = $2"), &[&self.tenant, &row])?)
    }

    fn asked(&self, tool_use: &str) -> Result<Vec<FoundFrame>> {
        let sql = format!("{FRAME} AND f.tool_use_key = $2 AND f.kind = 0 ORDER BY f.id");
        self.connection.query(&sql, &[&self.tenant, &text_key(tool_use)])?.iter().map(found_of).collect()
    }

    fn answered(&self, request: &FoundFrame) -> Result<Option<FoundFrame>> {
        let sql = format!(
            "{FRAME} AND f.connection = $2 AND f.rpc_key = $3 AND f.direction <> $4 AND f.kind IN (2, 3) AND f.id > $5
             ORDER BY f.id LIMIT 1"
        );
        let FoundFrame { row, connection, frame } = request;
        let key = frame.rpc_id.as_deref().map(text_key);
        let direction = frame.direction as i16;
        let found = self.connection.query_opt(&sql, &[&self.tenant, connection, &key, &direction, row])?;
        found.as_ref().map(found_of).transpose()
    }
}

impl Snapshot<'_> {
    pub(super) fn frame_row(&self, uuid: Uuid) -> Result<Option<i64>> {
        let sql = "SELECT id FROM frame WHERE tenant = $1 AND uuid = $2";
        Ok(self.connection.query_opt(sql, &[&self.tenant, &uuid])?.map(|row| row.get(0)))
    }
}

impl FrameIngest for Batch<'_> {
    fn connection(&self, uuid: Uuid) -> Result<Option<ConnectionRow>> {
        let sql = "SELECT id, session FROM connection WHERE tenant = $1 AND uuid = $2";
        let row = self.reads.connection.query_opt(sql, &[&self.tenant(), &uuid])?;
        row.map(|row| Ok(ConnectionRow { id: row.try_get(0)?, session: row.try_get(1)? })).transpose()
    }

    fn add_connection(&self, frame: &CapturedFrame, server: i64, session: Option<i64>) -> Result<i64> {
        let row = self.reads.connection.query_one(
            "INSERT INTO connection (tenant, uuid, server, source, session) VALUES ($1, $2, $3, $4, $5) RETURNING id",
            &[&self.tenant(), &frame.connection_id, &server, &(frame.source as i16), &session],
        )?;
        Ok(row.try_get(0)?)
    }

    fn give_connection(&self, connection: i64, session: Option<i64>) -> Result<()> {
        self.reads.connection.execute(
            "UPDATE connection SET session = $3 WHERE tenant = $1 AND id = $2",
            &[&self.tenant(), &connection, &session],
        )?;
        Ok(())
    }

    fn owner_of_request(&self, connection: i64, direction: i64, id: &str) -> Result<Option<Owner>> {
        let row = self.reads.connection.query_opt(
            "SELECT session, conversation, tool_use FROM frame
             WHERE tenant = $1 AND connection = $2 AND rpc_key = $3 AND direction <> $4 AND kind = 0
             ORDER BY id DESC LIMIT 1",
            &[&self.tenant(), &connection, &text_key(id), &(direction as i16)],
        )?;
        row.map(|row| {
            let tool_use = row.try_get::<_, Option<String>>(2)?.map(given);
            Ok(Owner { session: row.try_get(0)?, conversation: row.try_get(1)?, tool_use })
        })
        .transpose()
    }

    fn owner_of_tool_use(&self, id: &str) -> Result<Option<(i64, i64)>> {
        let sql = "SELECT session, conversation FROM tool_use WHERE tenant = $1 AND key = $2";
        let row = self.reads.connection.query_opt(sql, &[&self.tenant(), &text_key(id)])?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    fn note_tool_use(&self, id: &str, session: i64, conversation: i64) -> Result<bool> {
        let key = text_key(id);
        let connection = self.reads.connection;
        let row = connection.query_one(
            "WITH added AS (INSERT INTO tool_use (tenant, key, id, session, conversation) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT DO NOTHING RETURNING key),
             owned AS (UPDATE frame SET session = coalesce(session, $4), conversation = $5
                 WHERE tenant = $1 AND tool_use_key = $2 AND conversation IS NULL RETURNING connection),
             given AS (UPDATE connection SET session = $4
                 WHERE tenant = $1 AND session IS NULL AND id IN (SELECT connection FROM owned))
             SELECT EXISTS (SELECT FROM added)",
            &[&self.tenant(), &key, &stored(id), &session, &conversation],
        )?;
        Ok(row.try_get(0)?)
    }

    fn insert_frame(&self, new: &NewFrame<'_>) -> Result<()> {
        let captured = new.captured;
        self.reads.connection.execute(
            "INSERT INTO frame (tenant, epoch, id, uuid, recorder, seq, exchange, connection, session, conversation,
                direction, form, at, ended_us, outcome, durability, kind, method, rpc_id, rpc_key, subject, tool_use,
                tool_use_key, is_error, bytes, pack, pack_offset, pack_length, chunks, digest)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                $23, $24, $25, $26, $27, $28, $29, $30)",
            &[
                &self.tenant(),
                &new.epoch,
                &self.next_frame(),
                &captured.id,
                &new.recorder,
                &(new.seq as i64),
                &new.exchange,
                &new.connection,
                &new.owner.session,
                &new.owner.conversation,
                &(captured.direction as i16),
                &i16::from(captured.form.number()),
                &captured.at,
                &captured.ended_at.map(|t| t.0 - captured.at.0),
                &(captured.outcome as i16),
                &(captured.durability as i16),
                &(new.kind as i16),
                &new.method,
                &new.rpc_id.map(stored),
                &new.rpc_id.map(text_key),
                &new.subject,
                &new.owner.tool_use.as_deref().map(stored),
                &new.owner.tool_use.as_deref().map(text_key),
                &new.is_error,
                &(captured.body.size() as i64),
                &new.at.map(|at| at.pack),
                &new.at.map(|at| at.offset as i64),
                &new.at.map(|at| at.length as i64),
                &new.chunks,
                &&new.digest[..],
            ],
        )?;
        Ok(())
    }
}

impl Batch<'_> {
    pub(super) fn contents_of_frames(&self, of: FramesOf) -> Result<Vec<FrameContent>> {
        let connection = self.sql()?;
        let rows = match of {
            FramesOf::Conversation(conversation) => {
                let sql = format!("{CONTENT} AND conversation = $2 AND digest IS NOT NULL ORDER BY id");
                connection.query(&sql, &[&self.tenant(), &conversation])?
            }
            FramesOf::Epoch(epoch) => {
                let sql = format!("{CONTENT} AND epoch = $2 AND digest IS NOT NULL ORDER BY id");
                connection.query(&sql, &[&self.tenant(), &epoch])?
            }
        };
        rows.iter().map(content_of).collect()
    }

    pub(super) fn relocate_frame(&self, row: i64, at: crate::tables::Location) -> Result<()> {
        self.sql()?.execute(
            "UPDATE frame SET pack = $3, pack_offset = $4, pack_length = $5 WHERE tenant = $1 AND id = $2",
            &[&self.tenant(), &row, &at.pack, &(at.offset as i64), &(at.length as i64)],
        )?;
        Ok(())
    }

    /// The exchanges that hold messages of a conversation's tool calls.
    pub(super) fn exchanges_of_frames(&self, conversation: i64) -> Result<Vec<i64>> {
        let rows = self.sql()?.query(
            "SELECT DISTINCT exchange FROM frame WHERE tenant = $1 AND conversation = $2 AND exchange IS NOT NULL",
            &[&self.tenant(), &conversation],
        )?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Takes the content of the messages that served a conversation's tool calls.
    pub(super) fn erase_frames(&self, conversation: i64) -> Result<()> {
        self.sql()?.execute(
            "UPDATE frame SET conversation = NULL, pack = NULL, pack_offset = NULL, pack_length = NULL, chunks = NULL,
                 digest = NULL
             WHERE tenant = $1 AND conversation = $2",
            &[&self.tenant(), &conversation],
        )?;
        let sql = "DELETE FROM tool_use WHERE tenant = $1 AND conversation = $2";
        self.sql()?.execute(sql, &[&self.tenant(), &conversation])?;
        Ok(())
    }
}
