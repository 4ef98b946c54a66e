-- Search that knows titles, who said it, tools, errors and project folders.

ALTER TABLE session ADD COLUMN project TEXT;         -- the folder that its agent works in

-- Its tokens are made by the program; `ascii` takes them as they are. Marks are what can be filtered by: see
-- `search::names`, and r<role>, s<session>.
DROP TABLE message_words;
CREATE VIRTUAL TABLE message_words USING fts5 (
    title, user, assistant, rest, marks, content = '', contentless_delete = 1, tokenize = "ascii"
);
INSERT OR IGNORE INTO message_unindexed (tenant, message) SELECT tenant, id FROM message;
