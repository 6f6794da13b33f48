-- Ends sessions of projects that pass a limit: $1 seconds of a statement, $2 seconds idle in a transaction, $3 advisory
-- locks, $4 locks of any kind.
with held as (
    select pid, count(*) as locks, count(*) filter (where locktype = 'advisory') as advisory_locks
    from pg_locks group by pid
), judged as (
    select session.pid, session.usename,
        case
            when session.state = 'active' and clock_timestamp() - session.query_start > make_interval(secs => $1)
                then 'statement'
            when session.state in ('idle in transaction', 'idle in transaction (aborted)')
                and clock_timestamp() - session.state_change > make_interval(secs => $2)
                then 'idle_in_transaction'
            when held.advisory_locks > $3 then 'advisory_locks'
            when held.locks > $4 then 'locks'
        end as reason
    from pg_stat_activity as session left join held on held.pid = session.pid
    where session.usename ~ '^proj_[a-z0-9]{3,40}(_authenticator)?$'
        and regexp_replace(session.usename, '_authenticator$', '') = session.datname
)
select pid, usename::text, reason, pg_terminate_backend(pid) from judged where reason is not null
