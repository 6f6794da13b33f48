-- run as: superuser
-- What 0012 takes is taken from a table only where no worker of autovacuum's can be at it: one keeps what it read when it began,
-- and who looks from outside would find nothing. What makes a table be vacuumed "to prevent wraparound" before the server says so is
-- taken, too: such a worker waits for a table that is locked, with what it read before.

set local search_path = pg_catalog, pg_temp;

drop function _launchdb.take_storage_parameters(boolean);
drop function _launchdb.unwanted_storage_parameters();

-- What a relation may keep of its parameters.
create function _launchdb.wanted_storage_parameters(parameters text[]) returns text[]
    language sql immutable
    set search_path = pg_catalog, pg_temp
    as $$
    select coalesce(array_agg(parameter), '{}')
    from unnest(parameters) parameter
    where parameter !~ '^(autosummarize|autovacuum_freeze_max_age|autovacuum_multixact_freeze_max_age)='
        -- PostgreSQL's own default is 2 ms after a cost of 200. Numbers can be written in many ways; one that is not plain
        -- counts as slow.
        and (parameter not like 'autovacuum_vacuum_cost_delay=%'
            or parameter ~ '^autovacuum_vacuum_cost_delay=(-1|[01]([.][0-9]+)?|2([.]0+)?)$')
        and (parameter not like 'autovacuum_vacuum_cost_limit=%'
            or parameter ~ '^autovacuum_vacuum_cost_limit=(-1|[2-9][0-9]{2}|[1-9][0-9]{3,4})$')
$$;
revoke all on function _launchdb.wanted_storage_parameters(text[]) from public;

create or replace function _launchdb.on_storage_parameters() returns event_trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
declare
    made record;
begin
    -- Rows that this transaction wrote, in whatever way: inside of REFRESH MATERIALIZED VIEW PostgreSQL lists no commands, partitions
    -- and copies are listed nowhere. What another made (EXPLAIN ANALYZE CREATE TABLE AS fires no trigger) is for who looks from
    -- outside: changing it here would make this transaction wait for others.
    for made in
        select c.oid as relation, c.relkind in ('i', 'I') as is_index, _launchdb.wanted_storage_parameters(c.reloptions) as wanted
        from pg_class c
        where c.reloptions is not null and age(c.xmin) <= 0
            and cardinality(_launchdb.wanted_storage_parameters(c.reloptions)) < cardinality(c.reloptions)
    loop
        if made.is_index then
            -- Building one that runs code of the owner's may have asked for its summary already. Only when it never comes to be
            -- is there nothing to summarize. Types may have such code, too; those below 16384 are PostgreSQL's own.
            if exists (
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
            raise warning '% is summarized by VACUUM alone', made.relation::regclass using
                detail = 'autosummarize is not available: the autovacuum workers are shared by all projects.';
        -- Locked by no command that sets parameters: its row was written for something else (GRANT), while a worker may be at it.
        elsif not exists (
            select from pg_locks lock
            where lock.pid = pg_backend_pid() and lock.locktype = 'relation' and lock.relation = made.relation and lock.granted
                and lock.database = (select oid from pg_database where datname = current_database())
                and lock.mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
        ) then
            continue;
        else
            raise warning '% keeps the pace of autovacuum that the server sets', made.relation::regclass using
                detail = 'autovacuum_vacuum_cost_delay above 2, autovacuum_vacuum_cost_limit below 200, autovacuum_freeze_max_age and autovacuum_multixact_freeze_max_age are not available: its workers are shared by all projects.';
        end if;
        -- The catalog is changed, and not the table by its command: that locks, and cannot change an index of a partitioned table.
        -- None of it runs code of the owner's.
        update pg_class c set reloptions = nullif(made.wanted, '{}') where c.oid = made.relation;
    end loop;
end
$$;

-- The rows that a command locks are left to who looks from outside.
update pg_class c
set reloptions = nullif(_launchdb.wanted_storage_parameters(c.reloptions), '{}')
from (
    select other.oid from pg_class other
    where cardinality(_launchdb.wanted_storage_parameters(other.reloptions)) < cardinality(other.reloptions)
    for update skip locked
) free
where c.oid = free.oid;
