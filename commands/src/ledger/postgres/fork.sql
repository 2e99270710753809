-- Version 6. What relays remember of a ledger they remember with the hash of the entry that stands there: a position alone
-- says nothing of a ledger that was put back. And consumers that are made anew are remembered before they are deleted.

ALTER TABLE cnc.relay ADD COLUMN published_hash bytea, ADD COLUMN safe_hash bytea, ADD COLUMN mark_hash bytea;

-- `config` is what the broker takes, `stream` which stream its places are of.
CREATE TABLE cnc.relay_consumers (
    name   text PRIMARY KEY,
    stream text NOT NULL,
    config text NOT NULL
);
