//! What was written for Supabase applies unchanged as the project's owner, who is no superuser.

use super::*;

const USER: &str = "8d2f9c1e-0000-4000-8000-000000000001";

async fn apply(session: &Client, sql: &str) {
    // psql sends one statement at a time; here some of them must see the ones before committed.
    if let Err(error) = session.batch_execute(sql).await {
        let position = error.as_db_error().map(|db| format!("{db:?}"));
        panic!("{error}: {position:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applications_own_migration() {
    let world = World::start().await;
    let id = world.project().await;
    let owner = world.owner_session(&id).await;
    apply(&owner, include_str!("application.sql")).await;
    let roles = owner
        .query_one("select current_user::text, (select rolsuper from pg_roles where rolname = session_user)", &[])
        .await
        .unwrap();
    assert_eq!((roles.get::<_, String>(0), roles.get::<_, bool>(1)), ("postgres".to_owned(), false));

    // The auth service signs somebody up: the application's trigger runs, which also sends a message.
    let services = world.authenticator_session(&id).await;
    let sign_up = format!(
        "set role supabase_auth_admin;
        insert into auth.users (id, email, raw_user_meta_data)
        values ('{USER}', 'ada@example.org', '{{\"full_name\": \"Ada\"}}');
        select public.custom_access_token_hook('{{}}')"
    );
    apply(&services, &sign_up).await;
    let name: String = owner.query_one("select full_name from profiles", &[]).await.unwrap().get(0);
    assert_eq!(name, "Ada");
    let topic: String = owner.query_one("select topic from realtime.messages", &[]).await.unwrap().get(0);
    assert_eq!(topic, format!("room:{USER}"));

    let claims = format!("set request.jwt.claims = '{{\"sub\": \"{USER}\", \"role\": \"authenticated\"}}'; ");
    let cases: &[(&str, &str, &str)] = &[
        ("authenticated", "update public.profiles set username = 'ada'", "00000"),
        ("authenticated", "insert into public.profiles (id) values (gen_random_uuid())", "42501"),
        (
            "authenticated",
            "insert into storage.objects (bucket_id, name) values ('avatars', auth.uid() || '/me.png')",
            "00000",
        ),
        (
            "authenticated",
            "insert into storage.objects (bucket_id, name) values ('avatars', auth.uid() || '/me.exe')",
            "42501",
        ),
        ("authenticated", "insert into storage.objects (bucket_id, name) values ('avatars', 'other/me.png')", "42501"),
        ("authenticated", "insert into storage.objects (bucket_id, name) values ('documents', 'x/me.png')", "42501"),
        ("anon", "select * from storage.objects", "00000"),
        ("anon", "select * from public.profiles", "00000"),
        ("anon", "select * from public.user_roles", "42501"),
        ("anon", "select * from auth.users", "42501"),
        ("authenticated", "select * from auth.users", "42501"),
        ("authenticated", "select * from auth.refresh_tokens", "42501"),
        ("service_role", "select * from auth.users", "42501"),
        ("service_role", "select * from public.user_roles", "00000"),
        ("anon", "insert into storage.buckets (id, name) values ('x', 'x')", "42501"),
        ("authenticated", "create table public.mine (a int)", "42501"),
        ("authenticated", "delete from storage.objects", "42501"),
        ("supabase_storage_admin", "set storage.allow_delete_query = 'true'; delete from storage.objects", "00000"),
        ("supabase_auth_admin", "select * from private.notes", "42501"),
    ];
    for (role, sql, expected) in cases {
        let services = world.authenticator_session(&id).await;
        let result = services.batch_execute(&format!("set role {role}; {claims} {sql}")).await;
        assert_eq!(code(&result), *expected, "{role}: {sql}");
    }
    // A new table is exposed to nobody.
    apply(&owner, "create table public.fresh (a int)").await;
    for role in ["anon", "authenticated", "service_role"] {
        let result = services.batch_execute(&format!("set role {role}; select * from public.fresh")).await;
        assert_eq!(code(&result), "42501", "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_dump() {
    let world = World::start().await;
    let id = world.project().await;
    let owner = world.owner_session(&id).await;
    apply(&owner, include_str!("dump.sql")).await;
    let insert = format!("insert into auth.users (id) values ('{USER}')");
    apply(&owner, &insert).await;
    let row =
        owner.query_one("select title, (select count(*) from public.open_tasks) from public.tasks", &[]).await.unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, i64>(1)), ("welcome".to_owned(), 1));
    const OWNERS: &str = "select distinct tableowner::text from pg_tables
        where schemaname in ('public', 'auth', 'storage', 'realtime')";
    let owners: Vec<String> = owner.query(OWNERS, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(owners, ["postgres"]);
    const PUBLISHED: &str = "select tablename::text from pg_publication_tables where pubname = 'supabase_realtime'";
    let published: String = owner.query_one(PUBLISHED, &[]).await.unwrap().get(0);
    assert_eq!(published, "tasks");
}
