-- Ends a login that is not through: $1 int4 pid. One that has got through since is somebody's session, and stays.
select pg_catalog.pg_terminate_backend(lock.pid)
from pg_catalog.pg_locks lock
where lock.pid = $1::int4 and lock.locktype = 'virtualxid'
    and not exists (
        select from pg_catalog.pg_stat_activity activity
        where activity.pid = lock.pid and activity.state is distinct from 'starting')
