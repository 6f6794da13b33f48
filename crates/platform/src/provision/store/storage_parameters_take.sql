-- Takes from relations the storage parameters that nothing may have: $1 oid[]. Rows that a transaction holds are left to the next
-- time, so that one table cannot keep those of others. The catalog is changed as 0013_storage_parameters_seen.sql does.
update pg_class c
set reloptions = nullif(_launchdb.wanted_storage_parameters(c.reloptions), '{}')
from (
    select other.oid from pg_class other
    where other.oid = any ($1::oid[]) and _launchdb.has_unwanted_storage_parameters(other.reloptions)
    for update skip locked
) free
where c.oid = free.oid
