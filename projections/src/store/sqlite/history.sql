-- Version 2. Whatever remembers a position keeps the hash of the entry there, so that a ledger that was restored is noticed.
ALTER TABLE folds ADD COLUMN hash BLOB NOT NULL
    DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000';
-- Before this position a build that took the place of one of another history serves nobody.
ALTER TABLE folds ADD COLUMN whole_from INTEGER NOT NULL DEFAULT 0;
ALTER TABLE folds ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;
-- Which processes have begun to fold what comes next, and a number that each raises while it lives.
ALTER TABLE folds ADD COLUMN begun TEXT NOT NULL DEFAULT '{}';
ALTER TABLE folds DROP COLUMN starts;
ALTER TABLE trigger_starts ADD COLUMN hash BLOB NOT NULL
    DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000';
-- Counts how often a view's live build gave way to another.
CREATE TABLE swaps (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL);
INSERT INTO swaps VALUES (1, 0);
