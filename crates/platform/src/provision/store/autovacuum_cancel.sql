-- Cancels what autovacuum's workers do in this database at tables that ask (or asked until just now) for what they may not have:
-- $1 oid[]. Each keeps what it read when it began. A table that is vacuumed to prevent wraparound, which no setting of the server's
-- asks for yet, asked for that.
select activity.pid, pg_cancel_backend(activity.pid)
from pg_stat_activity activity
left join pg_stat_progress_vacuum vacuum on vacuum.pid = activity.pid
left join pg_stat_progress_analyze analysis on analysis.pid = activity.pid
left join pg_class c on c.oid = vacuum.relid
where activity.backend_type = 'autovacuum worker' and activity.datname = current_database()
    and (
        coalesce(vacuum.relid, analysis.relid) = any ($1::oid[])
        or activity.query like '%(to prevent wraparound)'
        and age(c.relfrozenxid) < current_setting('autovacuum_freeze_max_age')::int8
        and mxid_age(c.relminmxid) < current_setting('autovacuum_multixact_freeze_max_age')::int8
    )
