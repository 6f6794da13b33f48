-- In-database configuration: settings of the role that connects, those for this database before those for all, then
-- what the pre-config function has set. $1: names that count, as text[]; $2: whether there is such a function.
with names as materialized (
  select unnest($1::text[]) as name
),
of_role as (
  select setdatabase, split_part(setting, '=', 1) as name, substr(setting, strpos(setting, '=') + 1) as value
  from pg_catalog.pg_db_role_setting, unnest(setconfig) as setting
  where setrole = (select oid from pg_catalog.pg_roles where rolname = current_user)
    and setdatabase in (0, (select oid from pg_catalog.pg_database where datname = current_catalog))
),
found as (
  select name, value, case when setdatabase = 0 then 2 else 1 end as rank from of_role join names using (name)
  union all
  select name, current_setting(name, true), 3 from names where $2::boolean
)
select distinct on (name) name, value from found where value is not null order by name, rank
