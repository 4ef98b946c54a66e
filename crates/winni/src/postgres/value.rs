//! Values on their way to the database and back.

use std::borrow::Cow;
use std::error::Error;

use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::model::Timestamp;
pub(super) use crate::moving::tables::text_key;

/// Microseconds from 1970, where the record counts from, to 2000, where PostgreSQL does.
const EPOCH_2000: i64 = 946_684_800_000_000;
/// The first and the last moment that `timestamptz` can hold.
const FIRST: i64 = -211_813_488_000_000_000;
const LAST: i64 = 9_223_371_331_199_999_999;

impl ToSql for Timestamp {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.saturating_sub(EPOCH_2000).clamp(FIRST, LAST).to_sql(&int8_for(ty), out)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_sql(&Type::INT8, raw)?.saturating_add(EPOCH_2000)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

fn int8_for(_: &Type) -> Type {
    Type::INT8
}

/// A `text` can hold every character but NUL, and what agents send holds that too. So NUL becomes [`ESCAPE`] and `0`, and
/// [`ESCAPE`], a character that no script uses, is doubled; any other text is stored as it is.
const ESCAPE: char = '\u{10fffd}';

/// Text as it is stored.
pub(super) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => stored.extend([ESCAPE, '0']),
            ESCAPE => stored.extend([ESCAPE, ESCAPE]),
            c => stored.push(c),
        }
    }
    Cow::Owned(stored)
}

/// Text as it was.
pub(super) fn given(stored: String) -> String {
    if !stored.contains(ESCAPE) {
        return stored;
    }
    let mut text = String::with_capacity(stored.len());
    let mut rest = stored.chars();
    while let Some(c) = rest.next() {
        match c {
            ESCAPE if rest.next() == Some('0') => text.push('\0'),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_comes_back_and_holds_no_nul_meanwhile(
            parts in proptest::collection::vec(prop_oneof![Just("\0"), Just("\u{10fffd}"), Just("0"), Just("a𝄞")], 0..9)
        ) {
            let text = parts.concat();
            let stored = stored(&text);
            prop_assert!(!stored.contains('\0'));
            prop_assert_eq!(given(stored.into_owned()), text);
        }
    }
}
