-- What each of the database's roles may do, in the schemas of all rooms; run by their owner whenever a program that knows
-- more of them is installed. Nobody but the owner may make or drop tables, and nobody may change or remove entries.
DO $$
DECLARE
    newer constant boolean := current_setting('server_version_num')::int >= 160000;
    part text;
    made text;
BEGIN
    IF (SELECT count(*) FROM pg_roles WHERE rolname IN ('cnc_write', 'cnc_read', 'cnc_fold', 'cnc_relay')) < 4 THEN
        RAISE EXCEPTION 'the roles cnc_write, cnc_read, cnc_fold and cnc_relay are not there: the owner of the database may not make roles, and is the only one who can work here';
    END IF;

    GRANT USAGE ON SCHEMA cnc_keys TO cnc_write;
    GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA cnc_keys TO cnc_write;

    -- Every process looks at the versions when it starts, says that it knows the folds' tables, asks whether commits were
    -- lost, and says how folds stand.
    FOREACH part IN ARRAY ARRAY['cnc_write', 'cnc_fold', 'cnc_relay'] LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA cnc, cnc_views TO %I', part);
        EXECUTE format('GRANT SELECT ON cnc.ledger_versions, cnc_views.versions, cnc_views.swaps, cnc.folds, cnc_views.folds TO %I', part);
        EXECUTE format('GRANT SELECT, INSERT ON cnc.fold_tables, cnc_views.fold_tables, cnc_views.generation TO %I',
            part);
    END LOOP;

    -- Whoever only reads sees of views what is secured by row.
    GRANT USAGE ON SCHEMA cnc_views TO cnc_read;
    FOR made IN
        SELECT oid::regclass FROM pg_class
        WHERE relnamespace = 'cnc_views'::regnamespace AND relkind = 'r' AND relrowsecurity
    LOOP
        EXECUTE 'GRANT SELECT ON ' || made || ' TO cnc_read';
    END LOOP;

    -- The owner may read as others do. From Postgres 16 on, who makes a role is a member of it and may not yet become it.
    BEGIN
        IF NOT pg_has_role(current_user, 'cnc_read', CASE WHEN newer THEN 'SET' ELSE 'MEMBER' END) THEN
            EXECUTE format('GRANT cnc_read TO %I', current_user) || CASE WHEN newer THEN ' WITH SET TRUE' ELSE '' END;
        END IF;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE 'the owner reads as itself: %', SQLERRM;
    END;

    -- Folds write what they fold: what all share, and the tables of each fold's documents.
    FOR made IN
        SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
        WHERE (schemaname = 'cnc_views' AND tablename NOT IN ('versions', 'fold_tables'))
            OR (schemaname = 'cnc' AND tablename IN
                ('folds', 'fold_skips', 'removals', 'trigger_starts', 'outbox', 'deadlines'))
            OR (schemaname = 'cnc' AND tablename IN (SELECT document || '_v' || version FROM cnc.fold_tables))
    LOOP
        EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON ' || made || ' TO cnc_fold';
    END LOOP;
END $$;
