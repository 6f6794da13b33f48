-- run as: superuser
-- What 0011 takes from tables and indexes, wherever it comes from, without a lock and at the same cost for any number of
-- partitions.
--
-- Code of an owner's that runs ANALYZE while autovacuum summarizes an index ends in a crash of the whole server. An index that
-- asks for it must not be seen by autovacuum at any time: what is asked of autovacuum while such an index is built stays asked,
-- however the index ends.

set local search_path = pg_catalog, pg_temp;

drop event trigger launchdb_storage_parameters;
drop function _launchdb.on_storage_parameters();
drop function _launchdb.keep_autovacuums_pace(oid);
drop function _launchdb.keep_from_summarizing(oid);
drop function _launchdb.slow_autovacuum(text[]);

-- Relations that have such parameters, in whatever way they got them, and what they may keep. Inside of REFRESH MATERIALIZED VIEW
-- PostgreSQL lists no commands, partitions and copies are listed nowhere.
create function _launchdb.unwanted_storage_parameters() returns table (relation oid, is_index boolean, is_new boolean, kept text[])
    language sql
    set search_path = pg_catalog, pg_temp
    as $$
    -- New is what this transaction made.
    select c.oid, c.relkind in ('i', 'I'), age(c.xmin) <= 0, kept.parameters
    from pg_class c
    cross join lateral (
        select coalesce(array_agg(parameter), '{}') as parameters
        from unnest(c.reloptions) parameter
        where parameter not like 'autosummarize=%'
            -- PostgreSQL's own default is 2 ms after a cost of 200. Numbers can be written in many ways; one that is not plain
            -- counts as slow.
            and (parameter not like 'autovacuum_vacuum_cost_delay=%'
                or parameter ~ '^autovacuum_vacuum_cost_delay=(-1|[01]([.][0-9]+)?|2([.]0+)?)$')
            and (parameter not like 'autovacuum_vacuum_cost_limit=%'
                or parameter ~ '^autovacuum_vacuum_cost_limit=(-1|[2-9][0-9]{2}|[1-9][0-9]{3,4})$')
    ) kept
    where c.reloptions is not null and cardinality(kept.parameters) < cardinality(c.reloptions)
$$;
revoke all on function _launchdb.unwanted_storage_parameters() from public;

-- Takes them. The catalog is changed, and not the tables by their commands: those lock, and cannot change an index of a
-- partitioned table. None of it runs code of the owner's. What another transaction made (EXPLAIN ANALYZE CREATE TABLE AS fires no
-- trigger) is for who looks from outside: changing it here would make this transaction wait for others.
create function _launchdb.take_storage_parameters(of_this_transaction boolean) returns table (relation oid, is_index boolean)
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $$
declare
    found record;
begin
    for found in
        select * from _launchdb.unwanted_storage_parameters() unwanted where unwanted.is_new or not of_this_transaction
    loop
        -- Building one that runs code of the owner's may have asked for its summary already. Only when it never comes to be
        -- is there nothing to summarize. Types may have such code, too; those below 16384 are PostgreSQL's own.
        if of_this_transaction and found.is_index and exists (
            select from pg_index i
            where i.indexrelid = found.relation and (i.indexprs is not null or i.indpred is not null or exists (
                select from pg_attribute a
                where a.atttypid >= 16384
                    and (a.attrelid = i.indexrelid or a.attrelid = i.indrelid and a.attnum = any (i.indkey))
            ))
        ) then
            raise exception 'autosummarize is not available for %', found.relation::regclass using
                errcode = 'feature_not_supported',
                detail = 'The autovacuum workers are shared by all projects.',
                hint = 'Create the index without it: VACUUM summarizes it, too.';
        end if;
        update pg_class c set reloptions = nullif(found.kept, '{}') where c.oid = found.relation;
        relation := found.relation;
        is_index := found.is_index;
        return next;
    end loop;
end
$$;
revoke all on function _launchdb.take_storage_parameters(boolean) from public;

create function _launchdb.on_storage_parameters() returns event_trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
declare
    taken record;
begin
    for taken in select * from _launchdb.take_storage_parameters(of_this_transaction => true) loop
        if taken.is_index then
            raise warning '% is summarized by VACUUM alone', taken.relation::regclass using
                detail = 'autosummarize is not available: the autovacuum workers are shared by all projects.';
        else
            raise warning '% keeps the pace of autovacuum that the server sets', taken.relation::regclass using
                detail = 'autovacuum_vacuum_cost_delay above 2 and autovacuum_vacuum_cost_limit below 200 are not available: its workers are shared by all projects.';
        end if;
    end loop;
end
$$;

-- Every command that can give a relation parameters. What runs inside of another command has its own.
create event trigger launchdb_storage_parameters on ddl_command_end
    when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE MATERIALIZED VIEW', 'CREATE INDEX', 'ALTER TABLE',
        'ALTER MATERIALIZED VIEW', 'ALTER INDEX', 'ALTER VIEW', 'ALTER SEQUENCE', 'CREATE SCHEMA', 'CREATE EXTENSION',
        'ALTER EXTENSION', 'IMPORT FOREIGN SCHEMA')
    execute function _launchdb.on_storage_parameters();
alter event trigger launchdb_storage_parameters enable always;

-- The parts of CREATE SCHEMA have none, and code of the owner's can run between two: what they made is looked at before anything
-- can take the parameter away, too.
create event trigger launchdb_storage_parameters_before on ddl_command_start
    when tag in ('ALTER TABLE', 'ALTER INDEX')
    execute function _launchdb.on_storage_parameters();
alter event trigger launchdb_storage_parameters_before enable always;

-- An index that is built CONCURRENTLY is there before its command ends, and stays when that fails. Such a command fails unless it
-- is the only one of the text that the client sent; `u&"` begins a name that is written in another way. That a transaction has an
-- id already says nothing: what is parsed and bound before it, and never executed, may run code.
create function _launchdb.on_create_index() returns event_trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $$
declare
    sent constant text := lower(current_query() collate "C");
    blank constant text := '([[:space:];]|--[^' || chr(10) || chr(13) || ']*[' || chr(10) || chr(13) || ']|/[*].*[*]/)';
begin
    if sent is null or (strpos(sent, 'autosummarize') > 0 or strpos(sent, 'u&"') > 0)
        and sent ~ ('^' || blank || '*create' || blank || '+(unique' || blank || '+)?index' || blank || '+concurrently')
    then
        raise exception 'autosummarize is not available' using
            errcode = 'feature_not_supported',
            detail = 'The autovacuum workers are shared by all projects.',
            hint = 'Create the index without it (and CONCURRENTLY without names of the form U&"..."): VACUUM summarizes it, too.';
    end if;
end
$$;

create event trigger launchdb_create_index on ddl_command_start
    when tag in ('CREATE INDEX')
    execute function _launchdb.on_create_index();
alter event trigger launchdb_create_index enable always;

select from _launchdb.take_storage_parameters(of_this_transaction => false);
