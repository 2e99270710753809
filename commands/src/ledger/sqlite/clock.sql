-- Version 2. SQLite has no clock of its own: here stands, in at most one row, how late it was by a clock that was believed,
-- so that a company that was idle for long, beside a running server, does not make the next start doubt its clock.
CREATE TABLE clock (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    at  INTEGER NOT NULL
) STRICT;
