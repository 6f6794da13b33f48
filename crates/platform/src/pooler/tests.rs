//! Whom the pooler knows.

use super::store::{pooled_logins, service_logins};
use crate::provision::tests::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_would_break_the_poolers_file_is_not_in_it() {
    let world = World::start().await;
    let (me, other) = (world.project().await, world.project().await);
    let known = async || -> Vec<String> {
        let logins = pooled_logins(&world.admin).await.unwrap();
        logins
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| [me.as_str(), other.as_str()].contains(&&**name))
            .collect()
    };
    let both = async || known().await.len() == 2;
    assert!(both().await);
    let services = service_logins(&world.admin).await.unwrap();
    for project in [&me, &other] {
        let login = services.iter().find(|login| login.database == project.as_str()).unwrap();
        assert_eq!(login.role, project.authenticator_role());
    }
    let keys = "concat('$', repeat('A', 43), '=:', repeat('A', 43), '=')";
    let long = format!("concat('SCRAM-SHA-256$4096:', repeat('AAAA', 600), {keys})");
    let broken_line = format!("concat('SCRAM-SHA-256$', chr(10), '4096:', repeat('A', 24), {keys})");
    // PostgreSQL 15 computes what it is given where it looks whether a password is empty: more of it would take minutes.
    let costly = format!("concat('SCRAM-SHA-256$8192:', repeat('A', 24), {keys})");
    for (attack, expected) in
        [(long, false), (broken_line, false), (costly, false), ("'my own password'".to_owned(), true)]
    {
        let session = world.owner_session(&me).await;
        let alter = format!(
            "set role none; do $$ begin execute format('alter role %I password %L', session_user, {attack}); end $$"
        );
        session.batch_execute(&alter).await.unwrap_or_else(|error| panic!("{alter}: {error:?}"));
        let verifier = "select rolpassword from pg_authid where rolname = $1";
        let verifier: String = world.admin.query_one(verifier, &[&me.as_str()]).await.unwrap().get(0);
        assert!(verifier.starts_with("SCRAM-SHA-256$"), "{attack}");
        assert_eq!(both().await, expected, "{attack}: {verifier}");
        assert!(known().await.contains(&other.to_string()));
        assert_eq!(world.provisioner.check_logins().await.unwrap(), [me.to_string()]);
        assert!(both().await);
    }
}
