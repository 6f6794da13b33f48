-- run as: superuser
-- What one project's owner may see of the others in the shared catalogs.
--
-- Names of databases and roles stay visible. The settings of roles do not: applications keep secrets in them
-- (`ALTER ROLE ... SET app.secret`), and PostgreSQL shows the settings of every role of the cluster to everybody.

set local search_path = pg_catalog, pg_temp;
set local allow_system_table_mods = on;

revoke all on pg_catalog.pg_db_role_setting from public;

-- pg_roles and pg_user read that catalog with their owner's rights. They keep their columns; the settings are those
-- of the role that is logged in.
do $views$
declare
    masked record;
    definition text;
    narrowed text;
begin
    for masked in
        select * from (values
            ('pg_roles', '\ms\.setconfig as rolconfig\M',
             'case when pg_authid.rolname = session_user then s.setconfig end as rolconfig'),
            ('pg_user', '\m(?:pg_shadow\.)?useconfig\M',
             'case when pg_shadow.usename = session_user then pg_shadow.useconfig end as useconfig')
        ) as view (name, shown, shown_to_self)
    loop
        definition := pg_get_viewdef(('pg_catalog.' || masked.name)::regclass);
        narrowed := regexp_replace(definition, masked.shown, masked.shown_to_self, 'i');
        if narrowed = definition then
            raise exception 'cannot narrow the view %', masked.name;
        end if;
        execute format('create or replace view pg_catalog.%I as %s', masked.name, narrowed);
    end loop;
end
$views$;
