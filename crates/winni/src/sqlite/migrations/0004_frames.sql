-- Messages of connections: MCP on WebSockets, within HTTP exchanges and through the relay; other WebSockets.

CREATE TABLE connection (
    tenant   INTEGER NOT NULL,
    id       INTEGER PRIMARY KEY,
    uuid     BLOB NOT NULL,                  -- of the exchange that opened it, where there is one
    server   INTEGER NOT NULL,               -- name
    source   INTEGER NOT NULL,
    session  INTEGER                         -- of those of its messages that name none
) STRICT;
CREATE UNIQUE INDEX connection_by_uuid ON connection (tenant, uuid);

CREATE TABLE frame (
    tenant       INTEGER NOT NULL,
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid         BLOB NOT NULL,
    recorder     INTEGER NOT NULL,
    seq          INTEGER NOT NULL,           -- the exchange's, for a message within one
    exchange     INTEGER,                    -- that it is part of
    connection   INTEGER NOT NULL,
    session      INTEGER,
    conversation INTEGER,                    -- whose model asked for it
    direction    INTEGER NOT NULL,
    form         INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    ended_us     INTEGER,                    -- after at
    outcome      INTEGER NOT NULL,
    durability   INTEGER NOT NULL,
    kind         INTEGER NOT NULL,           -- 0 request, 1 notification, 2 result, 3 error, 4 other
    method       INTEGER,                    -- name
    rpc_id       TEXT,
    subject      INTEGER,                    -- name: the tool, prompt … that is asked for
    tool_use     TEXT,                       -- the model's call that it serves
    is_error     INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    pack         INTEGER,                    -- where its bytes are; absent when erased, or in chunks
    pack_offset  INTEGER,
    pack_length  INTEGER,
    chunks       BLOB,                       -- hashes of its blocks
    digest       BLOB                        -- first 16 bytes of BLAKE3 of its bytes
) STRICT;
CREATE UNIQUE INDEX frame_by_uuid ON frame (tenant, uuid);
CREATE INDEX frame_by_call ON frame (tenant, connection, rpc_id) WHERE rpc_id IS NOT NULL;
CREATE INDEX frame_by_tool_use ON frame (tenant, tool_use) WHERE tool_use IS NOT NULL;
CREATE INDEX frame_by_conversation ON frame (tenant, conversation) WHERE conversation IS NOT NULL;

-- The tool calls of models, to know whose they are when a server is asked.
CREATE TABLE tool_use (
    tenant       INTEGER NOT NULL,
    id           TEXT NOT NULL,
    session      INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
