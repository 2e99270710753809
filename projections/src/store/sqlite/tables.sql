CREATE TABLE IF NOT EXISTS folds (
    company TEXT NOT NULL, fold TEXT NOT NULL, version INTEGER NOT NULL, build INTEGER NOT NULL,
    standing TEXT NOT NULL, position INTEGER NOT NULL DEFAULT 0, silent_until INTEGER NOT NULL DEFAULT 0,
    starts INTEGER NOT NULL DEFAULT 0, poison_position INTEGER, poison_reason TEXT,
    poison_attempts INTEGER NOT NULL DEFAULT 0, retry_at INTEGER NOT NULL DEFAULT 0,
    touched_at INTEGER NOT NULL DEFAULT 0, horizon INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (company, fold, version, build)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS folds_live ON folds (company, fold) WHERE standing = 'live';
CREATE TABLE IF NOT EXISTS fold_tables (
    fold TEXT NOT NULL, version INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (fold, version, document)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fold_skips (
    company TEXT NOT NULL, fold TEXT NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL,
    reason TEXT NOT NULL, skipped_by TEXT NOT NULL, skipped_at INTEGER NOT NULL,
    PRIMARY KEY (company, fold, version, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS removals (
    company TEXT NOT NULL, fold TEXT NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, location TEXT,
    removed_at INTEGER NOT NULL, PRIMARY KEY (company, fold, position, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS removals_at ON removals (removed_at);
CREATE TABLE IF NOT EXISTS trigger_starts (
    fold TEXT NOT NULL, company TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (fold, company)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    place INTEGER PRIMARY KEY AUTOINCREMENT, company TEXT NOT NULL, command TEXT NOT NULL, parcel TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, last_fault TEXT, due_at INTEGER NOT NULL, UNIQUE (company, command)
);
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (due_at, place);
CREATE TABLE IF NOT EXISTS deadlines (
    company TEXT NOT NULL, fold TEXT NOT NULL, key TEXT NOT NULL, due_at INTEGER NOT NULL, parcel TEXT NOT NULL,
    PRIMARY KEY (company, fold, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deadlines_due ON deadlines (due_at);
