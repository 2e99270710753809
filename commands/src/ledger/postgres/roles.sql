-- Roles to be granted to those who log in: who writes ledgers, who reads a company's, who folds all of them. Roles belong
-- to the whole cluster: another database's migration may make them at the same time, and a login without CREATEROLE
-- makes none and works as the tables' owner.
DO $$
DECLARE
    part text;
BEGIN
    FOREACH part IN ARRAY ARRAY['cnc_write', 'cnc_read', 'cnc_fold'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = part) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', part);
            END IF;
        EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
            RAISE NOTICE 'the role % is not made here: %', part, SQLERRM;
        END;
    END LOOP;
    IF (SELECT count(*) FROM pg_roles WHERE rolname IN ('cnc_write', 'cnc_read', 'cnc_fold')) < 3 THEN
        RETURN;
    END IF;

    REVOKE ALL ON ALL TABLES IN SCHEMA cnc FROM PUBLIC;
    GRANT USAGE ON SCHEMA cnc TO cnc_write, cnc_read, cnc_fold;
    GRANT SELECT ON cnc.events, cnc.heads TO cnc_write, cnc_read, cnc_fold;
    GRANT INSERT ON cnc.events, cnc.heads, cnc.commands TO cnc_write;
    GRANT UPDATE ON cnc.heads TO cnc_write;
    GRANT SELECT, DELETE ON cnc.commands TO cnc_write;

    -- Whoever only reads sees the one company that the session names.
    ALTER TABLE cnc.events ENABLE ROW LEVEL SECURITY;
    ALTER TABLE cnc.heads ENABLE ROW LEVEL SECURITY;
    CREATE POLICY all_companies ON cnc.events TO cnc_write, cnc_fold USING (true) WITH CHECK (true);
    CREATE POLICY all_companies ON cnc.heads TO cnc_write, cnc_fold USING (true) WITH CHECK (true);
    CREATE POLICY one_company ON cnc.events FOR SELECT TO cnc_read
        USING (company = nullif(current_setting('cnc.company', true), '')::uuid);
    CREATE POLICY one_company ON cnc.heads FOR SELECT TO cnc_read
        USING (company = nullif(current_setting('cnc.company', true), '')::uuid);
END $$;
