-- The role of people who ask questions: it reads the views of the newest date, those that are loaded later too. History
-- and ledger it does not see, and it writes nothing. The views read with the loader's rights, so it needs none there.
--
-- Run it in the warehouse's database, after warehouse_loader.sql, as an administrator, as often as you like, then let
-- each person be a member:
--     psql -f load/roles/analyst.sql
--     CREATE ROLE ada LOGIN IN ROLE analyst;
--     \password ada
DO $$
DECLARE
    schemas text[] := ARRAY['public'];  -- as in warehouse_loader.sql
    role text := 'analyst';
    loader text := 'warehouse_loader';
    one text;
    view text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', role);
    END IF;
    EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', role);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    FOREACH one IN ARRAY schemas LOOP
        EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', one);  -- as PostgreSQL 15 and later have it anyway
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', one, role);
        FOR view IN SELECT viewname FROM pg_views WHERE schemaname = one AND viewowner = loader LOOP
            EXECUTE format('GRANT SELECT ON %I.%I TO %I', one, view, role);
        END LOOP;
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON TABLES TO %I',
                       loader, one, role);
    END LOOP;
END
$$;
-- Whoever is to see older dates too:
--     GRANT USAGE ON SCHEMA public_history TO analyst;
--     GRANT SELECT ON ALL TABLES IN SCHEMA public_history TO analyst;
--     ALTER DEFAULT PRIVILEGES FOR ROLE warehouse_loader IN SCHEMA public_history GRANT SELECT ON TABLES TO analyst;
