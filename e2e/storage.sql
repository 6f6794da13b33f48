-- What the storage tests need beside buckets: a folder into which anybody may drop files that only the service reads.
create policy "drop" on storage.objects for insert to anon with check (bucket_id = 'private' and name like 'drop/%');
