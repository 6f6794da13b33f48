-- Sessions of projects that may be holding the notification queue back, the likeliest first, in the shape of
-- offenders.sql.
--
-- A session that listens reads the queue only between its transactions, and stops reading while its client does not
-- take what it was sent. PostgreSQL shows nobody else who listens, so whoever is in one of these two states for long
-- can be the one; after a few are gone the queue is looked at again. Sessions that do no work come first.
--
-- Since when a client takes nothing is not to be seen either: of an idle session, `state_change` and `xact_start` are
-- those of its last statement. So `since` is null there, and the caller has to meet it in that state again and again.
--
-- $1 float8 seconds a transaction is open at least, $2 text[] the only projects to look at or null
with session as (
    select
        activity.*,
        substring(activity.usename::text from '^(proj_[a-z0-9]{3,40})(?:_authenticator)?$') as project,
        activity.state in ('active', 'fastpath function call') as running
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
    case when state <> 'idle' then (extract(epoch from xact_start) * 1000000)::int8 end as since,
    false as cancel
from session
where case when state = 'idle' then wait_event = 'ClientWrite'
        else xact_start < now() - make_interval(secs => $1::float8) end
    and ($2::text[] is null or project = any ($2::text[]))
order by running, since nulls last
