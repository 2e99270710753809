-- Version 3. Whatever remembers a position keeps the hash of the entry there, so that a ledger that was restored, or taken over
-- by a standby, is noticed. Before `whole_from` a build that took the place of one of another history serves nobody; `begun`
-- has the processes that have begun to fold what comes next, and a number that each raises while it lives.
ALTER TABLE {schema}.folds
    ADD COLUMN hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    ADD COLUMN whole_from bigint NOT NULL DEFAULT 0,
    ADD COLUMN skipped bigint NOT NULL DEFAULT 0,
    ADD COLUMN begun jsonb NOT NULL DEFAULT '{}',
    DROP COLUMN starts;
ALTER TABLE {schema}.trigger_starts ADD COLUMN hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex');
DO $$ BEGIN
    IF to_regclass('cnc.events') IS NOT NULL THEN
        UPDATE {schema}.folds AS f SET hash = e.hash FROM cnc.events AS e
            WHERE e.company = f.company AND e.position = f.position;
        UPDATE {schema}.trigger_starts AS s SET hash = e.hash FROM cnc.events AS e
            WHERE e.company::text = s.company AND e.position = s.position;
    END IF;
END $$;
