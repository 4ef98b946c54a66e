-- Search that knows titles, who said it, tools, errors and project folders.

ALTER TABLE session ADD project text;          -- the folder that its agent works in

-- Its tokens are made by the program, weighted A (title), B (user), C (assistant) and D (all else). Marks, which begin with
-- `~`, are what can be filtered by: see `search::names`, and r<role>, s<session>. A message stands in as many parts as it
-- takes for none of a tsvector's limits to drop a place of a word: at most 16,383 places, 255 of them of one word.
CREATE TABLE message_words (
    tenant  bigint NOT NULL,
    message bigint NOT NULL,
    part    integer NOT NULL,
    words   tsvector NOT NULL,
    PRIMARY KEY (tenant, message, part)
);
CREATE INDEX message_words_by_word ON message_words USING gin (words);
INSERT INTO message_unindexed (tenant, message) SELECT tenant, id FROM message ON CONFLICT DO NOTHING;
