//! What SQLite's errors mean to the record: almost always "not now", seldom "damaged".

use rusqlite::ErrorCode;

use crate::store::Error;

/// A database that cannot be used now keeps its items in the spool, so everything that another attempt, a freed disk or
/// an operator can mend is [`Error::Unavailable`].
impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
                Error::Damaged(error.to_string())
            }
            Some(_) => Error::Unavailable(error.to_string()),
            None => Error::Damaged(error.to_string()),
        }
    }
}

/// A message for data that does not fit together.
pub(super) fn damaged(what: impl Into<String>) -> Error {
    Error::Damaged(what.into())
}
