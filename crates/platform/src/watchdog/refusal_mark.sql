-- Tells every process that is connected to this database that writes are refused: whoever holds the mark is their guard.
-- No project can connect here. Once is enough: each lock that a session takes it would have to give back. Read by
-- store/writes_refused.sql.
select pg_catalog.pg_try_advisory_lock(7241, 0)
where not exists (
    select from pg_catalog.pg_locks
    where locktype = 'advisory' and classid = 7241 and objid = 0 and objsubid = 2 and pid = pg_catalog.pg_backend_pid()
)
