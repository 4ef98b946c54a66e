//! Startup contexts in SQLite. At most one is active: a unique index sees to it.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use uuid::Uuid;

use super::append::Writer;
use crate::handed_in;
use crate::model::{ContextDeletion, StartupContext, Timestamp};
use crate::store::Result;

const CONTEXT: &str = "SELECT x.uuid, x.name, CASE WHEN ?2 THEN v.content END, x.version, x.active, x.created_at,
        x.updated_at
     FROM startup_context x
     JOIN startup_context_version v ON v.tenant = x.tenant AND v.context = x.id AND v.version = x.version
     WHERE x.tenant = ?1";

fn context_of(row: &Row<'_>) -> rusqlite::Result<StartupContext> {
    Ok(StartupContext {
        id: Uuid::from_bytes(row.get(0)?),
        name: row.get(1)?,
        content: row.get(2)?,
        version: row.get::<_, i64>(3)? as u64,
        is_active: row.get(4)?,
        created_at: Timestamp(row.get(5)?),
        updated_at: Timestamp(row.get(6)?),
    })
}

pub(super) fn set(writer: &mut Writer, name: &str, content: &str, active: bool) -> Result<StartupContext> {
    handed_in::check_name("name", name)?;
    writer.check_file()?;
    let tenant = writer.tenant;
    let now = Timestamp::now().0;
    let transaction = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if active {
        transaction.execute("UPDATE startup_context SET active = 0 WHERE tenant = ?1 AND active = 1", [tenant])?;
    }
    transaction.execute(
        "INSERT INTO startup_context (tenant, uuid, name, active, version, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5)
         ON CONFLICT (tenant, name) DO UPDATE SET active = ?4, version = version + 1, updated_at = ?5",
        params![tenant, Uuid::now_v7().as_bytes(), name, active, now],
    )?;
    transaction.execute(
        "INSERT INTO startup_context_version (tenant, context, version, content, created_at)
         SELECT tenant, id, version, ?3, updated_at FROM startup_context WHERE tenant = ?1 AND name = ?2",
        params![tenant, name, content],
    )?;
    let context =
        transaction.query_row(&format!("{CONTEXT} AND x.name = ?3"), params![tenant, true, name], context_of)?;
    transaction.commit()?;
    Ok(context)
}

pub(super) fn one(connection: &Connection, tenant: i64, name: Option<&str>) -> Result<Option<StartupContext>> {
    let condition = if name.is_some() { "x.name = ?3" } else { "x.active = 1 AND ?3 IS NULL" };
    let mut query = connection.prepare_cached(&format!("{CONTEXT} AND {condition}"))?;
    Ok(query.query_row(params![tenant, true, name], context_of).optional()?)
}

pub(super) fn all(connection: &Connection, tenant: i64, include_content: bool) -> Result<Vec<StartupContext>> {
    let mut query = connection.prepare_cached(&format!("{CONTEXT} ORDER BY x.name"))?;
    let rows = query.query_map(params![tenant, include_content], context_of)?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

pub(super) fn versions(connection: &Connection, tenant: i64, name: &str) -> Result<Vec<StartupContext>> {
    let mut query = connection.prepare_cached(
        "SELECT x.uuid, x.name, v.content, v.version, x.active AND v.version = x.version, x.created_at, v.created_at
         FROM startup_context x JOIN startup_context_version v ON v.tenant = x.tenant AND v.context = x.id
         WHERE x.tenant = ?1 AND x.name = ?2 ORDER BY v.version DESC",
    )?;
    let rows = query.query_map(params![tenant, name], context_of)?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

pub(super) fn delete(writer: &mut Writer, name: &str, force: bool) -> Result<ContextDeletion> {
    writer.check_file()?;
    let tenant = writer.tenant;
    let transaction = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: Option<(i64, bool)> = transaction
        .query_row(
            "SELECT id, active FROM startup_context WHERE tenant = ?1 AND name = ?2",
            params![tenant, name],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((id, active)) = found else { return Ok(ContextDeletion::Unknown) };
    if active && !force {
        return Ok(ContextDeletion::Kept);
    }
    transaction
        .execute("DELETE FROM startup_context_version WHERE tenant = ?1 AND context = ?2", params![tenant, id])?;
    transaction.execute("DELETE FROM startup_context WHERE tenant = ?1 AND id = ?2", params![tenant, id])?;
    transaction.commit()?;
    Ok(ContextDeletion::Deleted)
}
