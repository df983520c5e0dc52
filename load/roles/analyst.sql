-- Role of analysts: reads the views of the newest date, including views of later loads. It cannot read history or load
-- history, and cannot write. The views read with the loader's rights, so analysts need none on history.
--
-- Run it in the warehouse database as an administrator, after warehouse_loader.sql; repeatable. Then add members:
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
-- To grant access to older dates, too:
--     GRANT USAGE ON SCHEMA public_history TO analyst;
--     GRANT SELECT ON ALL TABLES IN SCHEMA public_history TO analyst;
--     ALTER DEFAULT PRIVILEGES FOR ROLE warehouse_loader IN SCHEMA public_history GRANT SELECT ON TABLES TO analyst;
