-- Ends autovacuum's workers in this database; what they were at is begun anew by others.
select pg_terminate_backend(pid)
from pg_stat_activity
where backend_type = 'autovacuum worker' and datname = current_database()
