-- The full-text index in parts of 131,072 message numbers each. A search goes through them from the newest on and ends when it
-- has enough; what is added goes to a small index. A part is named after the number of parts up to its end, so the highest
-- name tells how far they reach. What was one table becomes the first of them.
DO $$
DECLARE
    parts bigint := (SELECT coalesce(max(next_message), 0) / 131072 + 1 FROM total);
BEGIN
    EXECUTE format('ALTER TABLE message_words RENAME TO message_words_%s', parts);
    EXECUTE format('ALTER INDEX message_words_pkey RENAME TO message_words_%s_pkey', parts);
    EXECUTE format('ALTER INDEX message_words_by_word RENAME TO message_words_%s_by_word', parts);
    EXECUTE format('ALTER INDEX message_words_%s_by_word SET (gin_pending_list_limit = 512)', parts);
    CREATE TABLE message_words (
        tenant  bigint NOT NULL,
        message bigint NOT NULL,
        part    integer NOT NULL,
        words   tsvector NOT NULL,
        PRIMARY KEY (tenant, message, part)
    ) PARTITION BY RANGE (message);
    -- What is added waits in a list that each search reads from end to end; 4 MB of it are too much.
    CREATE INDEX message_words_by_word ON message_words USING gin (words) WITH (gin_pending_list_limit = 512);
    CREATE INDEX message_words_further ON message_words (tenant, message) WHERE part > 0;
    EXECUTE format('ALTER TABLE message_words ATTACH PARTITION message_words_%s FOR VALUES FROM (MINVALUE) TO (%s)',
                   parts, parts * 131072);
END
$$;
