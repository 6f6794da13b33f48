-- Whether somebody holds the mark of watchdog/refusal_mark.sql.
select exists (
    select from pg_catalog.pg_locks
    where locktype = 'advisory' and classid = 7241 and objid = 0 and objsubid = 2 and granted
        and database = (select oid from pg_catalog.pg_database where datname = current_database())
)
