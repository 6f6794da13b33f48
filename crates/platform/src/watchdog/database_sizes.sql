-- Bytes on disk and age in transactions (since the last one that nothing of it depends on any more) of every project's database. Reads every folder: not for every second.
-- $1 text[] the only projects to look at or null
select datname::text, pg_catalog.pg_database_size(oid), pg_catalog.age(datfrozenxid)
from pg_catalog.pg_database
where datname::text ~ '^proj_[a-z0-9]{3,40}$' and ($1::text[] is null or datname::text = any ($1::text[]))
