-- The record of one or more tenants. Times are microseconds since the epoch; ids in columns named `uuid` are 16 bytes.

CREATE TABLE tenant (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE,
    block_key BLOB NOT NULL               -- 32 random bytes: names of blocks tell nothing to who lacks it
) STRICT;

CREATE TABLE total (
    tenant         INTEGER PRIMARY KEY,
    captured_bytes INTEGER NOT NULL DEFAULT 0,
    stored_bytes   INTEGER NOT NULL DEFAULT 0,
    unrecorded     INTEGER NOT NULL DEFAULT 0,
    erasures       INTEGER NOT NULL DEFAULT 0   -- writers drop what they remember of blocks when it changes
) STRICT;

-- Texts that many exchanges share (paths, upstreams, models, fingerprints), by number.
CREATE TABLE name (
    tenant INTEGER NOT NULL,
    id     INTEGER PRIMARY KEY,
    text   TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX name_by_text ON name (tenant, text);

-- Recording processes, and every place of their gap-free sequences.
CREATE TABLE recorder (
    tenant     INTEGER NOT NULL,
    id         INTEGER PRIMARY KEY,
    uuid       BLOB NOT NULL,
    contiguous INTEGER NOT NULL DEFAULT 0,   -- every seq below it is in `record`
    begun_at   INTEGER,
    about      TEXT,
    ended_at   INTEGER,
    orderly    INTEGER
) STRICT;
CREATE UNIQUE INDEX recorder_by_uuid ON recorder (tenant, uuid);

CREATE TABLE record (
    tenant   INTEGER NOT NULL,
    recorder INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    kind     INTEGER NOT NULL,               -- 0 life begin, 1 exchange, 2 gap, 3 life end
    detail   BLOB,                           -- of a gap: JSON
    PRIMARY KEY (tenant, recorder, seq)
) STRICT, WITHOUT ROWID;

-- What was said.
CREATE TABLE session (
    tenant     INTEGER NOT NULL,
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    derived    INTEGER NOT NULL,             -- 1: the client named none, it was found by history
    title      TEXT,
    summary_at INTEGER                       -- when the agent last asked for a summary to go on from
) STRICT;
CREATE UNIQUE INDEX session_by_name ON session (tenant, name);

CREATE TABLE conversation (
    tenant     INTEGER NOT NULL,
    id         INTEGER PRIMARY KEY,
    uuid       BLOB NOT NULL,
    session    INTEGER NOT NULL,
    agent      TEXT,                         -- the sub-agent's id, as the client names it
    parent     INTEGER,
    fork_of    INTEGER,
    fork_turn  INTEGER,
    title      TEXT,
    source     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    tip        INTEGER NOT NULL,             -- its last turn
    metadata   TEXT
) STRICT;
CREATE UNIQUE INDEX conversation_by_uuid ON conversation (tenant, uuid);
CREATE INDEX conversation_by_session ON conversation (tenant, session, updated_at);
CREATE INDEX conversation_by_update ON conversation (tenant, updated_at);
CREATE INDEX conversation_by_fork ON conversation (tenant, fork_of) WHERE fork_of IS NOT NULL;
CREATE INDEX conversation_by_parent ON conversation (tenant, parent) WHERE parent IS NOT NULL;

-- A message's content is not here: it is in the exchange that brought it.
CREATE TABLE message (
    tenant       INTEGER NOT NULL,
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation INTEGER NOT NULL,
    turn         INTEGER NOT NULL,           -- 1-based
    role         INTEGER NOT NULL,
    complete     INTEGER NOT NULL,
    chain        BLOB NOT NULL,              -- identity of the history up to here
    exchange     INTEGER NOT NULL,
    element      INTEGER NOT NULL,           -- first element of the request's messages; -1: the response
    elements     INTEGER NOT NULL,           -- how many of them
    created_at   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX message_by_turn ON message (tenant, conversation, turn);
CREATE INDEX message_by_chain ON message (tenant, chain);

CREATE TABLE exchange (
    tenant         INTEGER NOT NULL,
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid           BLOB NOT NULL,
    recorder       INTEGER NOT NULL,
    seq            INTEGER NOT NULL,
    session        INTEGER,
    conversation   INTEGER,
    kind           INTEGER NOT NULL,
    api            INTEGER,
    started_at     INTEGER NOT NULL,
    first_byte_us  INTEGER,                  -- after started_at
    ended_us       INTEGER,                  -- after started_at
    method         INTEGER NOT NULL,         -- name
    path           INTEGER NOT NULL,         -- name
    status         INTEGER,
    outcome        INTEGER NOT NULL,
    durability     INTEGER NOT NULL,
    upstream       INTEGER NOT NULL,         -- name
    model          INTEGER,                  -- name
    streaming      INTEGER NOT NULL,
    request_bytes  INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    input_tokens   INTEGER,
    output_tokens  INTEGER,
    cache_read     INTEGER,
    cache_write    INTEGER,
    cost_nano      INTEGER,                  -- 1e-9 US dollars
    fingerprint    INTEGER,                  -- name
    erased         INTEGER NOT NULL DEFAULT 0,
    pack           INTEGER,                  -- where its envelope is
    pack_offset    INTEGER,
    pack_length    INTEGER,
    request_form   INTEGER NOT NULL,         -- 0 empty, 1 in the envelope, 2 manifest, 3 chunks
    request_data   BLOB,                     -- the manifest, or the chunks' hashes
    request_base   INTEGER,                  -- the exchange whose manifest this one refers to
    response_form  INTEGER NOT NULL,
    response_data  BLOB,
    digests        BLOB                      -- first 16 bytes of BLAKE3 of the request's body, then of the response's
) STRICT;
CREATE UNIQUE INDEX exchange_by_uuid ON exchange (tenant, uuid);
CREATE INDEX exchange_by_conversation ON exchange (tenant, conversation);
CREATE INDEX exchange_by_session ON exchange (tenant, session);
CREATE INDEX exchange_by_base ON exchange (tenant, request_base) WHERE request_base IS NOT NULL;

-- The bytes. An epoch is self-contained: nothing in it refers to another.
CREATE TABLE block (
    tenant INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    hash   BLOB NOT NULL,
    pack   INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    PRIMARY KEY (tenant, epoch, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE pack_piece (
    tenant INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    pack   INTEGER NOT NULL,
    piece  INTEGER NOT NULL,
    offset INTEGER NOT NULL,                 -- of its raw bytes in the pack
    data   BLOB NOT NULL,
    PRIMARY KEY (tenant, epoch, pack, piece)
) STRICT, WITHOUT ROWID;

-- Full-text search, filled behind the traffic.
CREATE TABLE message_unindexed (
    tenant  INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (tenant, message)
) STRICT, WITHOUT ROWID;

CREATE VIRTUAL TABLE message_words USING fts5 (
    words, tools, content = '', contentless_delete = 1, tokenize = "unicode61 remove_diacritics 2"
);
