-- The logins of an installation whose processes own nothing: each may do its part and no more. Run by the owner after
-- `cnc migrate`, which makes the roles, and as often as you like; passwords are taken from the environment:
--
--   CNC_POSTGRES_GATEWAY_PASSWORD=… (and FOLDS, WORKERS, RELAY) psql "$OWNERS_URL" -v ON_ERROR_STOP=1 -f logins.sql
SET client_min_messages = warning;
\getenv gateway CNC_POSTGRES_GATEWAY_PASSWORD
\getenv folds CNC_POSTGRES_FOLDS_PASSWORD
\getenv workers CNC_POSTGRES_WORKERS_PASSWORD
\getenv relay CNC_POSTGRES_RELAY_PASSWORD

SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['gateway', 'folds', 'workers', 'relay']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

ALTER ROLE gateway PASSWORD :'gateway';
ALTER ROLE folds PASSWORD :'folds';
ALTER ROLE workers PASSWORD :'workers';
ALTER ROLE relay PASSWORD :'relay';

-- A gateway records commands, and reads views as `cnc_read`, which sees one company at a time.
GRANT cnc_write, cnc_read TO gateway;
GRANT cnc_fold TO folds;
-- Workers fold triggers, and record what these send.
GRANT cnc_write, cnc_fold TO workers;
GRANT cnc_relay TO relay;
