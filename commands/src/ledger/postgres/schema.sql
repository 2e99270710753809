-- Version 1. Times are microseconds since 1970. The line of an entry is `metadata` with `payload` put in as its last
-- member, both as the text that they are: `json`, never `jsonb`, which would reorder their members. All other columns
-- only index what `metadata` says. `events` is a superset of the table that postgres-es reads.
CREATE TABLE cnc.events (
    company        uuid                 NOT NULL,
    position       bigint               NOT NULL CHECK (position > 0),
    sequence       bigint               NOT NULL CHECK (sequence > 0),
    at             bigint               NOT NULL,
    aggregate_type text COLLATE "C"     NOT NULL DEFAULT 'cnc',
    aggregate_id   text COLLATE "C"     NOT NULL,
    event_type     text COLLATE "C"     NOT NULL,
    event_version  text COLLATE "C"     NOT NULL,
    hash           bytea                NOT NULL,
    metadata       json                 NOT NULL,
    payload        json                 NOT NULL,
    PRIMARY KEY (company, position),
    -- The type is the same for all, and the id begins with the company.
    UNIQUE (aggregate_id, sequence)
);

-- Moved with every append: room in the page lets a new version of a row stay beside the old one.
CREATE TABLE cnc.heads (
    company  uuid   PRIMARY KEY,
    position bigint NOT NULL,
    at       bigint NOT NULL,
    hash     bytea  NOT NULL CHECK (length(hash) = 32)
) WITH (fillfactor = 40);

-- `id` is made of company, actor and key, see `key_id`: a small index, however long keys are.
CREATE TABLE cnc.commands (
    id          uuid    PRIMARY KEY,
    company     uuid    NOT NULL,
    at          bigint  NOT NULL,
    for_ever    boolean NOT NULL,
    fingerprint bytea   NOT NULL CHECK (length(fingerprint) = 32),
    answer      text    NOT NULL
);
-- Answers are inserted in the order of time, and looked for by time only to be forgotten.
CREATE INDEX commands_at ON cnc.commands USING brin (at);

-- Undoes a statement that took a head to stand where it does not.
CREATE FUNCTION cnc.refuse_stale() RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'another process has moved a head' USING ERRCODE = 'serialization_failure'; END $$;

CREATE FUNCTION cnc.refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'entries are never changed or removed'; END $$;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON cnc.events
    FOR EACH STATEMENT EXECUTE FUNCTION cnc.refuse_change();
-- Also for a session that pretends to be a replica.
ALTER TABLE cnc.events ENABLE ALWAYS TRIGGER events_are_not_changed;
