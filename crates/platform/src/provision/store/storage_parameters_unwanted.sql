-- Relations with storage parameters that nothing may have, and their TOAST tables, which go by those when they have none.
with held as materialized (
    select relid from pg_stat_progress_vacuum where datname = current_database()
    union all select relid from pg_stat_progress_analyze where datname = current_database()
), unwanted as (
    select c.oid, c.reltoastrelid
    from pg_class c
    where c.reloptions is not null and cardinality(_launchdb.wanted_storage_parameters(c.reloptions)) < cardinality(c.reloptions)
    order by exists (select from held where held.relid in (c.oid, c.reltoastrelid)) desc
    limit 10000
)
select oid from unwanted
union all select reltoastrelid from unwanted where reltoastrelid <> 0
