-- Version 2. What relays to NATS know of each other, and how far each company's entries were published.

-- Relays that live. Whatever a relay holds is free once its time is over, by this database's clock.
CREATE TABLE cnc.relays (
    relay       uuid        PRIMARY KEY,
    alive_until timestamptz NOT NULL
);

-- One row a company. All up to `published` was acknowledged by the broker; null is not known, so that everything that the
-- stream keeps is published again. `safe` was published ten minutes or more before the last change of this row, and
-- `mark` at `marked_at` will be the next such.
CREATE TABLE cnc.relay (
    company      uuid        PRIMARY KEY,
    holder       uuid,
    published    bigint,
    published_at timestamptz NOT NULL DEFAULT now(),
    safe         bigint,
    mark         bigint,
    marked_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 40);
CREATE INDEX relay_holder ON cnc.relay (holder);

-- One row: the stream into which all that was published, and its last message that a relay knows of. A new generation
-- begins when the broker was found to have less: what was published in the one before counts no more.
CREATE TABLE cnc.relay_stream (
    one             boolean     PRIMARY KEY DEFAULT true CHECK (one),
    generation      bigint      NOT NULL DEFAULT 0,
    created         text        NOT NULL DEFAULT '',
    acknowledged    bigint      NOT NULL DEFAULT 0,
    acknowledged_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO cnc.relay_stream DEFAULT VALUES;
