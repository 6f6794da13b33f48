-- The roles every project of a cluster shares. Runs at every start, in one transaction, as the cluster's superuser.
--
-- A shared role is a name that objects and policies of many databases refer to. It never logs in, owns no database and
-- may connect to none: what it can reach is decided by the session it is used in. Attributes of roles that exist
-- already are not changed here; `role_faults.sql` looks at them before this file runs.

do $roles$
declare
    wanted record;
begin
    for wanted in
        select * from (values
            -- Owner of everything in a project; bypasses row level security as Supabase's role of that name does.
            (pg_catalog.current_setting('launchdb.owner_role'), 'nologin bypassrls'),
            ('anon', 'nologin'),
            ('authenticated', 'nologin'),
            ('service_role', 'nologin bypassrls'),
            -- Services act as these two in tables the owner role owns, so policies must not stop them.
            ('supabase_auth_admin', 'nologin noinherit bypassrls'),
            ('supabase_storage_admin', 'nologin noinherit bypassrls'),
            -- Only so that imported SQL may name them.
            ('authenticator', 'nologin noinherit'),
            ('supabase_admin', 'nologin'),
            ('supabase_realtime_admin', 'nologin noinherit'),
            ('dashboard_user', 'nologin')
        ) as role (name, attributes)
    loop
        if not exists (select from pg_catalog.pg_roles where rolname = wanted.name) then
            execute pg_catalog.format('create role %I %s', wanted.name, wanted.attributes);
        end if;
    end loop;
end
$roles$;

-- `ALTER ... OWNER TO authenticated` in an application's SQL needs the membership.
do $membership$
begin
    execute pg_catalog.format(
        'grant anon, authenticated, service_role to %I', pg_catalog.current_setting('launchdb.owner_role'));
end
$membership$;
