-- Messages that were handed in (through Dewey, or imported) beside the captured ones, and startup contexts.

-- What such messages say: each distinct content once, named by a keyed hash; zstd of its JSON.
CREATE TABLE stored_content (
    tenant INTEGER NOT NULL,
    id     INTEGER PRIMARY KEY,
    hash   BLOB NOT NULL,
    data   BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX stored_content_by_hash ON stored_content (tenant, hash);

-- A message has either the exchange that brought it and its place in there, or content of its own.
ALTER TABLE message ALTER COLUMN exchange DROP NOT NULL;
ALTER TABLE message ALTER COLUMN chain DROP NOT NULL;
ALTER TABLE message ADD COLUMN content INTEGER;      -- stored_content
ALTER TABLE message ADD COLUMN metadata TEXT;        -- a JSON object; absent where empty
CREATE INDEX message_by_content ON message (tenant, content) WHERE content IS NOT NULL;
-- Only captured histories are continued by what they say.
DROP INDEX message_by_chain;
CREATE INDEX message_by_chain ON message (tenant, chain) WHERE chain IS NOT NULL;

CREATE INDEX conversation_by_creation ON conversation (tenant, created_at);

CREATE TABLE startup_context (
    tenant     INTEGER NOT NULL,
    id         INTEGER PRIMARY KEY,
    uuid       BLOB NOT NULL,
    name       TEXT NOT NULL,
    active     INTEGER NOT NULL,
    version    INTEGER NOT NULL,             -- the newest
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX startup_context_by_name ON startup_context (tenant, name);
CREATE UNIQUE INDEX startup_context_active ON startup_context (tenant) WHERE active = 1;

CREATE TABLE startup_context_version (
    tenant     INTEGER NOT NULL,
    context    INTEGER NOT NULL,
    version    INTEGER NOT NULL,             -- from 1
    content    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, context, version)
) STRICT, WITHOUT ROWID;
