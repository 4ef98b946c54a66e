//! What a record consists of, row by row, whichever database it is in.
//!
//! Every table that holds something which cannot be made anew from the others is listed here. The full-text index is made
//! anew; the numbers that come next are [`Next`]. Tests compare the list with both schemas.

/// A value of a row. Flags are 0 and 1, moments microseconds, ids 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    /// Roughly what it takes in memory.
    pub(crate) fn size(&self) -> usize {
        match self {
            Cell::Null | Cell::Integer(_) => 8,
            Cell::Text(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
        }
    }
}

/// The cells of a row, in the order of its table's columns.
pub(crate) type Row = Vec<Cell>;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int2,
    Int4,
    Int8,
    Flag,
    Moment,
    Text,
    Bytes,
    Id,
}

/// A column of both databases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// In PostgreSQL.
    pub(crate) name: &'static str,
    /// In SQLite.
    pub(crate) sqlite: &'static str,
    pub(crate) kind: Kind,
}

/// By what the rows of a table are told apart, and in whose order they come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    /// The first so many columns, which are numbers or bytes.
    First(usize),
    /// The digest of the text in the first column: texts have no order that all databases agree on.
    DigestOfFirst,
}

/// A table of both databases. The tenant is not among its columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) key: Key,
    pub(crate) columns: &'static [Column],
    /// Columns that only PostgreSQL has: the digest of the text in another one.
    pub(crate) digests: &'static [(&'static str, &'static str)],
    /// How many rows are read at a time.
    pub(crate) page: usize,
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, sqlite: name, kind }
}

use Kind::{Bytes, Flag, Id, Int2, Int4, Int8, Moment, Text};

const fn table(name: &'static str, key: usize, columns: &'static [Column]) -> Table {
    Table { name, key: Key::First(key), columns, digests: &[], page: 512 }
}

/// Of tables whose rows may be large.
const FEW: usize = 16;

const TOTAL: Table = table(
    "total",
    0,
    &[
        column("captured_bytes", Int8),
        column("stored_bytes", Int8),
        column("unrecorded", Int8),
        column("erasures", Int8),
    ],
);

const NAME: Table =
    Table { digests: &[("key", "text")], ..table("name", 1, &[column("id", Int8), column("text", Text)]) };

const RECORDER: Table = table(
    "recorder",
    1,
    &[
        column("id", Int8),
        column("uuid", Id),
        column("contiguous", Int8),
        column("begun_at", Moment),
        column("about", Text),
        column("ended_at", Moment),
        column("orderly", Flag),
    ],
);

const RECORD: Table =
    table("record", 2, &[column("recorder", Int8), column("seq", Int8), column("kind", Int2), column("detail", Bytes)]);

const SESSION: Table = Table {
    digests: &[("key", "name")],
    ..table(
        "session",
        1,
        &[
            column("id", Int8),
            column("name", Text),
            column("derived", Flag),
            column("title", Text),
            column("summary_at", Moment),
            column("project", Text),
        ],
    )
};

const CONVERSATION: Table = table(
    "conversation",
    1,
    &[
        column("id", Int8),
        column("uuid", Id),
        column("session", Int8),
        column("agent", Text),
        column("parent", Int8),
        column("fork_of", Int8),
        column("fork_turn", Int8),
        column("title", Text),
        column("source", Text),
        column("created_at", Moment),
        column("updated_at", Moment),
        column("tip", Int8),
        column("metadata", Text),
    ],
);

const MESSAGE: Table = table(
    "message",
    1,
    &[
        column("id", Int8),
        column("conversation", Int8),
        column("turn", Int8),
        column("role", Int2),
        column("complete", Flag),
        column("chain", Bytes),
        column("exchange", Int8),
        column("element", Int8),
        column("elements", Int8),
        column("created_at", Moment),
        column("content", Int8),
        column("metadata", Text),
    ],
);

const EXCHANGE: Table = Table {
    page: 256,
    ..table(
        "exchange",
        1,
        &[
            column("id", Int8),
            column("epoch", Int4),
            column("uuid", Id),
            column("recorder", Int8),
            column("seq", Int8),
            column("session", Int8),
            column("conversation", Int8),
            column("kind", Int2),
            column("api", Int2),
            column("started_at", Moment),
            column("first_byte_us", Int8),
            column("ended_us", Int8),
            column("method", Int8),
            column("path", Int8),
            column("status", Int4),
            column("outcome", Int2),
            column("durability", Int2),
            column("upstream", Int8),
            column("model", Int8),
            column("streaming", Flag),
            column("request_bytes", Int8),
            column("response_bytes", Int8),
            column("input_tokens", Int8),
            column("output_tokens", Int8),
            column("cache_read", Int8),
            column("cache_write", Int8),
            column("cost_nano", Int8),
            column("fingerprint", Int8),
            column("erased", Flag),
            column("pack", Int8),
            column("pack_offset", Int8),
            column("pack_length", Int8),
            column("request_form", Int2),
            column("request_data", Bytes),
            column("request_base", Int8),
            column("response_form", Int2),
            column("response_data", Bytes),
            column("digests", Bytes),
        ],
    )
};

const BLOCK: Table = table(
    "block",
    2,
    &[
        column("epoch", Int4),
        column("hash", Bytes),
        column("pack", Int8),
        Column { name: "at", sqlite: "offset", kind: Int8 },
        column("length", Int8),
    ],
);

const PACK_PIECE: Table = Table {
    page: FEW,
    ..table(
        "pack_piece",
        3,
        &[
            column("epoch", Int4),
            column("pack", Int8),
            column("piece", Int8),
            Column { name: "at", sqlite: "offset", kind: Int8 },
            column("data", Bytes),
        ],
    )
};

const STORED_CONTENT: Table = Table {
    page: FEW,
    ..table("stored_content", 1, &[column("id", Int8), column("hash", Bytes), column("data", Bytes)])
};

const STARTUP_CONTEXT: Table = table(
    "startup_context",
    1,
    &[
        column("id", Int8),
        column("uuid", Id),
        column("name", Text),
        column("active", Flag),
        column("version", Int8),
        column("created_at", Moment),
        column("updated_at", Moment),
    ],
);

const STARTUP_CONTEXT_VERSION: Table = Table {
    page: FEW,
    ..table(
        "startup_context_version",
        2,
        &[column("context", Int8), column("version", Int8), column("content", Text), column("created_at", Moment)],
    )
};

const CONNECTION: Table = table(
    "connection",
    1,
    &[column("id", Int8), column("uuid", Id), column("server", Int8), column("source", Int2), column("session", Int8)],
);

const FRAME: Table = Table {
    digests: &[("rpc_key", "rpc_id"), ("tool_use_key", "tool_use")],
    page: 256,
    ..table(
        "frame",
        1,
        &[
            column("id", Int8),
            column("epoch", Int4),
            column("uuid", Id),
            column("recorder", Int8),
            column("seq", Int8),
            column("exchange", Int8),
            column("connection", Int8),
            column("session", Int8),
            column("conversation", Int8),
            column("direction", Int2),
            column("form", Int2),
            column("at", Moment),
            column("ended_us", Int8),
            column("outcome", Int2),
            column("durability", Int2),
            column("kind", Int2),
            column("method", Int8),
            column("rpc_id", Text),
            column("subject", Int8),
            column("tool_use", Text),
            column("is_error", Flag),
            column("bytes", Int8),
            column("pack", Int8),
            column("pack_offset", Int8),
            column("pack_length", Int8),
            column("chunks", Bytes),
            column("digest", Bytes),
        ],
    )
};

const TOOL_USE: Table = Table {
    key: Key::DigestOfFirst,
    digests: &[("key", "id")],
    ..table("tool_use", 0, &[column("id", Text), column("session", Int8), column("conversation", Int8)])
};

/// All of a record, the large tables last.
pub(crate) const TABLES: [Table; 16] = [
    TOTAL,
    NAME,
    RECORDER,
    RECORD,
    SESSION,
    CONVERSATION,
    STARTUP_CONTEXT,
    STARTUP_CONTEXT_VERSION,
    CONNECTION,
    TOOL_USE,
    EXCHANGE,
    FRAME,
    MESSAGE,
    STORED_CONTENT,
    BLOCK,
    PACK_PIECE,
];

/// The first moment that PostgreSQL can hold, in microseconds since 1970; an earlier one, which no clock should show, counts
/// for it.
const FIRST_MOMENT: i64 = -210_866_803_200_000_000;

/// A moment as every database can hold it.
pub(crate) fn moment(microseconds: i64) -> i64 {
    microseconds.max(FIRST_MOMENT)
}

/// What stands in a unique index, or in an order, for a text of any length.
pub(crate) fn text_key(text: &str) -> Vec<u8> {
    blake3::hash(text.as_bytes()).as_bytes()[..16].to_vec()
}

impl Table {
    /// What tells a row apart, in the order of the rows.
    pub(crate) fn key_of(&self, row: &Row) -> Row {
        match self.key {
            Key::First(columns) => row.get(..columns).unwrap_or_default().to_vec(),
            Key::DigestOfFirst => match row.first() {
                Some(Cell::Text(text)) => vec![Cell::Bytes(text_key(text))],
                _ => Vec::new(),
            },
        }
    }

    /// Columns by which a row is found.
    pub(crate) fn key_columns(&self) -> &'static [Column] {
        let columns = match self.key {
            Key::First(columns) => columns,
            Key::DigestOfFirst => 1,
        };
        self.columns.get(..columns).unwrap_or_default()
    }
}

/// The numbers that rows get which are added next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) exchange: i64,
    pub(crate) message: i64,
    pub(crate) frame: i64,
    pub(crate) pack: i64,
}
