-- A record that is being moved here, or was. Until it is whole nobody else may use it.
CREATE TABLE moving (
    tenant   bigint PRIMARY KEY,
    finished boolean NOT NULL
);

-- The first part of a message holds all of its words, so that one look tells whether it has several of them; what was
-- indexed otherwise is indexed anew.
INSERT INTO message_unindexed (tenant, message) SELECT DISTINCT tenant, message FROM message_words WHERE part > 0
    ON CONFLICT DO NOTHING;
DELETE FROM message_words w WHERE EXISTS
    (SELECT FROM message_unindexed u WHERE u.tenant = w.tenant AND u.message = w.message);
