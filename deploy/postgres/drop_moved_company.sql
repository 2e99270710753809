-- Drops what a database still holds of a company that has moved to another one. As the owner of the tables:
--
--   psql "$OLD_DATABASE" -v company=01920000-0000-7000-8000-000000000001 -f drop_moved_company.sql
--
-- Nothing is dropped of a company that has not moved. Others wait meanwhile, so choose a quiet hour; take an export first
-- (`cnc audit export`) where the old ledger is to be kept.
BEGIN;
SELECT set_config('cnc.gone', :'company', true);
DO $$
DECLARE
    gone  text := current_setting('cnc.gone');
    place record;
BEGIN
    IF NOT EXISTS (SELECT FROM cnc.heads WHERE company = gone::uuid AND moved_to IS NOT NULL) THEN
        RAISE EXCEPTION 'no company % has moved away from here', gone;
    END IF;
    ALTER TABLE cnc.events DISABLE TRIGGER events_are_not_changed;
    FOR place IN
        SELECT c.table_schema AS schema, c.table_name AS name, c.data_type = 'bytea' AS raw
        FROM information_schema.columns AS c
        JOIN information_schema.tables AS t USING (table_schema, table_name)
        WHERE c.table_schema IN ('cnc', 'cnc_keys', 'cnc_views') AND c.column_name = 'company'
            AND t.table_type = 'BASE TABLE'
    LOOP
        EXECUTE format('DELETE FROM %I.%I WHERE company = %L', place.schema, place.name,
                       CASE WHEN place.raw THEN '\x' || replace(gone, '-', '') ELSE gone END);
    END LOOP;
    ALTER TABLE cnc.events ENABLE ALWAYS TRIGGER events_are_not_changed;
END $$;
COMMIT;
