//! What a crash leaves at every point is finished or undone, and nothing of others is touched.

use super::store::project::{self, step};
use super::*;

/// How far a creation came.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Reserved,
    Roles,
    /// Roles exist, but the line that says so was not written.
    RolesUnrecorded,
    Database,
}

async fn make_until(world: &World, id: &ProjectRef, stop: Stop, spare: bool) {
    let name = format!("project {}", random::hex::<4>());
    let owner = (!spare).then_some((&world.owner, name.as_str()));
    let cluster = world.provisioner.cluster().await.unwrap();
    world.provisioner.reserve(id, owner).await.unwrap();
    if matches!(stop, Stop::Reserved) {
        return;
    }
    let mut admin = world.provisioner.admin().await.unwrap();
    world.provisioner.make_roles(&mut admin.client, cluster, id).await.unwrap();
    match stop {
        Stop::Reserved | Stop::Roles => {}
        Stop::RolesUnrecorded => {
            world
                .admin
                .execute("delete from platform.provision_steps where project_id = $1", &[&id.as_str()])
                .await
                .unwrap();
        }
        Stop::Database => {
            let template = &cluster.template;
            store::database::database_create(&admin.client, id, template, 50).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_is_finished_from_wherever_it_stopped() {
    let world = World::start().await;
    for stop in [Stop::Reserved, Stop::Roles, Stop::RolesUnrecorded, Stop::Database] {
        for spare in [false, true] {
            let id = ProjectRef::generate();
            make_until(&world, &id, stop, spare).await;
            let report = world.provisioner.reconcile().await.unwrap();
            assert_eq!(report, ReconcileReport { finished: vec![id.clone()], ..Default::default() }, "{stop:?}");
            world.assert_usable(&id).await;
        }
    }
    assert_eq!(world.provisioner.reconcile().await.unwrap(), ReconcileReport::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_creation_is_undone_from_wherever_it_stopped() {
    let world = World::start().await;
    for stop in [Stop::Reserved, Stop::Roles, Stop::RolesUnrecorded, Stop::Database] {
        let id = ProjectRef::generate();
        make_until(&world, &id, stop, false).await;
        project::project_fail_in_tx(&world.admin, &id, "no").await.unwrap();
        project::step_insert(&world.admin, &id, step::ABANDONED).await.unwrap();
        let report = world.provisioner.reconcile().await.unwrap();
        assert_eq!(report.purged, std::slice::from_ref(&id), "{stop:?}");
        world.assert_gone(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_goes_on_from_wherever_it_stopped() {
    let world = World::start_with(|config| config.retention = std::time::Duration::ZERO).await;
    let stopped_after = [
        "select 1",
        "drop database {id} with (force)",
        "drop database {id} with (force); drop role {id}",
        "drop database {id} with (force); drop role {id}; drop role {id}_authenticator",
        "drop database {id} with (force); drop role {id}; delete from platform.secrets where project_id = '{id}'",
    ];
    for statements in stopped_after {
        let id = world.project().await;
        world.provisioner.delete(&id).await.unwrap();
        for statement in statements.split("; ") {
            world.admin.batch_execute(&statement.replace("{id}", id.as_str())).await.unwrap();
        }
        assert_eq!(world.provisioner.reconcile().await.unwrap().purged, std::slice::from_ref(&id), "{statements}");
        world.assert_gone(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_ours_go_and_everything_else_stays() {
    let world = World::start().await;
    let other_installation = World::start().await;
    let forget = async |id: &ProjectRef| {
        world.admin.execute("delete from platform.projects where id = $1", &[&id.as_str()]).await.unwrap();
    };

    // A spare that was never handed out, with its roles and secrets.
    let spare = ProjectRef::generate();
    world.provisioner.make(&spare, None).await.unwrap();
    forget(&spare).await;
    // Roles whose database is gone.
    let roles = ProjectRef::generate();
    make_until(&world, &roles, Stop::Roles, true).await;
    forget(&roles).await;
    // A project with data, whose row is not in a backup of the platform database that was restored.
    let lost = world.project().await;
    forget(&lost).await;
    // Somebody else's, named like ours; and another installation's project.
    let foreign = ProjectRef::generate();
    world.admin.batch_execute(&format!("create database {foreign}")).await.unwrap();
    world.admin.batch_execute(&format!("create role {foreign}_authenticator")).await.unwrap();
    let neighbour = other_installation.project().await;

    let report = world.provisioner.reconcile().await.unwrap();
    world.assert_gone(&spare).await;
    world.assert_gone(&roles).await;
    assert_eq!(report.orphans.len(), 5, "{report:?}");
    assert_eq!(report.lost_databases, [lost.to_string()]);
    assert_eq!(world.traces(&lost).await, (None, 1, 2, 0));
    assert_eq!(world.traces(&foreign).await, (None, 1, 1, 0));
    other_installation.assert_usable(&neighbour).await;
    let clean_up = [format!("drop database {foreign}"), format!("drop role {foreign}_authenticator")];
    for statement in clean_up {
        world.admin.batch_execute(&statement).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_grew_powerful_stops_everything() {
    let world = World::start().await;
    let powerful = format!("powerful_{}", random::hex::<4>());
    world.admin.batch_execute(&format!("create role {powerful} createrole")).await.unwrap();
    let member = format!("member_{}", random::hex::<4>());
    world.admin.batch_execute(&format!("create role {member} in role {powerful}, pg_signal_backend")).await.unwrap();
    let faults =
        store::cluster::role_faults(&world.admin, &[&member, &powerful, "anon", "no_such_role"]).await.unwrap();
    let faults: Vec<String> = faults.into_iter().map(|(role, fault)| format!("{role} {fault}")).collect();
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults.contains(&format!("{powerful} has CREATEROLE")), "{faults:?}");
    assert!(faults.contains(&format!("{member} is a member of {powerful}, which has CREATEROLE")), "{faults:?}");
    assert!(faults.contains(&format!("{member} is a member of pg_signal_backend")), "{faults:?}");
    world.admin.batch_execute(&format!("drop role {member}; drop role {powerful}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_policies_would_stop() {
    let world = World::start().await;
    // Never committed: the role is everybody's.
    world.admin.batch_execute("begin; alter role supabase_auth_admin nobypassrls").await.unwrap();
    let faults = store::cluster::role_faults(&world.admin, &["supabase_auth_admin", "anon"]).await.unwrap();
    assert_eq!(faults, [("supabase_auth_admin".to_owned(), "lacks BYPASSRLS".to_owned())]);
    world.admin.batch_execute("rollback").await.unwrap();
}
