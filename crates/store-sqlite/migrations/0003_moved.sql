-- Where everything was moved to; while there is a row, this database is opened for nothing else.
CREATE TABLE moved (
    only_one    INTEGER PRIMARY KEY CHECK (only_one = 1),
    target      TEXT NOT NULL, -- for people: an address without password
    fingerprint TEXT NOT NULL, -- of what was moved
    at          INTEGER NOT NULL
) STRICT;
