-- run as: superuser
-- That a table had parameters which 0012 takes is noted when they go, whoever takes them: a worker of autovacuum's keeps what it read
-- when it began, for TOAST tables to its end. The watchdog ends such workers, and would not know of them else.

set local search_path = pg_catalog, pg_temp;

create table _launchdb.storage_parameters_seen (at timestamptz not null default clock_timestamp());

-- Whether they make everybody slow who reads them, autovacuum too. They may be packed well: that is looked at first.
create function _launchdb.are_long_storage_parameters(parameters text[]) returns boolean
    language sql immutable
    set search_path = pg_catalog, pg_temp
    as $$
    select case when pg_column_size(parameters) > 2000 then true else octet_length(array_to_string(parameters, '')) > 2000 end
$$;
revoke all on function _launchdb.are_long_storage_parameters(text[]) from public;

-- What a relation may keep of its parameters.
create function _launchdb.wanted_storage_parameters(parameters text[]) returns text[]
    language sql immutable
    set search_path = pg_catalog, pg_temp
    as $$
    select case when not _launchdb.are_long_storage_parameters(parameters) then (
        select coalesce(array_agg(parameter), '{}')
        from unnest(parameters) parameter
        where parameter not like 'autosummarize=%'
            -- PostgreSQL's own default is 2 ms after a cost of 200. Numbers can be written in many ways; one that is not plain
            -- counts as slow.
            and (parameter not like 'autovacuum_vacuum_cost_delay=%'
                or parameter ~ '^autovacuum_vacuum_cost_delay=(-1|[01]([.][0-9]+)?|2([.]0+)?)$')
            and (parameter not like 'autovacuum_vacuum_cost_limit=%'
                or parameter ~ '^autovacuum_vacuum_cost_limit=(-1|[2-9][0-9]{2}|[1-9][0-9]{3,4})$')
    ) else '{}' end
$$;
revoke all on function _launchdb.wanted_storage_parameters(text[]) from public;

-- Whether a relation has others.
create function _launchdb.has_unwanted_storage_parameters(parameters text[]) returns boolean
    language sql immutable
    set search_path = pg_catalog, pg_temp
    as $$
    select cardinality(_launchdb.wanted_storage_parameters(parameters)) < cardinality(parameters)
$$;
revoke all on function _launchdb.has_unwanted_storage_parameters(text[]) from public;

create or replace function _launchdb.on_storage_parameters() returns event_trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
declare
    made record;
begin
    -- Also before a command, which may take away what another transaction made (EXPLAIN ANALYZE CREATE TABLE AS fires no trigger). One
    -- that is not seen, for an old snapshot or a name that means another table by then, leaves a worker slow for once.
    insert into _launchdb.storage_parameters_seen
    select clock_timestamp() where exists (
        select from pg_class c where c.reloptions is not null and _launchdb.has_unwanted_storage_parameters(c.reloptions)
    );
    if not found then
        return;
    end if;
    -- Rows that this transaction wrote, in whatever way: inside of REFRESH MATERIALIZED VIEW PostgreSQL lists no commands, partitions
    -- and copies are listed nowhere. Others are for who looks from outside: changing them would make this transaction wait.
    for made in
        select c.oid as relation, c.relkind in ('i', 'I') as is_index, _launchdb.wanted_storage_parameters(c.reloptions) as wanted
        from pg_class c
        where c.reloptions is not null and age(c.xmin) <= 0 and _launchdb.has_unwanted_storage_parameters(c.reloptions)
    loop
        -- Building an index that runs code of the owner's may have asked for its summary already. Only when it never comes to be is
        -- there nothing to summarize. Types may have such code, too; those below 16384 are PostgreSQL's own.
        if made.is_index and exists (
            select from pg_index i
            where i.indexrelid = made.relation and (i.indexprs is not null or i.indpred is not null or exists (
                select from pg_attribute a
                where a.atttypid >= 16384
                    and (a.attrelid = i.indexrelid or a.attrelid = i.indrelid and a.attnum = any (i.indkey))
            ))
        ) then
            raise exception 'autosummarize is not available for %', made.relation::regclass using
                errcode = 'feature_not_supported',
                detail = 'The autovacuum workers are shared by all projects.',
                hint = 'Create the index without it: VACUUM summarizes it, too.';
        end if;
        -- The catalog is changed, and not the table by its command: that locks, and cannot change an index of a partitioned table.
        -- None of it runs code of the owner's.
        update pg_class c set reloptions = nullif(made.wanted, '{}') where c.oid = made.relation;
        if made.is_index then
            raise warning '% is summarized by VACUUM alone', made.relation::regclass using
                detail = 'autosummarize is not available: the autovacuum workers are shared by all projects.';
        else
            raise warning '% keeps the pace of autovacuum that the server sets', made.relation::regclass using
                detail = 'autovacuum_vacuum_cost_delay above 2 and autovacuum_vacuum_cost_limit below 200 are not available: its workers are shared by all projects.';
        end if;
    end loop;
end
$$;

drop function _launchdb.take_storage_parameters(boolean);
drop function _launchdb.unwanted_storage_parameters();

drop event trigger launchdb_storage_parameters_before;
create event trigger launchdb_storage_parameters_before on ddl_command_start
    when tag in ('ALTER TABLE', 'ALTER INDEX', 'ALTER MATERIALIZED VIEW')
    execute function _launchdb.on_storage_parameters();
alter event trigger launchdb_storage_parameters_before enable always;
