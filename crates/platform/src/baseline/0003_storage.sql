-- run as: superuser
-- Buckets and objects: the tables, types and functions of Supabase's storage under their own names.
--
-- Rows describe files; the storage service keeps both in step and runs each operation as the caller's role, so policies
-- on storage.objects and storage.buckets decide.

set local search_path = pg_catalog, pg_temp;

create schema storage;
grant usage on schema storage to anon, authenticated, service_role;
grant all on schema storage to supabase_storage_admin, dashboard_user;

create type storage.buckettype as enum ('STANDARD', 'ANALYTICS', 'VECTOR');

create table storage.buckets (
    id text not null,
    name text not null,
    owner uuid,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    public boolean default false,
    avif_autodetection boolean default false,
    file_size_limit bigint,                 -- bytes
    allowed_mime_types text[],
    owner_id text,
    type storage.buckettype not null default 'STANDARD',
    constraint buckets_pkey primary key (id)
);
create unique index bname on storage.buckets (name);
comment on column storage.buckets.owner is 'Superseded by owner_id.';

create table storage.objects (
    id uuid not null default gen_random_uuid(),
    bucket_id text,
    name text,
    owner uuid,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    last_accessed_at timestamptz default now(),
    metadata jsonb,
    path_tokens text[] generated always as (string_to_array(name, '/')) stored,
    version text,
    owner_id text,
    user_metadata jsonb,
    constraint objects_pkey primary key (id),
    constraint "objects_bucketId_fkey" foreign key (bucket_id) references storage.buckets (id)
);
create unique index bucketid_objname on storage.objects (bucket_id, name);
create index idx_objects_bucket_id_name on storage.objects (bucket_id, name collate "C");
create index idx_objects_bucket_id_name_lower on storage.objects (bucket_id, lower(name) collate "C");
create index name_prefix_search on storage.objects (name text_pattern_ops);
comment on column storage.objects.owner is 'Superseded by owner_id.';

create table storage.s3_multipart_uploads (
    id text not null,
    in_progress_size bigint not null default 0,
    upload_signature text not null,
    bucket_id text not null,
    key text not null collate "C",
    version text not null,
    owner_id text,
    created_at timestamptz not null default now(),
    user_metadata jsonb,
    metadata jsonb,
    constraint s3_multipart_uploads_pkey primary key (id),
    constraint s3_multipart_uploads_bucket_id_fkey foreign key (bucket_id) references storage.buckets (id)
);
create index idx_multipart_uploads_list on storage.s3_multipart_uploads (bucket_id, key, created_at);

create table storage.s3_multipart_uploads_parts (
    id uuid not null default gen_random_uuid(),
    upload_id text not null,
    size bigint not null default 0,
    part_number integer not null,
    bucket_id text not null,
    key text not null collate "C",
    etag text not null,
    owner_id text,
    version text not null,
    created_at timestamptz not null default now(),
    constraint s3_multipart_uploads_parts_pkey primary key (id),
    constraint s3_multipart_uploads_parts_bucket_id_fkey foreign key (bucket_id) references storage.buckets (id),
    constraint s3_multipart_uploads_parts_upload_id_fkey
        foreign key (upload_id) references storage.s3_multipart_uploads (id) on delete cascade
);

create table storage.migrations (
    id integer not null,
    name varchar(100) not null,
    hash varchar(40) not null,
    executed_at timestamp default current_timestamp,
    constraint migrations_pkey primary key (id),
    constraint migrations_name_key unique (name)
);

-- Parts of an object's name, for policies.

create function storage.foldername(name text) returns text[]
    language plpgsql immutable
    as $$
declare
    parts constant text[] := string_to_array(name, '/');
begin
    return parts[1 : cardinality(parts) - 1];
end
$$;

create function storage.filename(name text) returns text
    language plpgsql immutable
    as $$
declare
    parts constant text[] := string_to_array(name, '/');
begin
    return parts[cardinality(parts)];
end
$$;

-- What follows the last dot of the file's name; the whole name when it has none.
create function storage.extension(name text) returns text
    language plpgsql immutable
    as $$
declare
    parts constant text[] := string_to_array(name, '/');
begin
    return split_part(parts[cardinality(parts)], '.', -1);
end
$$;

-- The part of `p_key` up to and with the first delimiter behind the prefix; NULL when there is none.
create function storage.get_common_prefix(p_key text, p_prefix text, p_delimiter text) returns text
    language sql immutable
    as $$
    select case when position(p_delimiter in substr(p_key, length(p_prefix) + 1)) > 0
        then left(p_key, length(p_prefix) + position(p_delimiter in substr(p_key, length(p_prefix) + 1))
            + length(p_delimiter) - 1)
    end
$$;

-- The operation the storage service is carrying out, as `storage.object.list`.
create function storage.operation() returns text
    language plpgsql stable
    as $$
begin
    return current_setting('storage.operation', true);
end
$$;

create function storage.allow_any_operation(expected_operations text[]) returns boolean
    language sql stable
    as $$
    select coalesce(regexp_replace(storage.operation(), '^storage\.', '') = any (
        select regexp_replace(expected, '^storage\.', '') from unnest(expected_operations) as expected
        where expected <> ''
    ), false)
$$;

create function storage.allow_only_operation(expected_operation text) returns boolean
    language sql stable
    as $$
    select storage.allow_any_operation(array[expected_operation])
$$;

-- Whether the caller's policies let it put an object here: inserts, then undoes that by an error of its own.
create function storage.can_insert_object(bucketid text, name text, owner uuid, metadata jsonb) returns void
    language plpgsql
    as $$
begin
    insert into storage.objects (bucket_id, name, owner, metadata) values (bucketid, name, owner, metadata);
    raise sqlstate 'PT200' using message = 'ROLLBACK', detail = 'rollback successful insert';
end
$$;

create function storage.get_size_by_bucket() returns table (size bigint, bucket_id text)
    language plpgsql stable
    as $$
begin
    return query
        select sum((object.metadata ->> 'size')::bigint)::bigint, object.bucket_id
        from storage.objects as object
        group by object.bucket_id;
end
$$;

-- Names under a prefix with everything behind the next delimiter folded into one row without an id (S3's listing).
-- Walks the index from folder to folder, so a folder of a million objects costs as much as one of ten.
-- `next_token` (of a page before) goes before `start_after`; both are the last name already seen.
create function storage.list_objects_with_delimiter(
    _bucket_id text, prefix_param text, delimiter_param text, max_keys integer default 100,
    start_after text default '', next_token text default '', sort_order text default 'asc'
) returns table (
    name text, id uuid, metadata jsonb, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz
)
    language plpgsql stable
    as $$
declare
    ascending constant boolean := lower(coalesce(sort_order, 'asc')) <> 'desc';
    prefix constant text := coalesce(prefix_param, '');
    -- Names under the prefix are below this one. Code points and bytes of UTF-8 sort alike.
    beyond constant text := case when prefix <> '' then left(prefix, -1) || chr(ascii(right(prefix, 1)) + 1) end;
    after_delimiter constant text := left(delimiter_param, -1) || chr(ascii(right(delimiter_param, 1)) + 1);
    seen text := coalesce(nullif(next_token, ''), start_after, '');
    found storage.objects;
    folder text;
    -- Going on behind `bound`; with `inclusive` the bound itself may be found.
    bound text;
    inclusive boolean := true;
    listed integer := 0;
begin
    if seen = '' then
        bound := case when ascending then prefix else beyond end;
        inclusive := ascending;
    elsif exists (
        select from storage.objects as object
        where object.bucket_id = _bucket_id
            and object.name collate "C" > seen || delimiter_param and object.name collate "C" < seen || after_delimiter
    ) then
        -- The name seen last was a folder: behind (or before) everything in it.
        bound := case when ascending then seen || after_delimiter else seen || delimiter_param end;
        inclusive := ascending;
    else
        bound := seen;
        inclusive := false;
    end if;

    while listed < max_keys loop
        if ascending then
            select * into found from storage.objects as object
            where object.bucket_id = _bucket_id
                and object.name collate "C" >= bound
                and (inclusive or object.name collate "C" <> bound)
                and object.name collate "C" >= prefix
                and (beyond is null or object.name collate "C" < beyond)
            order by object.name collate "C" asc limit 1;
        else
            select * into found from storage.objects as object
            where object.bucket_id = _bucket_id
                and (bound is null or object.name collate "C" < bound)
                and object.name collate "C" >= prefix
                and (beyond is null or object.name collate "C" < beyond)
            order by object.name collate "C" desc limit 1;
        end if;
        exit when found.name is null;
        folder := storage.get_common_prefix(found.name, prefix, delimiter_param);
        if folder is null then
            name := found.name;
            id := found.id;
            metadata := found.metadata;
            updated_at := found.updated_at;
            created_at := found.created_at;
            last_accessed_at := found.last_accessed_at;
            bound := found.name;
            inclusive := false;
        else
            name := left(folder, -length(delimiter_param));
            id := null;
            metadata := null;
            updated_at := null;
            created_at := null;
            last_accessed_at := null;
            bound := case when ascending then name || after_delimiter else folder end;
            inclusive := true;
        end if;
        listed := listed + 1;
        return next;
    end loop;
end
$$;

create function storage.list_multipart_uploads_with_delimiter(
    bucket_id text, prefix_param text, delimiter_param text, max_keys integer default 100,
    next_key_token text default '', next_upload_token text default ''
) returns table (key text, id text, created_at timestamptz)
    language sql stable
    as $$
    select folded.key, folded.id, folded.created_at
    from (
        select distinct on (listed.key) listed.key, listed.id, listed.created_at
        from (
            select coalesce(storage.get_common_prefix(upload.key, $2, $3), upload.key) collate "C" as key,
                upload.id, upload.created_at
            from storage.s3_multipart_uploads as upload
            where upload.bucket_id = $1 and starts_with(upload.key, $2)
                and ($6 = '' or upload.id collate "C" > $6)
        ) as listed
        where $5 = '' or $6 <> '' or listed.key > $5 collate "C"
        order by listed.key, listed.created_at
    ) as folded
    order by folded.key
    limit $4
$$;

-- What `list()` of the clients calls: one level below `prefix`, whose names may also begin with `search`.
-- The comparison ignores case; folders come without an id, and names without the prefix.
create function storage.search(
    prefix text, bucketname text, limits integer default 100, levels integer default 1, offsets integer default 0,
    search text default '', sortcolumn text default 'name', sortorder text default 'asc'
) returns table (
    name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz, metadata jsonb
)
    language plpgsql stable
    as $$
declare
    path constant text := lower(coalesce(prefix, '') || coalesce(search, ''));
    skipped constant integer := length(coalesce(prefix, ''));
    column_name constant text :=
        case when lower(sortcolumn) in ('updated_at', 'created_at', 'last_accessed_at') then lower(sortcolumn)
        else 'name' end;
    descending constant boolean := lower(coalesce(sortorder, 'asc')) = 'desc';
begin
    return query
        with entry as (
            select distinct on (folder, leaf)
                storage.get_common_prefix(lower(object.name), path, '/') as folder,
                case when storage.get_common_prefix(lower(object.name), path, '/') is null then object.name end as leaf,
                object.name, object.id, object.updated_at, object.created_at, object.last_accessed_at, object.metadata
            from storage.objects as object
            where object.bucket_id = bucketname
                and lower(object.name) collate "C" >= path
                and (path = '' or lower(object.name) collate "C" < left(path, -1) || chr(ascii(right(path, 1)) + 1))
            order by folder, leaf, object.name collate "C"
        ), shown as (
            select
                substr(case when entry.folder is null then entry.name
                    else left(entry.name, length(entry.folder) - 1) end, skipped + 1) as name,
                case when entry.folder is null then entry.id end as id,
                case when entry.folder is null then entry.updated_at end as updated_at,
                case when entry.folder is null then entry.created_at end as created_at,
                case when entry.folder is null then entry.last_accessed_at end as last_accessed_at,
                case when entry.folder is null then entry.metadata end as metadata
            from entry
        )
        select shown.name, shown.id, shown.updated_at, shown.created_at, shown.last_accessed_at, shown.metadata
        from shown
        order by
            -- By a time, folders come first: they have none.
            case when column_name <> 'name' then shown.id is not null end,
            case when not descending then case column_name
                when 'updated_at' then shown.updated_at
                when 'created_at' then shown.created_at
                when 'last_accessed_at' then shown.last_accessed_at
            end end asc,
            case when descending then case column_name
                when 'updated_at' then shown.updated_at
                when 'created_at' then shown.created_at
                when 'last_accessed_at' then shown.last_accessed_at
            end end desc,
            case when not descending then lower(shown.name) collate "C" end asc,
            case when descending then lower(shown.name) collate "C" end desc
        limit least(coalesce(limits, 100), 1500) offset offsets;
end
$$;

create function storage.search_by_timestamp(
    p_prefix text, p_bucket_id text, p_limit integer, p_level integer, p_start_after text,
    p_sort_order text, p_sort_column text, p_sort_column_after text
) returns table (
    key text, name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz,
    metadata jsonb
)
    language plpgsql stable
    as $$
declare
    prefix constant text := coalesce(p_prefix, '');
    descending constant boolean := lower(coalesce(p_sort_order, 'asc')) = 'desc';
    after_time constant timestamptz := nullif(p_sort_column_after, '')::timestamptz;
begin
    return query
        with entry as (
            select object.*, storage.get_common_prefix(object.name, prefix, '/') as folder
            from storage.objects as object
            where object.bucket_id = p_bucket_id and starts_with(object.name, prefix)
        ), listed as (
            select rtrim(entry.folder, '/') as name, null::uuid as id, min(entry.created_at) as updated_at,
                min(entry.created_at) as created_at, null::timestamptz as last_accessed_at, null::jsonb as metadata
            from entry where entry.folder is not null group by entry.folder
            union all
            select entry.name, entry.id, entry.updated_at, entry.created_at, entry.last_accessed_at, entry.metadata
            from entry where entry.folder is null
        ), timed as (
            select listed.*,
                case when p_sort_column = 'created_at' then listed.created_at else listed.updated_at end as at
            from listed
        )
        select split_part(timed.name, '/', p_level), timed.name, timed.id, timed.updated_at, timed.created_at,
            timed.last_accessed_at, timed.metadata
        from timed
        where after_time is null
            or (not descending
                and (date_trunc('milliseconds', timed.at), timed.name collate "C") > (after_time, p_start_after))
            or (descending
                and (date_trunc('milliseconds', timed.at), timed.name collate "C") < (after_time, p_start_after))
        order by
            case when not descending then date_trunc('milliseconds', timed.at) end asc,
            case when descending then date_trunc('milliseconds', timed.at) end desc,
            case when not descending then timed.name collate "C" end asc,
            case when descending then timed.name collate "C" end desc
        limit p_limit;
end
$$;

-- What `listV2()` of the clients calls: pages behind `start_after`.
create function storage.search_v2(
    prefix text, bucket_name text, limits integer default 100, levels integer default 1, start_after text default '',
    sort_order text default 'asc', sort_column text default 'name', sort_column_after text default ''
) returns table (
    key text, name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz,
    metadata jsonb
)
    language plpgsql stable
    as $$
declare
    most constant integer := least(coalesce(limits, 100), 1500);
    direction constant text := case when lower(sort_order) = 'desc' then 'desc' else 'asc' end;
begin
    if lower(sort_column) in ('updated_at', 'created_at') then
        return query select * from storage.search_by_timestamp(
            prefix, bucket_name, most, levels, start_after, direction, lower(sort_column), sort_column_after);
    else
        return query
            select split_part(listed.name, '/', levels), listed.name, listed.id, listed.updated_at,
                listed.created_at, listed.last_accessed_at, listed.metadata
            from storage.list_objects_with_delimiter(
                bucket_name, coalesce(prefix, ''), '/', most, start_after, '', direction) as listed;
    end if;
end
$$;

create function storage.update_updated_at_column() returns trigger
    language plpgsql
    as $$
begin
    new.updated_at := now();
    return new;
end
$$;

create function storage.enforce_bucket_name_length() returns trigger
    language plpgsql
    as $$
begin
    if length(new.name) > 100 then
        raise exception 'bucket name "%" is too long (% characters). Max is 100.', new.name, length(new.name);
    end if;
    return new;
end
$$;

-- A row deleted here would leave its file behind; the storage service says that it deletes both.
create function storage.protect_delete() returns trigger
    language plpgsql
    as $$
begin
    if coalesce(current_setting('storage.allow_delete_query', true), '') <> 'true' then
        raise insufficient_privilege using
            message = 'Direct deletion from storage tables is not allowed. Use the Storage API instead.',
            hint = 'This prevents accidental data loss from orphaned objects.';
    end if;
    return null;
end
$$;

create trigger update_objects_updated_at before update on storage.objects
    for each row execute function storage.update_updated_at_column();
create trigger enforce_bucket_name_length_trigger before insert or update of name on storage.buckets
    for each row execute function storage.enforce_bucket_name_length();
create trigger protect_objects_delete before delete on storage.objects
    for each statement execute function storage.protect_delete();
create trigger protect_buckets_delete before delete on storage.buckets
    for each statement execute function storage.protect_delete();

do $owner$
declare
    owner_role constant text := current_setting('launchdb.owner_role');
    object record;
begin
    execute format('grant all on schema storage to %I with grant option', owner_role);
    for object in
        select oid::regclass as name from pg_class where relnamespace = 'storage'::regnamespace and relkind = 'r'
    loop
        execute format('alter table %s owner to %I', object.name, owner_role);
        execute format('grant all on table %s to supabase_storage_admin', object.name);
        execute format('alter table %s enable row level security', object.name);
    end loop;
    for object in select oid::regprocedure as name from pg_proc where pronamespace = 'storage'::regnamespace
    loop
        execute format('alter function %s owner to supabase_storage_admin', object.name);
        execute format('grant execute on function %s to %I with grant option', object.name, owner_role);
    end loop;
    execute format('alter type storage.buckettype owner to %I', owner_role);
end
$owner$;

-- Policies decide about rows; without one nobody but the service role reaches any.
grant select, insert, update, delete on storage.buckets, storage.objects to anon, authenticated;
grant all on storage.buckets, storage.objects, storage.s3_multipart_uploads, storage.s3_multipart_uploads_parts
    to service_role;
grant select on storage.s3_multipart_uploads, storage.s3_multipart_uploads_parts to anon, authenticated;
