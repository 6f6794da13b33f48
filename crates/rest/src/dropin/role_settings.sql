-- Settings that roles which the connecting role may take have for themselves (ALTER ROLE ... SET), as far as the
-- connecting role may make them.
select r.rolname::text, split_part(own, '=', 1) as name, substr(own, strpos(own, '=') + 1) as value
from pg_catalog.pg_auth_members m
join pg_catalog.pg_roles r on r.oid = m.roleid
cross join unnest(r.rolconfig) as own
join pg_catalog.pg_settings s on s.name = split_part(own, '=', 1)
where m.member = (select oid from pg_catalog.pg_roles where rolname = current_user)
  and (s.context = 'user' or has_parameter_privilege(s.name, 'set'))
order by 1, 2
