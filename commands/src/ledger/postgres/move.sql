-- Version 3. Companies that move to another database.

-- A head with `moved_to` stays as it is: the company's ledger goes on in another database, under that name, since `move`.
ALTER TABLE cnc.heads ADD COLUMN moved_to text, ADD COLUMN move uuid;

-- What comes from another database. A company is none here, and has no head, before its copy is whole.
CREATE TABLE cnc.arrivals (
    company    uuid        PRIMARY KEY,
    move       uuid        NOT NULL,
    position   bigint      NOT NULL DEFAULT 0,
    begun_at   timestamptz NOT NULL DEFAULT now(),
    arrived_at timestamptz
);
