-- Relations with storage parameters that nothing may have, some thousands at most.
select c.oid
from pg_class c
where c.reloptions is not null and _launchdb.has_unwanted_storage_parameters(c.reloptions)
limit 10000
