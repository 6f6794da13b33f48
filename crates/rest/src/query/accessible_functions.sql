-- Functions of the schema $1 that the role may execute, and the types of their parameters as the search path shows them.
select
  n.nspname::text,
  p.proname::text,
  p.oid::bigint,
  (
    select json_agg(a.type::regtype::text order by a.ord)::text
    from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes::text[])
      with ordinality a(type, mode, ord)
    where coalesce(a.mode, 'i') in ('i', 'b', 'v')
  )
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname::text = $1::text and p.prokind = 'f' and pg_catalog.has_function_privilege(p.oid, 'execute')
order by 2
