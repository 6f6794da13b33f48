-- Relations of the schemas $1 with their columns and primary keys, as one JSON array.
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
relations as (
  select c.oid, n.nspname, c.relname, c.relkind
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname::text = any ($1::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
),
relation_columns as (
  select
    a.attrelid,
    json_agg(
      json_build_array(
        a.attname,
        d.description,
        not (a.attnotnull or t.typtype = 'd' and t.typnotnull),
        case
          when t.typtype = 'd' and b.base_namespace = 'pg_catalog'::regnamespace then format_type(b.base_id, null)
          when t.typtype <> 'd' and t.typnamespace = 'pg_catalog'::regnamespace then format_type(a.atttypid, null)
          else format_type(a.atttypid, a.atttypmod)
        end,
        format_type(a.atttypid, a.atttypmod),
        information_schema._pg_char_max_length(
          information_schema._pg_truetypid(a.*, t.*), information_schema._pg_truetypmod(a.*, t.*)
        ),
        case
          when t.typtype = 'd' and ad.adbin is null then pg_get_expr(t.typdefaultbin, 0)
          when a.attidentity = 'd' then (
            select format('nextval(%L)', s.objid::regclass)
            from pg_catalog.pg_depend s
            where s.refclassid = 'pg_catalog.pg_class'::regclass and s.refobjid = a.attrelid
              and s.refobjsubid = a.attnum and s.deptype = 'i'
            limit 1
          )
          when a.attgenerated = 's' then null
          else pg_get_expr(ad.adbin, ad.adrelid)
        end,
        (select json_agg(e.enumlabel order by e.enumsortorder)
         from pg_catalog.pg_enum e where e.enumtypid = coalesce(b.base_id, t.oid))
      ) order by a.attnum
    ) as columns
  from relations r
  join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_type t on t.oid = a.atttypid
  left join base_types b on b.domain_id = t.oid
  left join pg_catalog.pg_attrdef ad on ad.adrelid = a.attrelid and ad.adnum = a.attnum
  left join pg_catalog.pg_description d
    on d.objoid = a.attrelid and d.objsubid = a.attnum and d.classoid = 'pg_catalog.pg_class'::regclass
  group by a.attrelid
)
select coalesce(json_agg(json_build_array(
  r.oid::bigint,
  r.nspname,
  r.relname,
  d.description,
  r.relkind in ('v', 'm'),
  -- pg_relation_is_updatable: a bit for each command, 1 << CmdType
  r.relkind in ('r', 'p') or r.relkind in ('v', 'f') and pg_relation_is_updatable(r.oid, true) & 8 <> 0,
  r.relkind in ('r', 'p') or r.relkind in ('v', 'f') and pg_relation_is_updatable(r.oid, true) & 4 <> 0,
  r.relkind in ('r', 'p') or r.relkind in ('v', 'f') and pg_relation_is_updatable(r.oid, true) & 16 <> 0,
  coalesce(c.columns, '[]')
)), '[]')::text
from relations r
left join relation_columns c on c.attrelid = r.oid
left join pg_catalog.pg_description d
  on d.objoid = r.oid and d.objsubid = 0 and d.classoid = 'pg_catalog.pg_class'::regclass
