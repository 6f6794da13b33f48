-- run as: superuser
-- The function of 0009 runs with the superuser's rights and takes values from a table of the owner's, who may give the
-- columns a type of their own, with a cast to text that is a function of theirs. `format` takes a value by its type's
-- output function, which nobody but a superuser can write: nothing of the owner's ever runs here.

set local search_path = pg_catalog, pg_temp;

create or replace function _launchdb.note_storage_removal() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
begin
    insert into _launchdb.storage_removals (bucket_id, name, version)
    values (
        pg_catalog.format('%s', old.bucket_id),
        pg_catalog.format('%s', old.name),
        pg_catalog.format('%s', old.version)
    );
    return null;
end
$$;
