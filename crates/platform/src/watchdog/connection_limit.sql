-- Sets how many sessions the roles of the session's setting `launchdb.watchdog_roles` (an array) may have.
do $limit$
declare
    limited record;
begin
    for limited in
        select role.rolname
        from pg_catalog.pg_roles role
        where role.rolname::text = any (pg_catalog.current_setting('launchdb.watchdog_roles')::text[])
            and role.rolname::text ~ '^proj_[a-z0-9]{3,40}$'
    loop
        execute pg_catalog.format(
            'alter role %I connection limit %s', limited.rolname,
            pg_catalog.current_setting('launchdb.watchdog_limit')::int4);
    end loop;
end
$limit$
