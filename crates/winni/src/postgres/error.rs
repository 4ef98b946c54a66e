//! What PostgreSQL's errors mean to the record: almost always "not now", seldom "not this".

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::store::Error;

/// A database that cannot be used now keeps its items in the spool, so everything that another attempt, a restart or an
/// administrator can mend is [`Error::Unavailable`]. What the server says about single values (its "detail") is left out:
/// it quotes what was recorded.
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            return match is_conversion(&error) {
                true => Error::Damaged(with_causes(&error)),
                false => Error::Unavailable(with_causes(&error)),
            };
        };
        let message = format!("{} ({})", said.message(), said.code().code());
        // Values that it will not take: integrity, data, and limits of a row or an index entry.
        let about_values = ["22", "23", "54"].iter().any(|class| said.code().code().starts_with(class));
        match about_values && *said.code() != SqlState::STATEMENT_TOO_COMPLEX {
            true => Error::Damaged(message),
            false => Error::Unavailable(message),
        }
    }
}

/// Whether a value could not be read or written as what the schema says it is.
fn is_conversion(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    !error.is_closed() && (text.starts_with("error deserializing") || text.starts_with("error serializing"))
}

fn with_causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A message for data that does not fit together.
pub(super) fn damaged(what: impl Into<String>) -> Error {
    Error::Damaged(what.into())
}
