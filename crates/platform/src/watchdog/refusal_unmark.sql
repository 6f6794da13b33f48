-- Undoes refusal_mark.sql, where this session holds it.
select pg_catalog.pg_advisory_unlock(7241, 0)
from pg_catalog.pg_locks
where locktype = 'advisory' and classid = 7241 and objid = 0 and objsubid = 2 and pid = pg_catalog.pg_backend_pid()
