//! kill -9 during sign-ups: no user without an identity, and no mail lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use test_support::{ReceivedMail, ScratchDir, SmtpOptions, SmtpServer};

use crate::crash::{block_on, post, while_killing};
use crate::server::Server;

const SIGN_UPS: usize = 60;

#[test]
fn killed_servers_leave_whole_users_and_every_mail() {
    let home = ScratchDir::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    // It lives on while those who send are killed.
    let smtp = runtime.block_on(SmtpServer::start(SmtpOptions::default()));
    let port = smtp.port().to_string();
    let settings = [
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", port.as_str()),
        ("SMTP_FROM", "auth@base.example"),
        ("SMTP_PROJECT_HOURLY", "100000"),
    ];
    let mut server = Server::start_with(home.path(), &[], &settings);
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
    while_killing(&mut server, |(url, _)| {
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
    let mails = every_mail(&mut server, &smtp, &there);
    for (email, mails) in &mails {
        // One that was sent by a server that could not write that down any more is recognised.
        let ids: BTreeSet<_> = mails.iter().map(|mail| mail.header("Message-ID")).collect();
        assert_eq!(ids.len(), 1, "{email}: {ids:?}");
        let text = mails[0].readable();
        let token = text.split_once("/verify?token=").expect("a link").1.split('&').next().expect("its token");
        let body = json!({ "type": "signup", "token_hash": token });
        let url = format!("{}/p/{project}/auth/v1/verify", server.url());
        let (status, body) = post(&url, &[("apikey", &key)], &body).expect("an answer");
        assert_eq!((status, body["user"]["email"].as_str()), (200, Some(email.as_str())), "{body}");
    }
}

/// Waits until each of the users has got a mail. What a killed worker had in hand is sent when its turn is over.
fn every_mail(server: &mut Server, smtp: &SmtpServer, users: &BTreeSet<String>) -> BTreeMap<String, Vec<ReceivedMail>> {
    server.until_within(Duration::from_secs(120), "every mail arrives", |_| {
        let mut all: BTreeMap<String, Vec<ReceivedMail>> = BTreeMap::new();
        for mail in smtp.mails() {
            all.entry(mail.to.first().cloned().unwrap_or_default()).or_default().push(mail);
        }
        users.iter().all(|user| all.contains_key(user)).then_some(all)
    })
}
