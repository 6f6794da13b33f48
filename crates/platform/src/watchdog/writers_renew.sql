-- Ends idle sessions of the platform database's owner: those that began before the role was exempted
-- (writers_exempt.sql) may not write. Its pool makes new ones.
select pg_catalog.pg_terminate_backend(pid)
from pg_catalog.pg_stat_activity
where backend_type = 'client backend' and state = 'idle' and usename <> session_user
    and usesysid = (select datdba from pg_catalog.pg_database where datname = current_database())
