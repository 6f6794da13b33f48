-- run as: superuser
-- What a change of the schema was about, so that requests it does not concern need not wait for a new schema cache.
--
-- `relations` are those whose shape a transaction changed; NULL stands for everything, and is what every change counts
-- for that is not known to concern relations or functions only. A row that was folded counts for everything too.

set local search_path = pg_catalog, pg_temp;

alter table _launchdb.schema_versions
    add column relations oid[],
    add column functions boolean not null default false;

-- One row for each transaction, widened by each of its commands: the settings are local to the transaction, and a
-- rollback to a savepoint takes row and settings back together.
create function _launchdb.move_schema_version(changed oid[], functions_changed boolean) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
declare
    this_transaction constant text := pg_current_xact_id()::text;
    most_relations constant int := 32;
    with_children oid[];
    own bigint;
begin
    -- A column goes down to the tables that inherit it, which the command does not list.
    if cardinality(changed) <= most_relations then
        with recursive tree(relation) as (
            select unnest(changed)
            union
            select i.inhrelid from tree join pg_inherits i on i.inhparent = tree.relation
        )
        select coalesce(array_agg(relation), '{}') into with_children from tree;
    end if;
    if split_part(current_setting('launchdb.schema_moved_in', true), ':', 1) is distinct from this_transaction then
        insert into _launchdb.schema_versions (n, relations, functions)
            values (1, case when cardinality(with_children) <= most_relations then with_children end, functions_changed)
            returning id into own;
        perform set_config('launchdb.schema_moved_in', this_transaction || ':' || own, true);
    else
        update _launchdb.schema_versions v
            set relations = case
                    when cardinality(v.relations || with_children) <= most_relations then v.relations || with_children
                end,
                functions = v.functions or functions_changed
            where v.id = split_part(current_setting('launchdb.schema_moved_in', true), ':', 2)::bigint
                and v.relations is not null
                and not (coalesce(with_children <@ v.relations, false) and (v.functions or not functions_changed));
    end if;
end
$$;
revoke all on function _launchdb.move_schema_version(oid[], boolean) from public;

-- What the old function left there in this transaction is of another form.
set local launchdb.schema_moved_in = '';

create or replace function _launchdb.on_ddl_command_end() returns event_trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
declare
    everything boolean;
    functions_changed boolean;
    changed oid[];
begin
    -- A refreshed materialized view has new rows, not a new shape.
    if tg_tag = 'REFRESH MATERIALIZED VIEW' then
        return;
    end if;
    -- Objects in pg_temp belong to one session. A DROP lists nothing here; on_sql_drop sees it.
    select
        bool_or(case
            when command.classid = 'pg_class'::regclass then
                command.object_type not in ('table', 'view', 'materialized view', 'foreign table', 'table column', 'index')
                -- The name of a sequence is part of the defaults it is used in.
                and (command.object_type <> 'sequence' or command.command_tag <> 'CREATE SEQUENCE'
                    and (command.command_tag <> 'ALTER SEQUENCE' or tg_tag not in ('CREATE TABLE', 'ALTER TABLE')))
            -- A function that returns a domain may make a media type.
            when command.classid = 'pg_proc'::regclass then
                command.object_type not in ('function', 'procedure') or exists (
                    select from pg_proc p join pg_type t on t.oid = p.prorettype
                    where p.oid = command.objid and t.typtype = 'd'
                )
            -- Privileges of functions decide about representations; those of relations are PostgreSQL's affair alone.
            when command.command_tag in ('GRANT', 'REVOKE') then command.object_type not in ('TABLE', 'SEQUENCE', 'SCHEMA')
            else command.classid is distinct from 'pg_trigger'::regclass
                and command.classid is distinct from 'pg_policy'::regclass
        end),
        coalesce(bool_or(command.classid = 'pg_proc'::regclass), false),
        coalesce(array_agg(command.objid) filter (where command.classid = 'pg_class'::regclass), '{}')
    into everything, functions_changed, changed
    from pg_event_trigger_ddl_commands() as command
    where command.schema_name is distinct from 'pg_temp';
    if everything is not null then
        perform _launchdb.move_schema_version(case when not everything then changed end, functions_changed);
    end if;
end
$$;

create or replace function _launchdb.on_sql_drop() returns event_trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
declare
    named boolean;
    everything boolean;
    functions_changed boolean;
    changed oid[];
begin
    select
        -- Only what was named: a view's rule does not know that the view is temporary.
        bool_or(dropped.original),
        -- What belongs to something else, as a table's row type does, goes with it and changes nothing besides.
        bool_or((dropped.original or dropped.normal) and (
            dropped.classid not in (
                'pg_class'::regclass, 'pg_proc'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass,
                'pg_constraint'::regclass, 'pg_rewrite'::regclass
            )
            or dropped.object_type in ('aggregate', 'sequence')
        )),
        coalesce(bool_or(dropped.classid = 'pg_proc'::regclass), false),
        coalesce(array_agg(distinct dropped.objid) filter (
            where dropped.classid = 'pg_class'::regclass
                and dropped.object_type in ('table', 'view', 'materialized view', 'foreign table', 'table column', 'view column')
        ), '{}')
    into named, everything, functions_changed, changed
    from pg_event_trigger_dropped_objects() as dropped
    where not dropped.is_temporary;
    if named then
        perform _launchdb.move_schema_version(case when not everything then changed end, functions_changed);
    end if;
end
$$;

drop function _launchdb.move_schema_version();
