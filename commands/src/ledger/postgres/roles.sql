-- Roles to be granted to those who log in: who writes ledgers, who reads a company's, who folds all of them, who publishes
-- them. Run with each version, and by `cnc migrate` each time: a dump brings tables into another cluster and no roles, and
-- nothing that names them. Roles belong to the whole cluster: another database's migration may make them at the same time,
-- and a login without CREATEROLE makes none and works as the tables' owner.
DO $$
DECLARE
    roles constant text[] := ARRAY['cnc_write', 'cnc_read', 'cnc_fold', 'cnc_relay'];
    policies constant text[] := ARRAY[
        ['all_companies', 'FOR ALL TO cnc_write, cnc_fold USING (true) WITH CHECK (true)'],
        ['relays_read', 'FOR SELECT TO cnc_relay USING (true)'],
        -- Whoever only reads sees the one company that the session names.
        ['one_company', $p$FOR SELECT TO cnc_read USING (company = nullif(current_setting('cnc.company', true), '')::uuid)$p$]
    ];
    part text;
    policy text[];
BEGIN
    FOREACH part IN ARRAY roles LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = part) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', part);
            END IF;
        EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
            RAISE NOTICE 'the role % is not made here: %', part, SQLERRM;
        END;
    END LOOP;
    IF (SELECT count(*) FROM pg_roles WHERE rolname = ANY (roles)) < cardinality(roles) THEN
        RETURN;
    END IF;

    REVOKE ALL ON ALL TABLES IN SCHEMA cnc FROM PUBLIC;
    GRANT USAGE ON SCHEMA cnc TO cnc_write, cnc_read, cnc_fold, cnc_relay;
    GRANT SELECT ON cnc.events, cnc.heads TO cnc_write, cnc_read, cnc_fold, cnc_relay;
    GRANT INSERT ON cnc.events, cnc.heads, cnc.commands TO cnc_write;
    GRANT UPDATE ON cnc.heads TO cnc_write;
    GRANT SELECT, DELETE ON cnc.commands TO cnc_write;
    -- A relay reads all ledgers and appends to none.
    GRANT SELECT, INSERT, UPDATE ON cnc.relay TO cnc_relay;
    GRANT SELECT, INSERT, UPDATE, DELETE ON cnc.relays, cnc.relay_consumers TO cnc_relay;
    GRANT SELECT, UPDATE ON cnc.relay_stream TO cnc_relay;

    -- What is there is left as it is: to make a policy anew would lock out those who work.
    FOREACH part IN ARRAY ARRAY['events', 'heads'] LOOP
        IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = format('cnc.%I', part)::regclass) THEN
            EXECUTE format('ALTER TABLE cnc.%I ENABLE ROW LEVEL SECURITY', part);
        END IF;
        FOREACH policy SLICE 1 IN ARRAY policies LOOP
            IF NOT EXISTS (SELECT FROM pg_policies
                           WHERE schemaname = 'cnc' AND tablename = part AND policyname = policy[1]) THEN
                EXECUTE format('CREATE POLICY %I ON cnc.%I ', policy[1], part) || policy[2];
            END IF;
        END LOOP;
    END LOOP;
END $$;
