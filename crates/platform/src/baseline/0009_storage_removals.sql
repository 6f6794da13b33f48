-- run as: superuser
-- Files that no row means any more.
--
-- Whatever deletes an object's row or gives it another version, by the storage service or by SQL, leaves here which file
-- is not needed any more, in the same transaction. The service removes the file and then the entry, so that neither a
-- crash nor a rollback can part rows and files.

set local search_path = pg_catalog, pg_temp;

create table _launchdb.storage_removals (
    id bigint generated always as identity,
    bucket_id text,
    name text,
    version text not null,
    removed_at timestamptz not null default now(),
    constraint storage_removals_pkey primary key (id)
);
grant select, delete on _launchdb.storage_removals to supabase_storage_admin;

create function _launchdb.note_storage_removal() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    as $$
begin
    insert into _launchdb.storage_removals (bucket_id, name, version) values (old.bucket_id, old.name, old.version);
    return null;
end
$$;
revoke all on function _launchdb.note_storage_removal() from public;

create trigger note_removal_of_deleted after delete on storage.objects
    for each row when (old.version is not null) execute function _launchdb.note_storage_removal();
-- A row that SQL gave another name keeps its version: its file is found by that and gets its new place.
create trigger note_removal_of_changed after update on storage.objects
    for each row when (old.version is not null and old.version is distinct from new.version)
    execute function _launchdb.note_storage_removal();
