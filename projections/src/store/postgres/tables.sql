CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.folds (
    company uuid NOT NULL, fold text NOT NULL, version bigint NOT NULL, build bigint NOT NULL,
    standing text NOT NULL, position bigint NOT NULL DEFAULT 0, silent_until bigint NOT NULL DEFAULT 0,
    starts bigint NOT NULL DEFAULT 0, poison_position bigint, poison_reason text,
    poison_attempts bigint NOT NULL DEFAULT 0, retry_at bigint NOT NULL DEFAULT 0,
    touched_at bigint NOT NULL DEFAULT 0, horizon bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (company, fold, version, build)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX IF NOT EXISTS folds_live ON {schema}.folds (company, fold) WHERE standing = 'live';
CREATE TABLE IF NOT EXISTS {schema}.fold_tables (
    fold text NOT NULL, version bigint NOT NULL, document text NOT NULL, PRIMARY KEY (fold, version, document)
);
CREATE TABLE IF NOT EXISTS {schema}.fold_skips (
    company uuid NOT NULL, fold text NOT NULL, version bigint NOT NULL, position bigint NOT NULL,
    reason text NOT NULL, skipped_by text NOT NULL, skipped_at bigint NOT NULL,
    PRIMARY KEY (company, fold, version, position)
);
CREATE TABLE IF NOT EXISTS {schema}.removals (
    company uuid NOT NULL, fold text NOT NULL, position bigint NOT NULL, key text COLLATE "C" NOT NULL, location uuid,
    removed_at bigint NOT NULL, PRIMARY KEY (company, fold, position, key)
);
CREATE INDEX IF NOT EXISTS removals_at ON {schema}.removals (removed_at);
CREATE TABLE IF NOT EXISTS {schema}.trigger_starts (
    fold text NOT NULL, company text NOT NULL, position bigint NOT NULL, PRIMARY KEY (fold, company)
);
CREATE TABLE IF NOT EXISTS {schema}.outbox (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, company uuid NOT NULL, command uuid NOT NULL,
    parcel json NOT NULL, tries bigint NOT NULL DEFAULT 0, last_fault text, due_at bigint NOT NULL,
    UNIQUE (company, command)
);
CREATE INDEX IF NOT EXISTS outbox_due ON {schema}.outbox (due_at, place);
CREATE TABLE IF NOT EXISTS {schema}.deadlines (
    company uuid NOT NULL, fold text NOT NULL, key text NOT NULL, due_at bigint NOT NULL, parcel json NOT NULL,
    PRIMARY KEY (company, fold, key)
);
CREATE INDEX IF NOT EXISTS deadlines_due ON {schema}.deadlines (due_at);
