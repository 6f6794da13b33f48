-- run as: superuser
-- Schemas, extensions, the publication and the privileges of a new project database.

set local search_path = pg_catalog, pg_temp;

-- What LaunchDB keeps for itself in a project; the ledger of these files made it. Owned by the superuser: a project's
-- owner can read it, never change it.
grant usage on schema _launchdb to public;

grant usage on schema public to anon, authenticated, service_role;

create schema extensions;
grant usage on schema extensions to public;

create extension if not exists pgcrypto with schema extensions;
create extension if not exists "uuid-ossp" with schema extensions;
create extension if not exists pg_trgm with schema extensions;
create extension if not exists citext with schema extensions;

create publication supabase_realtime with (publish = 'insert, update, delete, truncate');

do $owner$
declare
    owner_role constant text := current_setting('launchdb.owner_role');
begin
    -- Dumps say COMMENT ON SCHEMA public and GRANT ... ON SCHEMA public, which only its owner may.
    execute format('alter schema public owner to %I', owner_role);
    execute format('grant all on schema extensions to %I with grant option', owner_role);
    execute format('alter publication supabase_realtime owner to %I', owner_role);
end
$owner$;
