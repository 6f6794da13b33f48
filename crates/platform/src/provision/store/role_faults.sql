-- What the roles in $1 can do, by themselves or through memberships, that a role shared by projects must not, and which
-- of those in $2 policies would stop although services and owners act as them.
with recursive reach (role, oid) as (
    select rolname, oid from pg_roles where rolname = any ($1)
    union
    select reach.role, membership.roleid
    from reach join pg_auth_members as membership on membership.member = reach.oid
)
select reach.role::text,
    case
        when reached.rolname ~ '^pg_' then 'is a member of ' || reached.rolname
        when reached.rolname = reach.role then 'has'
        else 'is a member of ' || reached.rolname || ', which has'
    end || coalesce(' ' || nullif(concat_ws(', ',
        case when reached.rolsuper then 'SUPERUSER' end,
        case when reached.rolcreaterole then 'CREATEROLE' end,
        case when reached.rolcreatedb then 'CREATEDB' end,
        case when reached.rolreplication then 'REPLICATION' end), ''), '')
from reach join pg_roles as reached on reached.oid = reach.oid
where reached.rolsuper or reached.rolcreaterole or reached.rolcreatedb or reached.rolreplication
    or reached.rolname ~ '^pg_'
union all
select rolname::text, 'lacks BYPASSRLS'
from pg_roles where rolname = any ($1) and rolname = any ($2) and not rolbypassrls and not rolsuper
order by 1, 2
