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

-- Takes `autosummarize` from an index. Autovacuum summarizes such an index outside of VACUUM, and a function of the owner's
-- that runs ANALYZE meanwhile, which PostgreSQL 15 does not refuse there, ends in a crash of the whole server. VACUUM summarizes, too.
create function _launchdb.keep_from_summarizing(index oid) returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $$
begin
    -- An index of a partitioned table has no pages, and its parameters cannot be changed.
    if not exists (
        select from pg_class c cross join unnest(c.reloptions) parameter
        where c.oid = index and c.relkind = 'i' and parameter like 'autosummarize=%'
    ) then
        return false;
    end if;
    execute format('alter index %s reset (autosummarize)', index::regclass);
    return true;
end
$$;
revoke all on function _launchdb.keep_from_summarizing(oid) from public;

create function _launchdb.on_storage_parameters() returns event_trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
declare
    changed oid[];
    relation oid;
begin
    select coalesce(array_agg(objid), '{}') into changed
    from pg_event_trigger_ddl_commands()
    where classid = 'pg_class'::regclass and object_type in ('table', 'materialized view', 'index');
    -- Partitions and what they copy are not listed.
    for relation in
        with recursive tree(relation) as (
            select unnest(changed)
            union
            select i.inhrelid from tree join pg_inherits i on i.inhparent = tree.relation
        )
        select tree.relation from tree
        union
        select i.indexrelid from tree join pg_index i on i.indrelid = tree.relation
    loop
        if _launchdb.keep_autovacuums_pace(relation) then
            raise warning '% keeps the pace of autovacuum that the server sets', relation::regclass using
                detail = 'autovacuum_vacuum_cost_delay above 2 and autovacuum_vacuum_cost_limit below 200 are not available: its workers are shared by all projects.';
        end if;
        if _launchdb.keep_from_summarizing(relation) then
            raise warning '% is summarized by VACUUM alone', relation::regclass using
                detail = 'autosummarize is not available: the autovacuum workers are shared by all projects.';
        end if;
    end loop;
end
$$;

create event trigger launchdb_storage_parameters on ddl_command_end
    execute function _launchdb.on_storage_parameters();
alter event trigger launchdb_storage_parameters enable always;

select _launchdb.keep_autovacuums_pace(oid), _launchdb.keep_from_summarizing(oid)
from pg_class where reloptions is not null and relpersistence <> 't' or relkind in ('r', 'm') and reltoastrelid <> 0;
