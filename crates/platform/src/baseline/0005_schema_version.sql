-- run as: superuser
-- The schema version: the data API compares it in the transaction of every request and reloads its cache when it moved.
--
-- The version is the sum of `n` over all rows. A change of the schema INSERTs a row; a counter that is UPDATEd would let
-- one open transaction with DDL block every other one. Rows are folded together by `compact_schema_versions`.

set local search_path = pg_catalog, pg_temp;

create table _launchdb.schema_versions (
    id bigint generated always as identity,
    n bigint not null
);
insert into _launchdb.schema_versions (n) values (1);
grant select on _launchdb.schema_versions to public;

create function _launchdb.schema_version() returns bigint
    language sql stable parallel safe
    set search_path = pg_catalog, pg_temp
    as $$ select pg_catalog.sum(n)::pg_catalog.int8 from _launchdb.schema_versions $$;

create function _launchdb.schema_moved() returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $$
begin
    raise exception using errcode = 'LD001', message = 'the schema has changed';
end
$$;

-- At most one row for each transaction: the setting is local to it, and a rollback to a savepoint takes row and
-- setting back together.
create function _launchdb.move_schema_version() returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
declare
    this_transaction constant text := pg_current_xact_id()::text;
begin
    if current_setting('launchdb.schema_moved_in', true) is distinct from this_transaction then
        insert into _launchdb.schema_versions (n) values (1);
        perform set_config('launchdb.schema_moved_in', this_transaction, true);
    end if;
end
$$;
revoke all on function _launchdb.move_schema_version() from public;

create function _launchdb.on_ddl_command_end() returns event_trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
begin
    -- A refreshed materialized view has new rows, not a new shape. Objects in pg_temp belong to one session. A DROP
    -- lists nothing here; on_sql_drop sees it.
    if tg_tag <> 'REFRESH MATERIALIZED VIEW' and exists (
        select from pg_event_trigger_ddl_commands() as command
        where command.schema_name is distinct from 'pg_temp'
    ) then
        perform _launchdb.move_schema_version();
    end if;
end
$$;

create function _launchdb.on_sql_drop() returns event_trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
begin
    -- Only what was named: a view's rule does not know that the view is temporary.
    if exists (
        select from pg_event_trigger_dropped_objects() as dropped where dropped.original and not dropped.is_temporary
    ) then
        perform _launchdb.move_schema_version();
    end if;
end
$$;

-- Folds all rows into one without moving the version. Only in a session of the project's authenticator, which calls
-- it after a reload; harmless wherever code runs in such a session.
create function _launchdb.compact_schema_versions() returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
begin
    if session_user::text <> current_database() || '_authenticator'
        and not exists (select from pg_roles where rolname = session_user and rolsuper)
    then
        raise insufficient_privilege using message = 'permission denied for function compact_schema_versions';
    end if;
    if (select count(*) from _launchdb.schema_versions) > 64 then
        with folded as (
            delete from _launchdb.schema_versions returning n
        )
        -- Of two at a time the second deletes nothing and must not add a row of NULL.
        insert into _launchdb.schema_versions (n) select sum(n) from folded having count(*) > 0;
    end if;
end
$$;

-- DROP OWNED BY a shared role would take back its privileges on the databases of all projects.
create function _launchdb.refuse_drop_owned() returns event_trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $$
begin
    if not exists (select from pg_roles where rolname = session_user and rolsuper) then
        raise insufficient_privilege using
            message = 'DROP OWNED is not available: roles of this server are shared by its projects',
            hint = 'Drop the objects or their schema by name.';
    end if;
end
$$;

create event trigger launchdb_ddl_command_end on ddl_command_end
    execute function _launchdb.on_ddl_command_end();
create event trigger launchdb_sql_drop on sql_drop
    execute function _launchdb.on_sql_drop();
create event trigger launchdb_refuse_drop_owned on ddl_command_start
    when tag in ('DROP OWNED')
    execute function _launchdb.refuse_drop_owned();

alter event trigger launchdb_ddl_command_end enable always;
alter event trigger launchdb_sql_drop enable always;
alter event trigger launchdb_refuse_drop_owned enable always;
