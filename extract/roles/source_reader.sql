-- The role that tap-postgres needs at a source: it reads the tables and views of the schemas named here, those that
-- are made later too, and can do nothing else.
--
-- Run it in the source's database as its owner or an administrator, as often as you like, then give it a password:
--     psql -f extract/roles/source_reader.sql
--     \password source_reader
DO $$
DECLARE
    schemas text[] := ARRAY['public'];  -- as filter_schemas in meltano.yml
    role text := 'source_reader';
    one text;
    maker text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        EXECUTE format('CREATE ROLE %I LOGIN', role);
    END IF;
    EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', role);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', role);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    FOREACH one IN ARRAY schemas LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', one, role);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', one, role);
        -- Tables to come: of whoever runs this, and of everyone who owns one already.
        FOR maker IN SELECT current_user UNION SELECT tableowner FROM pg_tables WHERE schemaname = one LOOP
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON TABLES TO %I',
                           maker, one, role);
        END LOOP;
    END LOOP;
END
$$;
-- A table with row security is refused rather than landed by halves. To land all of its rows, as an administrator:
--     ALTER ROLE source_reader BYPASSRLS;
