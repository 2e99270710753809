-- `ledger.db`. Times are microseconds since 1970, ids 16 bytes, hashes 32 bytes. The line of an entry is `metadata` with
-- `payload` put in as its last member; all other columns only index what `metadata` says.
CREATE TABLE events (
    company  BLOB    NOT NULL CHECK (length(company) = 16),
    position INTEGER NOT NULL,
    stream   TEXT    NOT NULL,
    id       BLOB    NOT NULL CHECK (length(id) = 16),
    sequence INTEGER NOT NULL,
    event    TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    hash     BLOB    NOT NULL,
    metadata TEXT    NOT NULL,
    payload  TEXT    NOT NULL,
    PRIMARY KEY (company, position),
    UNIQUE (company, stream, id, sequence)
) STRICT;

CREATE TABLE heads (
    company  BLOB    NOT NULL PRIMARY KEY CHECK (length(company) = 16),
    position INTEGER NOT NULL,
    hash     BLOB    NOT NULL CHECK (length(hash) = 32),
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `id` is 16 bytes made of company, actor and key: see `key_id`. The rows stand in the order of time beside a small index;
-- ordered by their random ids, every answer would touch a page of its own.
CREATE TABLE commands (
    id          BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    company     BLOB    NOT NULL,
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    at          INTEGER NOT NULL,
    for_ever    INTEGER NOT NULL,
    answer      TEXT    NOT NULL
) STRICT;
CREATE INDEX commands_to_forget ON commands (at) WHERE NOT for_ever;

CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT raise(ABORT, 'entries are never changed'); END;

CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
BEGIN SELECT raise(ABORT, 'entries are never removed'); END;

-- INSERT OR REPLACE removes rows without asking the trigger above. FAIL, since ABORT would have every statement keep a
-- copy of each page that it touches; the transaction is rolled back either way.
CREATE TRIGGER events_are_not_replaced BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE company = NEW.company AND position = NEW.position)
  OR EXISTS (SELECT 1 FROM events WHERE company = NEW.company AND stream = NEW.stream AND id = NEW.id
                                    AND sequence = NEW.sequence)
BEGIN SELECT raise(FAIL, 'entries are never replaced'); END;
