-- run as: superuser
-- mends the file before
-- The triggers on the owner's table do what they do with the storage service's rights, not with the superuser's.
--
-- The owner of a table decides about the types of its columns, and about casts of those types: a function that assigns
-- such a column to one of another type runs the owner's code. So the function has no more rights than the service that
-- reads what it writes, and it reads columns through the output functions of their types, which owners cannot make.

set local search_path = pg_catalog, pg_temp;

grant insert on _launchdb.storage_removals to supabase_storage_admin;

create or replace function _launchdb.note_storage_removal() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
begin
    insert into _launchdb.storage_removals (bucket_id, name, version) values (
        case when old.bucket_id is not null then format('%s', old.bucket_id) end,
        case when old.name is not null then format('%s', old.name) end,
        format('%s', old.version)
    );
    return null;
end
$$;
alter function _launchdb.note_storage_removal() owner to supabase_storage_admin;
