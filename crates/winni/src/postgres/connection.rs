//! One connection, used by one thread at a time, in plain calls.
//!
//! What the lake does with a database is a sequence of questions, each of which depends on the answer before; so it runs on
//! threads that may block, as it does with SQLite. A connection brings the runtime that moves its bytes, which makes it
//! independent of the caller's and spares every answer the way from one thread to another.
//!
//! Guaranteed: no call takes longer than the server's statement timeout and a little. After an error that leaves open what
//! the server has done, the connection counts as broken and is not used again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

use super::address::Address;
use super::tls::Tls;
use crate::store::{Error, Result};

/// Statements of one connection that are kept prepared.
const MAX_STATEMENTS: usize = 256;
/// How much longer than the server's own limit a call may take before the server counts as gone.
const GRACE: Duration = Duration::from_secs(15);

/// How long the server may work on one statement, and wait for one lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) statement: Duration,
    pub(super) lock: Duration,
    /// Whether a statement is planned anew for each of its values. That takes longer than finding a row by its key; a search
    /// is worth it.
    pub(super) plans_anew: bool,
}

impl Limits {
    /// For reading: whoever asked is waiting.
    pub(super) const READING: Limits =
        Limits { statement: Duration::from_secs(30), lock: Duration::from_secs(10), plans_anew: true };
    /// For writing, erasing and migrating, which may have to wait for other writers.
    pub(super) const WRITING: Limits =
        Limits { statement: Duration::from_secs(120), lock: Duration::from_secs(30), plans_anew: false };
}

pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A value of a row that is to be added.
pub(super) type Value = Box<dyn ToSql + Sync>;

/// How rows are added to a table.
pub(super) struct Copy<'c> {
    /// `COPY table (columns) FROM STDIN (FORMAT binary)`
    pub(super) sql: &'c str,
    /// Of the columns.
    pub(super) types: &'c [Type],
}

/// A connection.
pub(super) struct Connection {
    /// Absent only while it is being dropped.
    runtime: Option<Runtime>,
    client: Client,
    statements: RefCell<HashMap<String, Statement>>,
    patience: Duration,
    broken: Cell<bool>,
}

impl Connection {
    /// Must be called where blocking is allowed, as everything here.
    pub(super) fn open(address: &Address, limits: Limits) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Unavailable(format!("cannot start a connection: {error}")))?;
        let patience = limits.statement + GRACE;
        let tls = Tls::new(address)?;
        let client = runtime.block_on(async {
            let connecting = tokio::time::timeout(patience, address.config.connect(tls));
            let (client, connection) = connecting.await.map_err(|_| silent())??;
            // What ends the connection is told to whoever asks next.
            tokio::spawn(async move { drop(connection.await) });
            // Helpers take the server longer to start, and statements to compile, than most of what is asked here takes.
            client
                .batch_execute(&format!(
                    "SET search_path = iccm; SET timezone = 'UTC'; SET client_min_messages = warning;
                     SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {};
                     SET enable_seqscan = off; SET parallel_setup_cost = 20000; SET jit = off;
                     SET plan_cache_mode = {}",
                    limits.statement.as_millis(),
                    limits.lock.as_millis(),
                    patience.as_millis(),
                    if limits.plans_anew { "force_custom_plan" } else { "force_generic_plan" },
                ))
                .await?;
            Ok::<_, Error>(client)
        })?;
        let statements = RefCell::default();
        Ok(Self { runtime: Some(runtime), client, statements, patience, broken: Cell::new(false) })
    }

    /// Whether it is worth being asked again.
    pub(super) fn is_usable(&self) -> bool {
        !self.broken.get() && !self.client.is_closed()
    }

    pub(super) fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        let statement = self.statement(sql)?;
        self.wait(self.client.query(&statement, params))
    }

    pub(super) fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row> {
        let statement = self.statement(sql)?;
        self.wait(self.client.query_one(&statement, params))
    }

    pub(super) fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>> {
        let statement = self.statement(sql)?;
        self.wait(self.client.query_opt(&statement, params))
    }

    pub(super) fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64> {
        let statement = self.statement(sql)?;
        self.wait(self.client.execute(&statement, params))
    }

    /// Statements without parameters, separated by semicolons.
    pub(super) fn batch(&self, sql: &str) -> Result<()> {
        self.wait(self.client.batch_execute(sql))
    }

    /// Adds rows in binary form.
    pub(super) fn copy(&self, copy: &Copy<'_>, rows: &[Vec<Value>]) -> Result<()> {
        self.copy_all(&[(copy, rows)])
    }

    /// Adds rows to several tables, in order; none waits for the answer to the one before.
    pub(super) fn copy_all(&self, copies: &[(&Copy<'_>, &[Vec<Value>])]) -> Result<()> {
        let mut copying = Vec::with_capacity(copies.len());
        for (copy, rows) in copies.iter().filter(|(_, rows)| !rows.is_empty()) {
            let statement = self.statement(copy.sql)?;
            copying.push(async move {
                let sink = self.client.copy_in(&statement).await?;
                let mut writer = pin!(BinaryCopyInWriter::new(sink, copy.types));
                for row in *rows {
                    writer.as_mut().write_raw(row.iter().map(|value| &**value)).await?;
                }
                writer.finish().await
            });
        }
        self.wait(futures_util::future::try_join_all(copying)).map(|_| ())
    }

    /// Asks several things at once: the server gets all of them before it answers the first.
    pub(super) fn query_all(&self, queries: &[(&str, Params<'_>)]) -> Result<Vec<Vec<Row>>> {
        let statements = queries.iter().map(|(sql, _)| self.statement(sql)).collect::<Result<Vec<_>>>()?;
        let asked = statements.iter().zip(queries).map(|(statement, (_, params))| self.client.query(statement, params));
        self.wait(futures_util::future::try_join_all(asked))
    }

    /// Runs `work` in a transaction that is committed if it succeeds and rolled back if not.
    pub(super) fn transaction<T>(&self, begin: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.batch(begin)?;
        match work() {
            Ok(done) => {
                // Whether a commit that was not answered has happened is open; the record's own marks tell, later.
                self.batch("COMMIT").inspect_err(|_| self.broken.set(true))?;
                Ok(done)
            }
            Err(error) => {
                if self.batch("ROLLBACK").is_err() {
                    self.broken.set(true);
                }
                Err(error)
            }
        }
    }

    fn statement(&self, sql: &str) -> Result<Statement> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.wait(self.client.prepare(sql))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= MAX_STATEMENTS {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn wait<T>(&self, answer: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>) -> Result<T> {
        let Some(runtime) = &self.runtime else { return Err(silent()) };
        match runtime.block_on(async { tokio::time::timeout(self.patience, answer).await }) {
            Ok(answer) => answer.map_err(|error| {
                if error.as_db_error().is_none_or(|said| schema_is_gone(said.code().code())) {
                    self.broken.set(true);
                }
                error.into()
            }),
            Err(_) => {
                self.broken.set(true);
                Err(silent())
            }
        }
    }
}

/// Somebody has dropped or restored the database meanwhile; the next connection looks at it anew. A conversion that failed
/// and a connection that broke carry no code and end the connection too.
fn schema_is_gone(code: &str) -> bool {
    matches!(code, "42P01" | "3F000" | "42703" | "0A000" | "26000")
}

fn silent() -> Error {
    Error::Unavailable("the server does not answer".into())
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A runtime must not wait for its threads where blocking is not allowed; it has none that work.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
