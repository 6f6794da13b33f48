-- Which request.* settings stored code can read, whether it can set response.*, and whether it makes any setting of the
-- transaction (set_config, or SET as a statement, also one that is built at run time). Whoever builds a setting's name at
-- run time, reads pg_settings, or is written in a language we cannot look into, counts for all of them.
-- Where code runs statements that are text, nobody knows what they do. The funcids are those of current_setting (2077, 3294),
-- set_config (2078), pg_show_all_settings (2084), pg_advisory_lock and its kin (2880 to 2889), query_to_xml and its kin (2924 to 2930), ts_stat and ts_rewrite (3685 to 3690).
with code as materialized (
  select
    p.oid, l.lanname as language, p.prosrc as source, p.prosqlbody::text as tree,
    -- Event triggers do not run in a request, and nobody but LaunchDB makes functions in its own schema.
    p.prorettype <> 'event_trigger'::regtype
      and p.pronamespace is distinct from to_regnamespace('_launchdb') as callable
  from pg_catalog.pg_proc p
  join pg_catalog.pg_language l on l.oid = p.prolang
  where p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    and l.lanname in ('sql', 'plpgsql')
),
definitions as materialized (
  -- Functions, SQL bodies of the new kind included.
  select case when tree is null then source else pg_get_functiondef(oid) end as body, callable, false as rule
  from code
  where case
      when tree is null then source ~* 'current_setting|set_config|pg_settings|show_all_settings|request\.|response\.'
      else tree ~ ':funcid (2077|2078|2084|3294|2880|2881|2882|2883|2886|2887|2888|2889|2924|2927|2930|3685|3689|3690) '
        or exists (
          select from pg_catalog.pg_depend d
          where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = code.oid
            and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = 'pg_catalog.pg_settings'::regclass
        )
    end
  union all
  -- Views and rules.
  select pg_get_ruledef(r.oid), true, true
  from pg_catalog.pg_rewrite r
  join pg_catalog.pg_class c on c.oid = r.ev_class
  where c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    and (r.ev_action::text ~ ':funcid (2077|2078|2084|3294|2880|2881|2882|2883|2886|2887|2888|2889|2924|2927|2930|3685|3689|3690) ' or r.ev_qual::text ~ ':funcid (2077|2078|3294|2880|2881|2882|2883|2886|2887|2888|2889|2924|2927|2930|3685|3689|3690) '
      or exists (
        select from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
          and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = 'pg_catalog.pg_settings'::regclass
      ))
  union all
  -- Row level security, as PostgreSQL prints it.
  select concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), true, false
  from pg_catalog.pg_policy p
  where concat(p.polqual::text, p.polwithcheck::text) ~ ':funcid (2077|2078|3294|2880|2881|2882|2883|2886|2887|2888|2889|2924|2927|2930|3685|3689|3690) '
  union all
  select pg_get_expr(d.adbin, d.adrelid), true, false
  from pg_catalog.pg_attrdef d
  where d.adbin::text ~ ':funcid (2077|2078|3294|2880|2881|2882|2883|2886|2887|2888|2889|2924|2927|2930|3685|3689|3690) '
  union all
  select pg_get_constraintdef(c.oid), true, false
  from pg_catalog.pg_constraint c
  where c.conbin::text ~ ':funcid (2077|2078|3294|2880|2881|2882|2883|2886|2887|2888|2889|2924|2927|2930|3685|3689|3690) '
  union all
  select pg_get_triggerdef(t.oid), true, false
  from pg_catalog.pg_trigger t
  where t.tgqual::text ~ ':funcid (2077|2078|3294|2880|2881|2882|2883|2886|2887|2888|2889|2924|2927|2930|3685|3689|3690) '
  union all
  select pg_get_expr(t.typdefaultbin, 0), true, false
  from pg_catalog.pg_type t
  where t.typdefaultbin::text ~ ':funcid (2077|2078|3294|2880|2881|2882|2883|2886|2887|2888|2889|2924|2927|2930|3685|3689|3690) '
),
marks as (
  select
    body ~* 'request\.headers?' as headers,
    body ~* 'request\.cookies?' as cookies,
    body ~* 'request\.method' as method,
    body ~* 'request\.path' as path,
    body ~* 'response\.' as response,
    -- What is left of current_setting when the calls that name their setting are taken away.
    -- PostgreSQL prints their columns' names too.
    regexp_replace(body, 'current_setting\s*\(\s*''[^'']*''(::text)?\s*[,)]|\mas current_setting\M', '', 'gi')
      ~* 'current_setting|pg_settings|show_all_settings' as any_read,
    regexp_replace(body, 'set_config\s*\(\s*''[^'']*''(::text)?\s*,|\mas set_config\M', '', 'gi') ~* 'set_config' as any_write,
    -- To update a view of pg_settings is to make settings.
    callable and (body ~* 'pg_settings' and (rule or body ~* '\mupdate\M') or body ~* 'set_config|\mpg_(try_)?advisory_lock(_shared)?\M') as writes,
    callable and body ~* '\m(query_to_xml\w*|ts_stat|ts_rewrite)\M' as runs_text
  from definitions
  where body is not null
  union all
  -- Code that makes settings by SET, or leaves cursors, locks or temporary tables behind, which outlive a statement too.
  select false, false, false, false, false, false, false, true, false
  from code
  where tree is null and callable and (
    source ~* '(^|;|''|\mbegin|\mthen|\melse|\mloop)\s*set\s|\mset\s+(local|session|role)\M'
    or source ~* '\m(create(\s+or\s+replace)?|into)\s+((local|global)\s+)?temp(orary)?\M|\mpg_temp\M"?\s*\.|\mpg_(try_)?advisory_lock(_shared)?\M'
    or case when source ~* '\m(set|reset|cursor|refcursor)\M' then exists (
      -- Without comments: once as they may be, and once without what could be within a string.
      select
      from unnest(case
        when strpos(source, '--') = 0 and strpos(source, '/*') = 0 then array[source]
        else array[
          regexp_replace(regexp_replace(source, '/\*.*?\*/', ' ', 'g'), '--[^\n]*', ' ', 'g'),
          regexp_replace(regexp_replace(source, '--[^''\n]*', ' ', 'g'), '/\*[^'']*?\*/', ' ', 'g')
        ]
      end) as stripped (source)
      -- Any SET that is not UPDATE's.
      where regexp_replace(
        stripped.source,
        '\mdo\s+update\s+set\M|\mupdate\s+(only\s+)?(?!(then|begin|loop|else)\M)["\w.$]+(\s*\*)?(\s+as)?(\s+(?!(then|begin|loop|else)\M)["\w$]+)?\s+set\M',
        ' ', 'gi'
      ) ~* '\m(set|reset|cursor|refcursor)\M'
    ) else false end
  )
  union all
  -- A statement that is put together at run time can be any; extensions' are none of an owner's.
  select true, true, true, true, true, true, true, true, true
  from code
  where tree is null and callable
    and source ~* '\m(execute|query_to_xml\w*|ts_stat|ts_rewrite|crosstab\w*|connectby|xpath_table)\M'
    and not exists (
      select from pg_catalog.pg_depend d
      where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = code.oid and d.deptype = 'e'
    )
  union all
  -- These functions under another name.
  select true, true, true, true, true, true, true, true, true
  from pg_catalog.pg_operator o
  where o.oprcode::oid in (2077, 2078, 2084, 3294, 2880, 2881, 2882, 2883, 2886, 2887, 2888, 2889, 2924, 2927, 2930, 3685, 3689, 3690)
  union all
  select true, true, true, true, true, true, true, true, true
  from pg_catalog.pg_aggregate a
  where array[a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::oid[]
    && array[2077, 2078, 2084, 3294, 2880, 2881, 2882, 2883, 2886, 2887, 2888, 2889, 2924, 2927, 2930, 3685, 3689, 3690]::oid[]
  union all
  select true, true, true, true, true, true, true, true, true
  from pg_catalog.pg_proc p
  join pg_catalog.pg_language l on l.oid = p.prolang
  where l.lanname not in ('internal', 'c', 'sql', 'plpgsql')
)
select json_build_array(
  coalesce(bool_or(headers or any_read or runs_text), false),
  coalesce(bool_or(cookies or any_read or runs_text), false),
  coalesce(bool_or(method or any_read or runs_text), false),
  coalesce(bool_or(path or any_read or runs_text), false),
  coalesce(bool_or(response or any_write or runs_text), false),
  coalesce(bool_or(writes or runs_text), false)
)::text
from marks
