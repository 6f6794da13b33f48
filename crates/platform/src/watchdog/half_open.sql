-- Logins that are not through, while somebody makes or drops a database: that waits until every process has looked up, and
-- one whose client says nothing does not before authentication_timeout.
--
-- Before PostgreSQL 18 no list of sessions has them, but each holds the lock of its first transaction.
select lock.pid
from pg_catalog.pg_locks lock
where lock.locktype = 'virtualxid' and lock.granted
    and exists (select from pg_catalog.pg_stat_activity where wait_event = 'ProcSignalBarrier')
    and not exists (
        select from pg_catalog.pg_stat_activity activity
        where activity.pid = lock.pid and activity.state is distinct from 'starting')
