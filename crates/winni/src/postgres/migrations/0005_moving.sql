-- A record that is being moved here, or was. Until it is whole nobody else may use it.
CREATE TABLE moving (
    tenant   bigint PRIMARY KEY,
    finished boolean NOT NULL
);
