-- A record that is moved here brings its epochs along; what is recorded here is in epoch 0.
ALTER TABLE exchange ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE frame ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;

-- A record that is being moved here, or was. Until it is whole nobody else may use it.
CREATE TABLE moving (
    tenant   INTEGER PRIMARY KEY,
    finished INTEGER NOT NULL
) STRICT;
