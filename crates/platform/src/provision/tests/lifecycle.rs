//! Making, closing, opening and removing projects.

use base::ProjectStatus;
use futures_util::future::join_all;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_becomes_a_project_in_one_statement() {
    let world = World::start_with(|config| config.spare_count = 2).await;
    while world.provisioner.add_spare().await.unwrap() {}
    let spares: Vec<String> = world
        .admin
        .query("select id from platform.projects where is_spare", &[])
        .await
        .unwrap()
        .iter()
        .map(|r| r.get(0))
        .collect();
    assert_eq!(spares.len(), 2);
    let started = std::time::Instant::now();
    let made = [world.project().await, world.project().await];
    println!("two projects from spares: {:?}", started.elapsed());
    for id in &made {
        assert!(spares.contains(&id.to_string()), "{id} is no spare");
        world.assert_usable(id).await;
    }
    // The next one is built at once.
    let id = world.project().await;
    assert!(!spares.contains(&id.to_string()));
    world.assert_usable(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_all_succeed() {
    let world = World::start_with(|config| config.spare_count = 3).await;
    while world.provisioner.add_spare().await.unwrap() {}
    let names: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
    let made = join_all(names.iter().map(|name| world.create(name))).await;
    let mut ids: Vec<ProjectRef> = made.into_iter().map(Result::unwrap).collect();
    for id in &ids {
        world.assert_usable(id).await;
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert!(matches!(world.create("p3").await, Err(ProvisionError::NameTaken)));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_while_the_server_is_prepared_are_served() {
    let world = World::start().await;
    // A process that has just started: nothing is prepared yet, and requests do not wait for it to be.
    for round in 0..5 {
        let fresh = provisioner(&world.config, &world.pool, FILES);
        let names = [format!("a{round}"), format!("b{round}")];
        let create = |name: &String| {
            let new = NewProject { owner_id: world.owner.clone(), name: name.clone(), id: None };
            let fresh = fresh.clone();
            async move { fresh.create(new).await.unwrap() }
        };
        let all = async { tokio::join!(fresh.prepare(), join_all(names.iter().map(create))) };
        let (prepared, made) =
            tokio::time::timeout(std::time::Duration::from_secs(30), all).await.expect("no deadlock");
        prepared.unwrap();
        assert_eq!(made.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_names_an_id_that_is_free() {
    let world = World::start().await;
    let id = ProjectRef::parse(&format!("proj_named{}", random::hex::<4>())).unwrap();
    let new = |name: &str, id: &ProjectRef| NewProject {
        owner_id: world.owner.clone(),
        name: name.to_owned(),
        id: Some(id.clone()),
    };
    assert_eq!(world.provisioner.create(new("a", &id)).await.unwrap(), id);
    world.assert_usable(&id).await;
    assert!(matches!(world.provisioner.create(new("b", &id)).await, Err(ProvisionError::IdTaken)));

    // A database or a role of somebody else is neither used nor touched.
    let foreign = ProjectRef::generate();
    world.admin.batch_execute(&format!("create database {foreign}")).await.unwrap();
    assert!(matches!(world.provisioner.create(new("c", &foreign)).await, Err(ProvisionError::IdTaken)));
    assert_eq!(world.traces(&foreign).await, (None, 1, 0, 0));
    world.admin.batch_execute(&format!("drop database {foreign}")).await.unwrap();
    let foreign = ProjectRef::generate();
    world.admin.batch_execute(&format!("create role {foreign}")).await.unwrap();
    assert!(matches!(world.provisioner.create(new("c", &foreign)).await, Err(ProvisionError::IdTaken)));
    assert_eq!(world.traces(&foreign).await, (None, 0, 1, 0));
    world.admin.batch_execute(&format!("drop role {foreign}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_project_lets_nobody_in_until_it_is_open_again() {
    let world = World::start().await;
    let (id, provisioner) = (world.project().await, &world.provisioner);
    let session = world.owner_session(&id).await;
    session.batch_execute("create table kept (a int); insert into kept values (1)").await.unwrap();
    let refused = async || {
        let url = world.owner_url(&id, id.database()).await;
        let result = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map(drop);
        assert_eq!(code(&result), "42501");
    };

    provisioner.suspend(&id).await.unwrap();
    test_support::eventually("the session's end", async || session.is_closed().then_some(())).await;
    refused().await;
    let wrong = provisioner.suspend(&id).await;
    assert!(matches!(wrong, Err(ProvisionError::WrongStatus { status: ProjectStatus::Suspended })), "{wrong:?}");
    provisioner.resume(&id).await.unwrap();
    world.assert_usable(&id).await;

    let name: String = world
        .admin
        .query_one("select name from platform.projects where id = $1", &[&id.as_str()])
        .await
        .unwrap()
        .get(0);
    provisioner.delete(&id).await.unwrap();
    refused().await;
    let other = world.create(&name).await.unwrap();
    assert!(matches!(provisioner.restore(&id).await, Err(ProvisionError::NameTaken)));
    provisioner.delete(&other).await.unwrap();
    provisioner.restore(&id).await.unwrap();
    world.owner_session(&id).await.batch_execute("select a from kept").await.unwrap();

    assert!(matches!(provisioner.purge(&id).await, Err(ProvisionError::WrongStatus { .. })));
    provisioner.delete(&id).await.unwrap();
    assert_eq!(provisioner.reconcile().await.unwrap().purged, []);
    world.config.clock.advance(world.config.retention.as_secs().try_into().unwrap());
    let mut purged = provisioner.reconcile().await.unwrap().purged;
    purged.sort();
    let mut expected = vec![id.clone(), other.clone()];
    expected.sort();
    assert_eq!(purged, expected);
    world.assert_gone(&id).await;
    world.assert_gone(&other).await;
    assert!(matches!(provisioner.suspend(&id).await, Err(ProvisionError::NotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_change_and_never_reach_the_server_in_plain_text() {
    let world = World::start().await;
    let id = world.project().await;
    let old = world.owner_url(&id, id.database()).await;
    world.provisioner.rotate_database_passwords(&id).await.unwrap();
    let result = tokio_postgres::connect(&old, tokio_postgres::NoTls).await.map(drop);
    assert_eq!(code(&result), "28P01");
    world.assert_usable(&id).await;
    const VERIFIERS: &str =
        "select rolpassword from pg_authid where rolname in ($1::text, $1::text || '_authenticator')";
    for row in world.admin.query(VERIFIERS, &[&id.as_str()]).await.unwrap() {
        assert!(row.get::<_, String>(0).starts_with("SCRAM-SHA-256$"));
    }
}

/// What a function can do that the data API calls; nobody else would ever mend it.
#[tokio::test(flavor = "multi_thread")]
async fn login_roles_that_were_changed_from_sql_are_put_back() {
    let world = World::start().await;
    let (id, other) = (world.project().await, world.project().await);
    assert_eq!(world.provisioner.check_logins().await.unwrap(), [""; 0]);
    let password = world.secret(&id, kind::AUTHENTICATOR_PASSWORD).await;
    let url = world.cluster.url_as(&id.authenticator_role(), &password, id.database());
    for attack in [
        format!("alter role {id}_authenticator password 'x'"),
        format!("alter role {id}_authenticator password null"),
        format!("alter role {id}_authenticator set default_transaction_read_only = on"),
        format!("alter role {id}_authenticator in database {id} set search_path = nowhere"),
    ] {
        let session = world.authenticator_session(&id).await;
        session.batch_execute(&attack).await.unwrap();
        let mended = world.provisioner.check_logins().await.unwrap();
        assert_eq!(mended.len(), usize::from(attack.contains("password")), "{attack}: {mended:?}");
        let client = test_support::connect(&url).await;
        let settings = "select current_setting('default_transaction_read_only') || current_setting('search_path')";
        let settings: String = client.query_one(settings, &[]).await.unwrap().get(0);
        assert_eq!(settings, "off\"$user\", public, extensions", "{attack}");
    }
    assert_eq!(world.provisioner.check_logins().await.unwrap(), [""; 0]);
    world.provisioner.rotate_database_passwords(&id).await.unwrap();
    assert_eq!(world.provisioner.check_logins().await.unwrap(), [""; 0]);
    world.assert_usable(&id).await;
    world.assert_usable(&other).await;
}

const ADDED: BaselineFile = BaselineFile {
    version: 1000,
    name: "1000_added",
    sql: "-- run as: superuser\ncreate function _launchdb.added() returns int language sql as 'select 7';",
};
const ALTERED: BaselineFile = BaselineFile {
    version: 1001,
    name: "1001_altered",
    // Rewrites the table, which evaluates every check constraint.
    sql: "-- run as: owner\nalter table auth.users add column if not exists added uuid default gen_random_uuid();",
};

#[tokio::test(flavor = "multi_thread")]
async fn a_grown_baseline_reaches_every_project_without_running_its_code_as_superuser() {
    let mut world = World::start_with(|config| config.spare_count = 1).await;
    let id = world.project().await;
    let suspended = world.project().await;
    world.provisioner.suspend(&suspended).await.unwrap();
    while world.provisioner.add_spare().await.unwrap() {}
    let owner = world.owner_session(&id).await;
    // What an owner would try who waits for an upgrade.
    let trap = "create function public.trap() returns boolean language plpgsql as $$
        begin
            if (select rolsuper from pg_roles where rolname = session_user) then
                raise exception 'the superuser ran this';
            end if;
            return true;
        end $$;
        insert into auth.users (id) values (gen_random_uuid());
        alter table auth.users add check (public.trap());
        alter role current_user set search_path = public;
        create function public.pg_current_xact_id() returns boolean language sql as 'select public.trap()'";
    owner.batch_execute(trap).await.unwrap();
    let old_template: String = template(&world).await;

    let files: &'static [BaselineFile] = Box::leak([FILES, &[ADDED, ALTERED]].concat().into_boxed_slice());
    world.provisioner = provisioner(&world.config, &world.pool, files);
    world.provisioner.prepare().await.unwrap();
    assert_ne!(template(&world).await, old_template);
    let report = world.provisioner.reconcile().await.unwrap();
    assert_eq!(report.upgraded.len(), 2, "{report:?}");
    world.provisioner.resume(&suspended).await.unwrap();
    for id in [&id, &suspended, &world.project().await, &world.project().await] {
        let session = world.owner_session(id).await;
        session.batch_execute("select _launchdb.added(), added from auth.users").await.unwrap();
        // The ledger is the superuser's alone.
        let ledger = "select count(*) from _launchdb.baseline_migrations";
        assert_eq!(code(&session.query_one(ledger, &[]).await), "42501");
        let count: i64 = world.cluster.connect(id.database()).await.query_one(ledger, &[]).await.unwrap().get(0);
        assert_eq!(usize::try_from(count).unwrap(), files.len());
    }
    assert_eq!(world.provisioner.reconcile().await.unwrap(), ReconcileReport::default());
}

async fn template(world: &World) -> String {
    let prefix = world.provisioner.cluster().await.unwrap().marker_prefix();
    let marked = store::database::databases_marked(&world.admin, &prefix).await.unwrap();
    let mut names: Vec<String> = marked.into_iter().map(|d| d.name).filter(|name| !name.starts_with("proj_")).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    names.remove(0)
}
