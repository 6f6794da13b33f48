-- Ends a session: $1 int4 pid, $2 int8 its start in microseconds, because pids are used again.
select pg_catalog.pg_terminate_backend(pid)
from pg_catalog.pg_stat_activity
where pid = $1::int4 and (extract(epoch from backend_start) * 1000000)::int8 = $2::int8
