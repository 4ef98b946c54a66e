//! Startup contexts. At most one is active: a unique index sees to it.

use tokio_postgres::Row;
use uuid::Uuid;

use super::batch::Batch;
use super::snapshot::Snapshot;
use super::value::{given, stored};
use crate::handed_in;
use crate::model::{ContextDeletion, StartupContext, Timestamp};
use crate::store::Result;

const CONTEXT: &str = "SELECT x.uuid, x.name, CASE WHEN $2 THEN v.content END, x.version, x.active, x.created_at,
        x.updated_at
     FROM startup_context x
     JOIN startup_context_version v ON v.tenant = x.tenant AND v.context = x.id AND v.version = x.version
     WHERE x.tenant = $1";

fn context_of(row: &Row) -> Result<StartupContext> {
    Ok(StartupContext {
        id: row.try_get(0)?,
        name: given(row.try_get(1)?),
        content: row.try_get::<_, Option<String>>(2)?.map(given),
        version: row.try_get::<_, i64>(3)? as u64,
        is_active: row.try_get(4)?,
        created_at: row.try_get(5)?,
        updated_at: row.try_get(6)?,
    })
}

/// The tenant's writers take turns, so the one that is active before is no longer so when the next one comes.
pub(super) fn set(batch: &Batch<'_>, name: &str, content: &str, active: bool) -> Result<StartupContext> {
    handed_in::check_name("name", name)?;
    let (connection, tenant) = (batch.sql()?, batch.tenant());
    let now = Timestamp::now();
    if active {
        connection.execute("UPDATE startup_context SET active = false WHERE tenant = $1 AND active", &[&tenant])?;
    }
    connection.execute(
        "INSERT INTO startup_context AS x (tenant, uuid, name, active, version, created_at, updated_at)
         VALUES ($1, $2, $3, $4, 1, $5, $5)
         ON CONFLICT (tenant, name) DO UPDATE SET active = $4, version = x.version + 1, updated_at = $5",
        &[&tenant, &Uuid::now_v7(), &stored(name), &active, &now],
    )?;
    connection.execute(
        "INSERT INTO startup_context_version (tenant, context, version, content, created_at)
         SELECT tenant, id, version, $3, updated_at FROM startup_context WHERE tenant = $1 AND name = $2",
        &[&tenant, &stored(name), &stored(content)],
    )?;
    let row = connection.query_one(&format!("{CONTEXT} AND x.name = $3"), &[&tenant, &true, &stored(name)])?;
    context_of(&row)
}

pub(super) fn one(snapshot: &Snapshot<'_>, name: Option<&str>) -> Result<Option<StartupContext>> {
    let row = match name {
        Some(name) => {
            let sql = format!("{CONTEXT} AND x.name = $3");
            snapshot.connection.query_opt(&sql, &[&snapshot.tenant, &true, &stored(name)])?
        }
        None => snapshot.connection.query_opt(&format!("{CONTEXT} AND x.active"), &[&snapshot.tenant, &true])?,
    };
    row.as_ref().map(context_of).transpose()
}

pub(super) fn all(snapshot: &Snapshot<'_>, include_content: bool) -> Result<Vec<StartupContext>> {
    let sql = format!("{CONTEXT} ORDER BY x.name COLLATE \"C\"");
    let rows = snapshot.connection.query(&sql, &[&snapshot.tenant, &include_content])?;
    rows.iter().map(context_of).collect()
}

pub(super) fn versions(snapshot: &Snapshot<'_>, name: &str) -> Result<Vec<StartupContext>> {
    let rows = snapshot.connection.query(
        "SELECT x.uuid, x.name, v.content, v.version, x.active AND v.version = x.version, x.created_at, v.created_at
         FROM startup_context x JOIN startup_context_version v ON v.tenant = x.tenant AND v.context = x.id
         WHERE x.tenant = $1 AND x.name = $2 ORDER BY v.version DESC",
        &[&snapshot.tenant, &stored(name)],
    )?;
    rows.iter().map(context_of).collect()
}

pub(super) fn delete(batch: &Batch<'_>, name: &str, force: bool) -> Result<ContextDeletion> {
    let (connection, tenant) = (batch.sql()?, batch.tenant());
    let found = connection.query_opt(
        "SELECT id, active FROM startup_context WHERE tenant = $1 AND name = $2",
        &[&tenant, &stored(name)],
    )?;
    let Some(row) = found else { return Ok(ContextDeletion::Unknown) };
    let (id, active): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    if active && !force {
        return Ok(ContextDeletion::Kept);
    }
    connection.execute("DELETE FROM startup_context_version WHERE tenant = $1 AND context = $2", &[&tenant, &id])?;
    connection.execute("DELETE FROM startup_context WHERE tenant = $1 AND id = $2", &[&tenant, &id])?;
    Ok(ContextDeletion::Deleted)
}
