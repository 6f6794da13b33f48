-- Owners' roles that may have fewer sessions than they were made with, and how many: the watchdog alone lowers limits.
--
-- $1 int4 the limit they were made with, $2 text[] the only projects to look at or null
select rolname::text, rolconnlimit
from pg_catalog.pg_roles
where rolname::text ~ '^proj_[a-z0-9]{3,40}$' and rolconnlimit between 0 and $1::int4 - 1
    and ($2::text[] is null or rolname::text = any ($2::text[]))
