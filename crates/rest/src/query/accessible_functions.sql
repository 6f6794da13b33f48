-- Functions of the schema $1 that the role may execute.
select distinct n.nspname::text, p.proname::text
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname::text = $1::text and p.prokind = 'f' and pg_catalog.has_function_privilege(p.oid, 'execute')
order by 1, 2
