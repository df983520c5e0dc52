-- Role of target-postgres and of the `landing` command: owns history and its views, without rights outside its schemas.
-- Takes over objects that another role loaded.
--
-- Run it in the warehouse database as an administrator; repeatable. Then set its password:
--     psql -f load/roles/warehouse_loader.sql
--     \password warehouse_loader
DO $$
DECLARE
    schemas text[] := ARRAY['public'];  -- every SCHEMA that is loaded into, and schemas of table_names
    role text := 'warehouse_loader';
    one text;
    history text;
    loaded text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        EXECUTE format('CREATE ROLE %I LOGIN', role);
    END IF;
    EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', role);
    -- TEMPORARY: types are compared, and declared types proved, in temporary tables.
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I', current_database(), role);
    FOREACH one IN ARRAY schemas LOOP
        history := one || '_history';
        EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', one);
        EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', one, role);
        EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', history);
        EXECUTE format('ALTER SCHEMA %I OWNER TO %I', history, role);
        FOR loaded IN SELECT tablename FROM pg_tables WHERE schemaname = history LOOP
            EXECUTE format('ALTER TABLE %I.%I OWNER TO %I', history, loaded, role);
        END LOOP;
        FOR loaded IN SELECT viewname FROM pg_views WHERE schemaname = history AND viewname ~ '@view-[0-9]+$' LOOP
            EXECUTE format('ALTER VIEW %I.%I OWNER TO %I', history, loaded, role);
        END LOOP;
        FOR loaded IN SELECT viewname FROM pg_views v JOIN pg_tables t ON t.tablename = v.viewname
                      WHERE v.schemaname = one AND t.schemaname = history LOOP
            EXECUTE format('ALTER VIEW %I.%I OWNER TO %I', one, loaded, role);
        END LOOP;
    END LOOP;
END
$$;
