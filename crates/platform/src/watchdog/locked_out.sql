-- Owners' roles that were locked out: a limit of no sessions at all is set by the watchdog alone.
-- $1 text[] the only projects to look at or null
select rolname::text
from pg_catalog.pg_roles
where rolname::text ~ '^proj_[a-z0-9]{3,40}$' and rolconnlimit = 0
    and ($1::text[] is null or rolname::text = any ($1::text[]))
