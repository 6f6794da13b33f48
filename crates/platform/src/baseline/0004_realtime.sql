-- run as: superuser
-- Broadcast from the database and the tables realtime authorization works on, under Supabase's names.

set local search_path = pg_catalog, pg_temp;

create schema realtime;
grant usage on schema realtime to anon, authenticated, service_role;
grant all on schema realtime to supabase_realtime_admin, dashboard_user;

create type realtime.action as enum ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'ERROR');
create type realtime.equality_op as enum ('eq', 'neq', 'lt', 'lte', 'gt', 'gte', 'in');
create type realtime.user_defined_filter as (column_name text, op realtime.equality_op, value text);
create type realtime.wal_column as (
    name text, type_name text, type_oid oid, value jsonb, is_pkey boolean, is_selectable boolean
);
create type realtime.wal_rls as (wal jsonb, is_rls_enabled boolean, subscription_ids uuid[], errors text[]);

create function realtime.to_regrole(role_name text) returns regrole
    language sql immutable
    as $$ select role_name::regrole $$;

create table realtime.subscription (
    id bigint generated always as identity,
    subscription_id uuid not null,
    entity regclass not null,
    filters realtime.user_defined_filter[] not null default '{}',
    claims jsonb not null,
    claims_role regrole not null generated always as (realtime.to_regrole(claims ->> 'role')) stored,
    created_at timestamp not null default timezone('utc', now()),
    action_filter text default '*',
    constraint pk_subscription primary key (id),
    constraint subscription_action_filter_check check (action_filter in ('*', 'INSERT', 'UPDATE', 'DELETE'))
);
create index ix_realtime_subscription_entity on realtime.subscription (entity);
create unique index subscription_subscription_id_entity_filters_action_filter_key
    on realtime.subscription (subscription_id, entity, filters, action_filter);

create table realtime.schema_migrations (
    version bigint not null,
    inserted_at timestamp(0),
    constraint schema_migrations_pkey primary key (version)
);

-- Messages of private and public channels. Policies here decide who may listen and who may send: reading is asked for
-- rows with the channel's topic, sending for an insert. The realtime service makes a partition for each day; the
-- default one keeps `realtime.send` working in a project where that service has not been yet.
create table realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp not null default now(),
    inserted_at timestamp not null default now(),
    id uuid not null default gen_random_uuid(),
    constraint messages_pkey primary key (id, inserted_at)
) partition by range (inserted_at);
create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
    where (extension = 'broadcast' and private is true);
create table realtime.messages_default partition of realtime.messages default;

-- The topic of the channel that is being joined; NULL outside of the realtime service.
create function realtime.topic() returns text
    language sql stable
    as $$ select nullif(current_setting('realtime.topic', true), '') $$;

-- Sends a message to the subscribers of `topic` when the transaction commits. A failure is a warning, so that a trigger
-- that tells others of a change cannot stop the change.
create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
    language plpgsql
    as $$
begin
    insert into realtime.messages (payload, event, topic, private, extension)
    values (payload, event, topic, private, 'broadcast');
exception when others then
    raise warning 'realtime.send: %', sqlerrm;
end
$$;

create function realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text,
    new record, old record, level text default 'ROW'
) returns void
    language plpgsql
    as $$
begin
    if level = 'STATEMENT' then
        raise exception 'function can only be triggered for each row, not for each statement';
    end if;
    if operation not in ('INSERT', 'UPDATE', 'DELETE') then
        raise exception 'Unexpected operation %', operation;
    end if;
    perform realtime.send(
        jsonb_build_object(
            'operation', operation, 'table', table_name, 'schema', table_schema,
            'record', case when operation <> 'DELETE' then to_jsonb(new) end,
            'old_record', case when operation <> 'INSERT' then to_jsonb(old) end
        ),
        event_name, topic_name
    );
end
$$;

do $owner$
declare
    owner_role constant text := current_setting('launchdb.owner_role');
    object record;
begin
    execute format('grant all on schema realtime to %I with grant option', owner_role);
    for object in
        select oid::regclass as name from pg_class where relnamespace = 'realtime'::regnamespace and relkind in ('r', 'p')
    loop
        execute format('alter table %s owner to %I', object.name, owner_role);
        execute format('grant all on table %s to supabase_realtime_admin', object.name);
    end loop;
    for object in
        select oid::regtype as name from pg_type
        where typnamespace = 'realtime'::regnamespace
            and (typtype = 'e' or typtype = 'c' and typrelid in (select oid from pg_class where relkind = 'c'))
    loop
        execute format('alter type %s owner to %I', object.name, owner_role);
    end loop;
    for object in select oid::regprocedure as name from pg_proc where pronamespace = 'realtime'::regnamespace
    loop
        execute format('alter function %s owner to supabase_realtime_admin', object.name);
        execute format('grant execute on function %s to %I with grant option', object.name, owner_role);
    end loop;
end
$owner$;

alter table realtime.messages enable row level security;
alter table realtime.messages_default enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;
grant select on realtime.subscription to anon, authenticated, service_role;
