-- Sessions of projects that may be holding the notification queue back, the likeliest first, in the shape of
-- offenders.sql.
--
-- A session that listens reads the queue only between its transactions, and stops reading while its client does not
-- take what it was sent. PostgreSQL shows nobody else who listens, so whoever has been in one of these two states for
-- long can be the one; after a few are gone the queue is looked at again. Sessions that do no work come first.
--
-- $1 float8 seconds in that state at least, $2 text[] the only projects to look at or null, $3 int8 rows at most
with session as (
    select
        activity.*,
        substring(activity.usename::text from '^(proj_[a-z0-9]{3,40})(?:_authenticator)?$') as project,
        activity.state in ('active', 'fastpath function call') as running,
        coalesce(
            activity.xact_start,
            case when activity.state = 'idle' and activity.wait_event = 'ClientWrite' then activity.state_change end
        ) as stalled_since
    from pg_catalog.pg_stat_activity activity
    where activity.backend_type = 'client backend'
        and activity.usename::text ~ '^proj_[a-z0-9]{3,40}(_authenticator)?$'
)
select
    pid,
    (extract(epoch from backend_start) * 1000000)::int8 as backend_start,
    usename::text as role,
    project,
    'notification_queue' as reason,
    (extract(epoch from stalled_since) * 1000000)::int8 as since,
    false as cancel
from session
where stalled_since < now() - make_interval(secs => $1::float8)
    and ($2::text[] is null or project = any ($2::text[]))
order by running, stalled_since
limit $3::int8
