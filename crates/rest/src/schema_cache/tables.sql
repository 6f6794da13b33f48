-- Relations of the schemas $1 with their columns, and before them the types of these columns: a row each, `t` or `r` and
-- a JSON array. A column names its type by number, for a database has thousands of columns and a dozen types.
with recursive domain_bases(domain_id, base_id) as (
  select oid, typbasetype from pg_catalog.pg_type where typtype = 'd'
  union all
  select d.domain_id, t.typbasetype
  from domain_bases d
  join pg_catalog.pg_type t on t.oid = d.base_id and t.typtype = 'd'
),
base_types as (
  select d.domain_id, t.oid as base_id, t.typnamespace as base_namespace
  from domain_bases d
  join pg_catalog.pg_type t on t.oid = d.base_id and t.typtype <> 'd'
),
relations as materialized (
  select c.oid, n.nspname, c.relname, c.relkind, c.relkind <> 'p' and c.relhassubclass as has_heirs
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname::text = any ($1::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
),
attributes as materialized (
  select a.attrelid, a.attnum, a.attname, a.attnotnull, a.atttypid, a.atttypmod, a.attidentity, a.attgenerated
  from relations r
  join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
),
enums as materialized (
  select enumtypid, json_agg(enumlabel order by enumsortorder) as labels from pg_catalog.pg_enum group by enumtypid
),
types as materialized (
  select
    row_number() over () - 1 as number,
    u.atttypid,
    u.atttypmod,
    t.typtype = 'd' and t.typnotnull as never_null,
    case when t.typtype = 'd' then pg_get_expr(t.typdefaultbin, 0) end as default_value,
    json_build_array(
      case
        when t.typtype = 'd' and b.base_namespace = 'pg_catalog'::regnamespace then format_type(b.base_id, null)
        when t.typtype <> 'd' and t.typnamespace = 'pg_catalog'::regnamespace then format_type(u.atttypid, null)
        else format_type(u.atttypid, u.atttypmod)
      end,
      format_type(u.atttypid, u.atttypmod),
      -- As information_schema.columns has it, whose functions take a whole row each.
      case
        when l.modifier = -1 then null
        when l.type in ('character'::regtype, 'character varying'::regtype) then l.modifier - 4
        when l.type in ('bit'::regtype, 'bit varying'::regtype) then l.modifier
      end,
      e.labels
    ) as type
  from (select distinct atttypid, atttypmod from attributes) u
  join pg_catalog.pg_type t on t.oid = u.atttypid
  cross join lateral (
    select
      case when t.typtype = 'd' then t.typbasetype else u.atttypid end as type,
      case when t.typtype = 'd' then t.typtypmod else u.atttypmod end as modifier
  ) l
  left join base_types b on b.domain_id = t.oid
  left join enums e on e.enumtypid = coalesce(b.base_id, t.oid)
),
relation_columns as (
  select
    a.attrelid,
    json_agg(
      json_build_array(
        a.attname,
        d.description,
        not (a.attnotnull or t.never_null),
        t.number,
        case
          when t.default_value is not null and ad.adbin is null then t.default_value
          when a.attidentity = 'd' then (
            select format('nextval(%L)', s.objid::regclass)
            from pg_catalog.pg_depend s
            where s.refclassid = 'pg_catalog.pg_class'::regclass and s.refobjid = a.attrelid
              and s.refobjsubid = a.attnum and s.deptype = 'i'
            limit 1
          )
          when a.attgenerated <> '' then null
          -- A default names no columns. For the table's number it would be opened, and waited for while it is changed.
          else pg_get_expr(ad.adbin, 0)
        end
      ) order by a.attnum
    ) as columns
  from attributes a
  join types t on t.atttypid = a.atttypid and t.atttypmod = a.atttypmod
  left join pg_catalog.pg_attrdef ad on ad.adrelid = a.attrelid and ad.adnum = a.attnum
  left join pg_catalog.pg_description d
    on d.objoid = a.attrelid and d.objsubid = a.attnum and d.classoid = 'pg_catalog.pg_class'::regclass
  group by a.attrelid
)
select 't', json_build_array(number, type)::text from types
union all
select 'r', json_build_array(
  r.oid::bigint,
  r.nspname,
  r.relname,
  d.description,
  r.relkind in ('v', 'm'),
  r.has_heirs,
  r.relkind in ('r', 'p') or u.commands & 8 <> 0,
  r.relkind in ('r', 'p') or u.commands & 4 <> 0,
  r.relkind in ('r', 'p') or u.commands & 16 <> 0,
  coalesce(c.columns, '[]')
)::text
from relations r
-- A bit for each command, 1 << CmdType.
cross join lateral (
  select case when r.relkind in ('v', 'f') then pg_relation_is_updatable(r.oid, true) else 0 end as commands offset 0
) u
left join relation_columns c on c.attrelid = r.oid
left join pg_catalog.pg_description d
  on d.objoid = r.oid and d.objsubid = 0 and d.classoid = 'pg_catalog.pg_class'::regclass
