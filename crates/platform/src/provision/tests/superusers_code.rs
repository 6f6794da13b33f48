//! What runs with the superuser's rights in a project's database never runs what the project's owner wrote.

use super::*;
use crate::provision::store::extension;

/// An owner's type, and a cast of it that tells who ran it and takes what that one has.
const TRAP: &str = "
    create type public.evil as (t text);
    create table public.ran (as_role text);
    create function public.spring(public.evil) returns text language plpgsql as $$
    begin
        insert into public.ran values (current_user);
        if (select rolsuper from pg_roles where rolname = current_user) then
            execute format('alter role %I superuser', session_user);
        end if;
        return ($1).t;
    end $$;
    create cast (public.evil as text) with function public.spring(public.evil) as assignment;
    grant all on public.ran to public";

/// The ways to a deleted row with a column of that type.
const COLUMNS: [&str; 2] = [
    "alter table storage.objects drop constraint \"objects_bucketId_fkey\";
     alter table storage.objects alter column bucket_id type public.evil using row(bucket_id)::public.evil;
     insert into storage.objects (bucket_id, name, version) values (row('b'), 'n', 'v1')",
    "alter table storage.objects drop column path_tokens;
     drop index storage.bucketid_objname, storage.idx_objects_bucket_id_name, storage.idx_objects_bucket_id_name_lower,
         storage.name_prefix_search;
     alter table storage.objects alter column name type public.evil using row(name)::public.evil;
     insert into storage.objects (name, version) values (row('n'), 'v1')",
];

const DELETE: &str = "set storage.allow_delete_query = 'true'; delete from storage.objects";

/// Whether the owner is a superuser now, and what ran the trap; how many removals were noted.
async fn outcome(world: &World, id: &ProjectRef) -> (bool, Vec<String>, i64) {
    let database = world.cluster.connect(id.database()).await;
    let is_super = "select rolsuper from pg_roles where rolname = $1";
    let is_super: bool = database.query_one(is_super, &[&id.as_str()]).await.unwrap().get(0);
    let ran = database.query("select as_role from public.ran", &[]).await.unwrap();
    let noted = "select count(*) from _launchdb.storage_removals where version = 'v1'";
    let noted = database.query_one(noted, &[]).await.unwrap().get(0);
    (is_super, ran.iter().map(|row| row.get(0)).collect(), noted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_objects_columns_run_no_cast_of_the_owner() {
    let world = World::start().await;
    for columns in COLUMNS {
        let id = world.project().await;
        let owner = world.owner_session(&id).await;
        for sql in [TRAP, columns, DELETE] {
            owner.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        assert_eq!(outcome(&world, &id).await, (false, Vec::new(), 1), "{columns}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_an_older_baseline_lose_the_danger_before_anybody_uses_it() {
    let mut world = World::start().await;
    let mut older = Vec::new();
    for version in [8, 9] {
        world.provisioner = provisioner(&world.config, &world.pool, &FILES[..version]);
        world.provisioner.prepare().await.unwrap();
        for closed in [false, true] {
            let id = world.project().await;
            let owner = world.owner_session(&id).await;
            for sql in [TRAP, COLUMNS[0]] {
                owner.batch_execute(sql).await.unwrap();
            }
            // What the mend is for.
            if version == 9 {
                owner.batch_execute(&format!("begin; {DELETE}")).await.unwrap();
                let ran = owner.query_one("select as_role from public.ran", &[]).await.unwrap();
                assert_eq!(ran.get::<_, String>(0), world.cluster.superuser());
                owner.batch_execute("rollback").await.unwrap();
            }
            if closed {
                world.provisioner.suspend(&id).await.unwrap();
            }
            older.push((id, version, closed));
        }
    }
    world.provisioner = provisioner(&world.config, &world.pool, FILES);
    world.provisioner.prepare().await.unwrap();
    world.provisioner.reconcile().await.unwrap();
    for (id, had, closed) in older {
        if closed {
            world.provisioner.resume(&id).await.unwrap();
        }
        world.owner_session(&id).await.batch_execute(DELETE).await.unwrap();
        assert_eq!(outcome(&world, &id).await, (false, Vec::new(), 1), "{id}");
        if had == 8 {
            let database = world.cluster.connect(id.database()).await;
            const APART: &str =
                "select count(distinct xmin::text) from _launchdb.baseline_migrations where version in (9, 10)";
            let transactions: i64 = database.query_one(APART, &[]).await.unwrap().get(0);
            assert_eq!(transactions, 1, "the file and its mend came together");
        }
    }
}

/// A closed database gets the mend and nothing else before its owner can connect.
#[tokio::test(flavor = "multi_thread")]
async fn a_mend_alone_is_applied_to_a_closed_database() {
    let mut world = World::start().await;
    world.provisioner = provisioner(&world.config, &world.pool, &FILES[..9]);
    world.provisioner.prepare().await.unwrap();
    let id = world.project().await;
    let later = BaselineFile { version: 11, name: "0011_later", sql: "-- run as: superuser\nselect 1" };
    let files: &'static [BaselineFile] = Box::leak([&FILES[..10], &[later]].concat().into_boxed_slice());
    world.provisioner = provisioner(&world.config, &world.pool, files);
    let ledger = async || -> i32 {
        let database = world.cluster.connect(id.database()).await;
        database.query_one("select max(version) from _launchdb.baseline_migrations", &[]).await.unwrap().get(0)
    };
    assert_eq!(ledger().await, 9);
    for _ in 0..2 {
        world.provisioner.mend_locked(&world.admin, &id).await.unwrap();
        assert_eq!(ledger().await, 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_code_of_the_superuser_reaches_into_what_is_the_owners() {
    let world = World::start().await;
    let id = world.project().await;
    let database = world.cluster.connect(id.database()).await;
    let list = async |sql: &str| -> Vec<String> {
        database.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    // A trigger of an owner's table hands its function values of the owner's types.
    let triggers = "select trigger.tgrelid::regclass || ': ' || function.oid::regprocedure
        from pg_trigger as trigger
        join pg_class as relation on relation.oid = trigger.tgrelid
        join pg_roles as holder on holder.oid = relation.relowner and not holder.rolsuper
        join pg_proc as function on function.oid = trigger.tgfoid and function.prosecdef
        join pg_roles as author on author.oid = function.proowner and author.rolsuper";
    assert_eq!(list(triggers).await, [""; 0]);
    // Those there are take no value from the owner, and find names in the system's schema only.
    let definers = "select function.oid::regprocedure || ' ' || coalesce(array_to_string(function.proconfig, ';'), '')
        from pg_proc as function
        join pg_roles as author on author.oid = function.proowner and author.rolsuper
        where function.prosecdef order by 1";
    let pinned = "search_path=pg_catalog, pg_temp";
    let expected = [
        "_launchdb.compact_schema_versions()",
        "_launchdb.move_schema_version(oid[],boolean)",
        "_launchdb.on_ddl_command_end()",
        "_launchdb.on_sql_drop()",
        "_launchdb.on_storage_parameters()",
    ];
    assert_eq!(list(definers).await, expected.map(|name| format!("{name} {pinned}")));
    // Views, defaults, generated columns, checks, indexes and policies of the superuser's relations.
    let reaching = "with held as (
            select oid, oid as relation, 'pg_class'::regclass as class from pg_class
            union all select oid, ev_class, 'pg_rewrite'::regclass from pg_rewrite
            union all select oid, adrelid, 'pg_attrdef'::regclass from pg_attrdef
            union all select oid, conrelid, 'pg_constraint'::regclass from pg_constraint
            union all select oid, polrelid, 'pg_policy'::regclass from pg_policy
            union all select oid, tgrelid, 'pg_trigger'::regclass from pg_trigger
        ), owned as (
            select oid, proowner as owner, 'pg_proc'::regclass as class from pg_proc
            union all select oid, typowner, 'pg_type'::regclass from pg_type
            union all select oid, oprowner, 'pg_operator'::regclass from pg_operator
            union all select oid, collowner, 'pg_collation'::regclass from pg_collation
            union all select oid, relowner, 'pg_class'::regclass from pg_class
        )
        select relation.oid::regclass || ': ' || pg_describe_object(depends.refclassid, depends.refobjid, 0)
        from held
        join pg_class as relation on relation.oid = held.relation
        join pg_roles as holder on holder.oid = relation.relowner and holder.rolsuper
        join pg_depend as depends on depends.classid = held.class and depends.objid = held.oid
        join owned on owned.class = depends.refclassid and owned.oid = depends.refobjid
        join pg_roles as author on author.oid = owned.owner and not author.rolsuper";
    assert_eq!(list(reaching).await, [""; 0]);
}

/// A script of the superuser's finds names in the schemas of the extensions that it needs, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_needs_one_in_an_owners_schema_is_told() {
    let world = World::start().await;
    let id = world.project().await;
    let database = world.cluster.connect(id.database()).await;
    let open = async |name: &str| extension::requirements_in_open_schemas(&database, name).await.unwrap();
    assert_eq!(open("earthdistance").await, [""; 0]);
    world.owner_session(&id).await.batch_execute("create extension cube schema public").await.unwrap();
    assert_eq!(open("earthdistance").await, ["cube"]);
    assert_eq!(open("citext").await, [""; 0]);
}
