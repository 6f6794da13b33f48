-- run as: superuser
-- The pace of autovacuum is the server's: its few workers are shared by all projects, and a table that says how long they
-- pause could keep one of them for days. What makes it faster, or leaves it as it is, may be said of a table.

set local search_path = pg_catalog, pg_temp;

-- Which of a relation's storage parameters make autovacuum slower than PostgreSQL's own default (2 ms after a cost of 200).
-- Numbers can be written in many ways; one that is not plain counts as slow.
create function _launchdb.slow_autovacuum(parameters text[]) returns setof text
    language sql immutable
    set search_path = pg_catalog, pg_temp
    as $$
    select split_part(parameter, '=', 1)
    from unnest(parameters) parameter
    where split_part(parameter, '=', 1) in ('autovacuum_vacuum_cost_delay', 'autovacuum_vacuum_cost_limit')
        and parameter !~ '^autovacuum_vacuum_cost_delay=(-1|[01]([.][0-9]+)?|2([.]0+)?)$'
        and parameter !~ '^autovacuum_vacuum_cost_limit=(-1|[2-9][0-9]{2}|[1-9][0-9]{3,4})$'
$$;
revoke all on function _launchdb.slow_autovacuum(text[]) from public;

-- Takes such parameters from a table or materialized view and its TOAST table. Changing them runs no code of the owner's.
create function _launchdb.keep_autovacuums_pace(relation oid) returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $$
declare
    slow text;
begin
    select string_agg(found.name, ', ') into slow
    from pg_class c
    left join pg_class toast on toast.oid = c.reltoastrelid
    cross join lateral (
        select name from _launchdb.slow_autovacuum(c.reloptions) name
        union all
        select 'toast.' || name from _launchdb.slow_autovacuum(toast.reloptions) name
    ) found
    where c.oid = relation and c.relkind in ('r', 'm') and c.relpersistence <> 't';
    if slow is null then
        return false;
    end if;
    execute format('alter table %s reset (%s)', relation::regclass, slow);
    return true;
end
$$;
revoke all on function _launchdb.keep_autovacuums_pace(oid) from public;

create function _launchdb.on_storage_parameters() returns event_trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
declare
    command record;
begin
    for command in
        select distinct on (objid) objid, object_identity
        from pg_event_trigger_ddl_commands()
        where classid = 'pg_class'::regclass and object_type in ('table', 'materialized view')
    loop
        if _launchdb.keep_autovacuums_pace(command.objid) then
            raise warning '% keeps the pace of autovacuum that the server sets', command.object_identity using
                detail = 'autovacuum_vacuum_cost_delay above 2 and autovacuum_vacuum_cost_limit below 200 are not available: its workers are shared by all projects.';
        end if;
    end loop;
end
$$;

create event trigger launchdb_storage_parameters on ddl_command_end
    execute function _launchdb.on_storage_parameters();
alter event trigger launchdb_storage_parameters enable always;

select _launchdb.keep_autovacuums_pace(oid) from pg_class where relkind in ('r', 'm') and relnamespace <> 'pg_catalog'::regnamespace;
