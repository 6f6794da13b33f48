//! Whoever holds a project's role writes any SQL. Each attempt is refused with the SQLSTATE beside it, or has no effect.

use super::*;

/// `{me}`, `{victim}`, `{platform}`, `{template}` and `{pid}` (a session of the victim) are filled in.
const REFUSED: &[(&str, &str)] = &[
    // A stronger role.
    ("set role supabase_admin", "42501"),
    ("set role {victim}", "42501"),
    ("set role {victim}_authenticator", "42501"),
    ("set role {me}_authenticator", "42501"),
    ("set role supabase_auth_admin", "42501"),
    ("set session authorization supabase_admin", "42501"),
    ("set session authorization {victim}", "42501"),
    ("create role another login", "42501"),
    ("create user another superuser", "42501"),
    ("alter role postgres superuser", "42501"),
    ("alter role {me} createdb", "42501"),
    ("alter role {me} createrole", "42501"),
    ("alter role {me} replication", "42501"),
    ("alter role {me} bypassrls", "42501"),
    ("alter role {me} connection limit 1000", "42501"),
    ("alter role {victim} password 'mine now'", "42501"),
    ("alter role supabase_admin password 'mine now'", "42501"),
    ("alter role {victim} in database {victim} set work_mem = '1GB'", "42501"),
    ("alter role all set work_mem = '1GB'", "42501"),
    ("drop role {victim}", "42501"),
    ("grant supabase_admin to {me}", "42501"),
    ("grant {victim} to {me}", "42501"),
    ("grant pg_read_server_files to {me}", "42501"),
    ("grant pg_execute_server_program to postgres", "42501"),
    ("grant pg_monitor to {me}", "42501"),
    ("grant postgres to {me} with admin option", "42501"),
    ("grant {me} to {victim}", "42501"),
    ("grant {me} to anon with admin option", "42501"),
    ("drop owned by postgres", "42501"),
    ("drop owned by {me}", "42501"),
    ("do $$ begin execute 'drop owned by anon'; end $$", "42501"),
    // Other databases, and one's own limits.
    ("create database another", "42501"),
    ("drop database {victim}", "42501"),
    ("alter database {victim} set work_mem = '1GB'", "42501"),
    ("alter database {me} connection limit 1000", "42501"),
    ("alter database {me} rename to another", "42501"),
    ("alter database {me} owner to {me}", "42501"),
    ("alter database {me} set default_transaction_read_only = off", "42501"),
    ("comment on database {me} is 'mine'", "42501"),
    ("comment on role {me} is 'mine'", "42501"),
    ("select pg_database_size('{victim}')", "42501"),
    ("create tablespace t location '/tmp'", "42501"),
    // Files, programs, the network.
    ("copy (select 1) to program 'id'", "42501"),
    ("create table t (a text); copy t from program 'id'", "42501"),
    ("create table t (a text); copy t from '/etc/passwd'", "42501"),
    ("copy (select 1) to '/tmp/x'", "42501"),
    ("select pg_read_file('/etc/passwd')", "42501"),
    ("select pg_read_binary_file('postgresql.conf')", "42501"),
    ("select pg_ls_dir('.')", "42501"),
    ("select * from pg_ls_waldir()", "42501"),
    ("select * from pg_stat_file('postgresql.conf')", "42501"),
    ("select lo_import('/etc/passwd')", "42501"),
    ("select lo_export(1, '/tmp/x')", "42501"),
    ("select * from pg_hba_file_rules", "42501"),
    ("select * from pg_file_settings", "42501"),
    ("show data_directory", "42501"),
    ("load '/tmp/x.so'", "42501"),
    ("create function f() returns int language c as '/tmp/x.so', 'f'", "42501"),
    ("create function f() returns int language internal as 'pg_sleep'", "42501"),
    ("create extension dblink", "42501"),
    ("create extension postgres_fdw", "42501"),
    ("create extension file_fdw", "42501"),
    ("create extension pg_stat_statements", "42501"),
    ("create foreign data wrapper f", "42501"),
    ("create subscription s connection 'dbname={victim}' publication p", "42501"),
    ("select pg_create_logical_replication_slot('s', 'pgoutput')", "42501"),
    ("select pg_create_physical_replication_slot('s')", "42501"),
    ("create publication everything for all tables", "42501"),
    // The server.
    ("alter system set work_mem = '1GB'", "42501"),
    ("select pg_reload_conf()", "42501"),
    ("select pg_rotate_logfile()", "42501"),
    ("select pg_switch_wal()", "42501"),
    ("select pg_stat_reset()", "42501"),
    ("checkpoint", "42501"),
    ("set temp_file_limit = -1", "42501"),
    ("set log_statement = 'all'", "42501"),
    ("set log_min_messages = debug1", "42501"),
    ("reset log_min_messages", "42501"),
    ("alter role {me} set log_min_messages = debug1", "42501"),
    ("alter role {me} in database {me} set log_min_messages = debug1", "42501"),
    ("alter database {me} reset log_min_messages", "42501"),
    ("alter database {me} reset all", "42501"),
    ("set session_replication_role = replica", "42501"),
    ("set session_preload_libraries = 'x'", "42501"),
    ("select pg_terminate_backend({pid})", "42501"),
    ("select pg_cancel_backend({pid})", "42501"),
    ("select pg_log_backend_memory_contexts({pid})", "42501"),
    ("begin; lock table pg_catalog.pg_authid", "42501"),
    ("begin; lock table pg_catalog.pg_database in access exclusive mode", "42501"),
    ("select 1 from pg_catalog.pg_database for update", "42501"),
    ("reindex table pg_catalog.pg_class", "42501"),
    ("update pg_catalog.pg_database set datconnlimit = -1", "42501"),
    ("delete from pg_catalog.pg_class", "42501"),
    // What others keep.
    ("select * from pg_authid", "42501"),
    ("select * from pg_shadow", "42501"),
    ("select * from pg_db_role_setting", "42501"),
    ("select * from pg_user_mapping", "42501"),
    // What keeps the schema version and these limits.
    ("create event trigger e on ddl_command_start execute function public.f()", "42501"),
    ("drop event trigger launchdb_ddl_command_end", "42501"),
    ("alter event trigger launchdb_refuse_drop_owned disable", "42501"),
    ("drop schema _launchdb cascade", "42501"),
    ("create table _launchdb.t (a int)", "42501"),
    (
        "create or replace function _launchdb.schema_version() returns bigint language sql as 'select 1::bigint'",
        "42501",
    ),
    ("drop function _launchdb.refuse_drop_owned()", "42501"),
    ("insert into _launchdb.schema_versions (n) values (1)", "42501"),
    ("delete from _launchdb.schema_versions", "42501"),
    ("truncate _launchdb.schema_versions", "42501"),
    ("alter table _launchdb.schema_versions owner to postgres", "42501"),
    ("create trigger t before insert on _launchdb.schema_versions execute function storage.protect_delete()", "42501"),
    ("select _launchdb.move_schema_version('{}', true)", "42501"),
    ("update _launchdb.baseline_migrations set checksum = ''", "42501"),
];

/// Through a function that a request calls, an owner's code runs in a session of the services.
const REFUSED_TO_SERVICES: &[(&str, &str)] = &[
    ("set role supabase_admin", "42501"),
    ("set role postgres", "42501"),
    ("set role {me}", "42501"),
    ("set role {victim}_authenticator", "42501"),
    ("reset role; create role another", "42501"),
    ("reset role; set log_min_messages = debug1", "42501"),
    ("reset role; alter role {me}_authenticator set log_min_messages = debug1", "42501"),
    ("reset role; create table public.t (a int)", "42501"),
    ("set role supabase_auth_admin; drop owned by supabase_auth_admin", "42501"),
    ("set role supabase_auth_admin; create role another", "42501"),
    ("set role service_role; alter role anon superuser", "42501"),
    ("set role service_role; alter database {me} connection limit 1000", "42501"),
    ("set role service_role; copy (select 1) to program 'id'", "42501"),
    ("set role anon; create schema s", "42501"),
    ("set role anon; create extension hstore", "42501"),
    ("set role supabase_storage_admin; select * from pg_authid", "42501"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused() {
    let world = World::start().await;
    let (me, victim) = (world.project().await, world.project().await);
    let victims = world.owner_session(&victim).await;
    let pid: i32 = victims.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let fill = |sql: &str| {
        sql.replace("{me}", me.as_str()).replace("{victim}", victim.as_str()).replace("{pid}", &pid.to_string())
    };
    let mut wrong = Vec::new();
    for (sql, expected) in REFUSED {
        // As the owner role, and as the login role itself.
        for prefix in ["", "set role none; "] {
            let session = world.owner_session(&me).await;
            session.batch_execute(prefix).await.unwrap();
            let actual = code(&session.batch_execute(&fill(sql)).await);
            if actual != *expected {
                wrong.push(format!("{prefix}{sql}: {actual}"));
            }
        }
    }
    for (sql, expected) in REFUSED_TO_SERVICES {
        let session = world.authenticator_session(&me).await;
        let mut result = Ok(());
        for statement in fill(sql).split("; ") {
            result = result.and(session.batch_execute(statement).await);
        }
        let actual = code(&result);
        if actual != *expected {
            wrong.push(format!("services: {sql}: {actual}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    world.assert_usable(&victim).await;
    assert!(!victims.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_database_lets_them_in() {
    let world = World::start().await;
    let (me, victim) = (world.project().await, world.project().await);
    // Neither is refused, because the owner role has a privilege there; neither does anything.
    let grants = format!(
        "grant connect on database {victim} to {me}; revoke create on database {victim} from postgres, {victim}"
    );
    world.owner_session(&me).await.batch_execute(&grants).await.unwrap();
    world.owner_session(&victim).await.batch_execute("create schema still_mine").await.unwrap();
    let template = world.provisioner.cluster().await.unwrap().template.clone();
    for (database, expected) in [
        (victim.as_str(), "42501"),
        ("postgres", "42501"),
        ("template1", "42501"),
        (world.config.database.database.as_str(), "42501"),
        (template.as_str(), "55000"),
    ] {
        for (role, kind) in
            [(me.owner_role().to_owned(), kind::DB_PASSWORD), (me.authenticator_role(), kind::AUTHENTICATOR_PASSWORD)]
        {
            let url = world.cluster.url_as(&role, &world.secret(&me, kind).await, database);
            let result = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map(drop);
            assert_eq!(code(&result), expected, "{role} to {database}");
        }
    }
    // The shared roles log in nowhere.
    for role in ["postgres", "anon", "service_role", "supabase_auth_admin", "authenticator"] {
        let url = world.cluster.url_as(role, "x", me.database());
        let result = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map(drop);
        assert_eq!(code(&result), "28P01", "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_statements_of_others_are_hidden() {
    let world = World::start().await;
    let (me, victim) = (world.project().await, world.project().await);
    let (mine, theirs) = (world.owner_session(&me).await, world.owner_session(&victim).await);
    for (session, id) in [(&mine, &me), (&theirs, &victim)] {
        session.batch_execute(&format!("set role none; alter role {id} set application_name = 'hush'")).await.unwrap();
    }
    for (view, name, column) in [("pg_roles", "rolname", "rolconfig"), ("pg_user", "usename", "useconfig")] {
        let sql = format!("select {name}::text from {view} where {column} is not null");
        let seen: Vec<String> = mine.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(seen, [me.to_string()], "{view}");
        mine.batch_execute(&format!("select * from {view}")).await.unwrap();
    }
    theirs.batch_execute("select 'hush'").await.unwrap();
    const SEEN: &str = "select query from pg_stat_activity where datname = $1";
    let rows = mine.query(SEEN, &[&victim.as_str()]).await.unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row.get::<_, String>(0), "<insufficient privilege>");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shared_roles_may_do_to_themselves_is_taken_back() {
    let world = World::start().await;
    let (me, victim) = (world.project().await, world.project().await);
    let mine = world.owner_session(&me).await;
    let statements = [
        format!("set role anon; alter role anon in database {victim} set statement_timeout = 1"),
        "set role service_role; alter role service_role set role = 'anon'".to_owned(),
        format!("set role postgres; alter role postgres in database {victim} set work_mem = '1GB'"),
        "set role postgres; alter role postgres password 'mine now'".to_owned(),
    ];
    for statement in &statements {
        for part in statement.split("; ") {
            mine.batch_execute(part).await.unwrap_or_else(|error| panic!("{part}: {error:?}"));
        }
    }
    // Even before: the owner role cannot log in with any password.
    let url = world.cluster.url_as("postgres", "mine now", me.database());
    let result = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map(drop);
    assert_eq!(code(&result), "28000");
    world.assert_usable(&victim).await;

    world.provisioner.sweep_roles().await.unwrap();
    const LEFT: &str = "select
        (select count(*) from pg_db_role_setting s join pg_roles r on r.oid = s.setrole
            where r.rolname in ('anon', 'service_role', 'postgres'))
        + (select count(*) from pg_authid where rolname = 'postgres' and rolpassword is not null)";
    let left: i64 = world.admin.query_one(LEFT, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_temporary_files_have_a_limit() {
    let world = World::start().await;
    let (me, victim) = (world.project().await, world.project().await);
    let url = world.owner_url(&me, me.database()).await;
    let mut held = Vec::new();
    let refused = loop {
        match tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                held.push(client);
                assert!(held.len() < 100, "no limit");
            }
            Err(error) => break code::<()>(&Err(error)),
        }
    };
    assert_eq!(refused, "53300");
    assert_eq!(i32::try_from(held.len()).unwrap(), ConnectionLimits::default().owner);
    world.assert_usable(&victim).await;
    // The services of the same project still get in.
    world.authenticator_session(&me).await;
    let limit: String = held[0].query_one("show temp_file_limit", &[]).await.unwrap().get(0);
    assert_ne!(limit, "-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_they_say_is_in_the_servers_log() {
    let world = World::start().await;
    let (made, earlier) = (world.project().await, world.project().await);
    // As a project of a version that knew nothing of this.
    world.admin.batch_execute(&format!("alter database {earlier} reset log_min_messages")).await.unwrap();
    world.provisioner.reconcile().await.unwrap();
    for id in [&made, &earlier] {
        let word = random::hex::<8>();
        let raise = |level: &str| format!("do $$ begin raise {level} '{word}'; end $$");
        let statements = [
            raise("warning"),
            raise("log"),
            raise("exception"),
            format!("select '{word}'::int"),
            format!("set debug_print_plan = on; select '{word}'"),
            format!("alter role {id} reset all; alter role {id} reset log_min_messages"),
            raise("log"),
        ];
        for session in [world.owner_session(id).await, world.authenticator_session(id).await] {
            session.batch_execute("set role none").await.unwrap();
            for sql in &statements {
                let _ = session.batch_execute(sql).await;
            }
        }
        world.owner_session(id).await.batch_execute(&raise("log")).await.unwrap();
        // Autovacuum has no role of theirs, but runs what they wrote; as does any ANALYZE.
        let owner = world.owner_session(id).await;
        let function = format!(
            "create function said (i int) returns int language plpgsql immutable as $$
                begin raise log '{word} %', i; return i; end $$"
        );
        owner.batch_execute(&function).await.unwrap();
        owner
            .batch_execute("create table t (i int); create index on t (said(i)); insert into t values (1)")
            .await
            .unwrap();
        let superuser = world.cluster.connect(id.database()).await;
        superuser.batch_execute("analyze t").await.unwrap();
        assert!(!world.cluster.log().contains(&word), "{id}");
        // The log is the right one.
        world.admin.batch_execute(&raise("log")).await.unwrap();
        assert!(world.cluster.log().contains(&word));
    }
}
