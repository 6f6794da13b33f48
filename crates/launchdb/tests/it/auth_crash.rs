//! kill -9 during sign-ups: no user without an identity, and no mail lost.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use test_support::ScratchDir;

use crate::crash::{block_on, post, while_killing};
use crate::server::Server;

const SIGN_UPS: usize = 60;

#[test]
fn killed_servers_leave_whole_users_and_every_mail() {
    let home = ScratchDir::new();
    let mut server = Server::start(home.path(), &[]);
    let project = server.cli_json(&["project", "create", "users"]);
    let project = project["id"].as_str().expect("an id").to_owned();
    let settings = json!({ "auth": {
        "rate_limit_email_sent": 100_000, "rate_limit_otp": 100_000, "rate_limit_verify": 100_000,
        "rate_limit_token_refresh": 100_000,
    } });
    server.cli(&["project", "settings", &project, "--set", &settings.to_string()]);
    // As applications do: what the trigger makes belongs to the user's transaction.
    server.cli(&[
        "project",
        "sql",
        &project,
        "create table profiles (id uuid primary key references auth.users on delete cascade);
         create function on_user() returns trigger language plpgsql security definer set search_path = '' as
         $$ begin insert into public.profiles values (new.id); return new; end $$;
         create trigger on_user after insert on auth.users for each row execute function on_user()",
    ]);
    let connection = server.cli_json(&["project", "connection", &project]);
    let key = connection["anon_key"].as_str().expect("a key").to_owned();
    let next = AtomicU64::new(0);
    let acknowledged = Mutex::new(BTreeSet::new());
    while_killing(&mut server, &home, |(url, _)| {
        let email = format!("user{}@example.org", next.fetch_add(1, Ordering::Relaxed));
        let body = json!({ "email": email, "password": "correct horse battery" });
        match post(&format!("{url}/p/{project}/auth/v1/signup"), &[("apikey", &key)], &body) {
            Some((200, _)) => drop(acknowledged.lock().expect("no worker panics").insert(email)),
            Some((status, body)) => assert!(status >= 500 || status == 429, "{status} {body}"),
            None => std::thread::sleep(Duration::from_millis(100)),
        }
        // A pace at which several kills fall into the sign-ups.
        std::thread::sleep(Duration::from_millis(60));
        acknowledged.lock().expect("no worker panics").len() >= SIGN_UPS
    });
    let (there, faults) = block_on(async {
        let database = test_support::connect(&server.superuser_url(&project)).await;
        let rows = database.query("select email::text from auth.users", &[]).await.expect("the users can be read");
        let faults = "select 'without identity ' || email from auth.users u
                where not exists (select from auth.identities where user_id = u.id)
            union all select 'without profile ' || email from auth.users u
                where not exists (select from public.profiles where id = u.id)
            union all select 'without token ' || email from auth.users u
                where not exists (select from auth.one_time_tokens where user_id = u.id)
            union all select 'without mail ' || email from auth.users u
                where not exists (select from _launchdb.mail_queue where user_id = u.id and recipient = u.email)";
        let faults = database.query(faults, &[]).await.expect("faults can be looked for");
        let texts = |rows: Vec<_>| -> Vec<String> { rows.iter().map(|row: &tokio_postgres::Row| row.get(0)).collect() };
        (texts(rows).into_iter().collect::<BTreeSet<_>>(), texts(faults))
    });
    assert_eq!(faults, Vec::<String>::new());
    let acknowledged = acknowledged.into_inner().expect("no worker panics");
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
