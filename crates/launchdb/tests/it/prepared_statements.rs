//! Prepared statements under fire: while the schema, roles, search paths and connections change, every answer fits some
//! state of the schema, and none is a server error.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::ScratchDir;
use tokio_postgres::Client;

use crate::server::{Answer, Server};

/// It goes on until so many changes were made and so many requests were answered.
const ROUNDS: usize = 80;
const ANSWERS: usize = 400;
/// Much longer than that takes; a request that never ends would go on for ever.
const PATIENCE: Duration = Duration::from_secs(120);
const CLIENTS: usize = 6;

const PREPARE: &str = "
    create schema other;
    create table tagged (tag text primary key);
    create table other.tagged (tag text primary key);
    insert into tagged values ('public');
    insert into other.tagged values ('other');
    create function whoami() returns text language plpgsql stable as $$ begin return current_user || ' in ' || (select tag from tagged); end $$;
    create function other.whoami() returns text language plpgsql stable as $$ begin return current_user || ' in ' || (select tag from tagged); end $$;
    create table log (id bigint generated always as identity primary key, by text not null default current_user);
    create table moving (id int primary key, n int);
    insert into moving values (1, 5);
    create function replaced() returns text language sql stable as $$ select 'one' $$;
    create function deallocate() returns int language plpgsql as $$ begin deallocate all; return 1; end $$;
    -- DISCARD ALL runs in no transaction, and what we send is always in one. These are its parts (PostgreSQL docs,
    -- DISCARD) but for those that make settings, and for CLOSE ALL, which takes an EXECUTE: where stored code has these,
    -- reads no longer share transactions.
    create function discard() returns int language plpgsql as $$ begin
      deallocate all;
      unlisten *;
      perform pg_advisory_unlock_all();
      discard plans;
      discard temp;
      discard sequences;
      return 1;
    end $$;
    grant usage on schema other to anon, service_role;
    grant select on all tables in schema public, other to anon, service_role;
    grant insert on log to anon, service_role;
    grant execute on all functions in schema public, other to anon, service_role;
    alter default privileges in schema public grant select on tables to anon, service_role;
";

/// Changes that are made in turn.
const CHANGES: [&str; 8] = [
    "alter table moving add column added text default 'x'",
    "alter table moving alter n type text",
    "create or replace function replaced() returns text language sql stable as $$ select 'two' $$",
    "alter table moving drop column added",
    "drop table moving; create table moving (id int primary key, n int); insert into moving values (1, 6)",
    "create or replace function replaced() returns text language sql stable as $$ select 'one' $$",
    "drop table moving",
    "create table moving (id int primary key, n int); insert into moving values (1, 5)",
];

/// A request and whether an answer to it fits some state of the schema.
struct Shot {
    method: &'static str,
    path: &'static str,
    profile: &'static str,
    fits: fn(role: &str, answer: &Answer) -> bool,
}

fn is(answer: &Answer, status: u16, body: &Value) -> bool {
    answer.status == status && answer.body == *body
}

fn is_error(answer: &Answer, codes: &[&str]) -> bool {
    answer.status < 500 && answer.body["code"].as_str().is_some_and(|code| codes.contains(&code))
}

const SHOTS: [Shot; 9] = [
    Shot { method: "GET", path: "tagged", profile: "public", fits: |_, a| is(a, 200, &json!([{"tag": "public"}])) },
    Shot { method: "GET", path: "tagged", profile: "other", fits: |_, a| is(a, 200, &json!([{"tag": "other"}])) },
    Shot {
        method: "GET",
        path: "rpc/whoami",
        profile: "public",
        fits: |role, a| is(a, 200, &json!(format!("{role} in public"))),
    },
    Shot {
        method: "GET",
        path: "rpc/whoami",
        profile: "other",
        fits: |role, a| is(a, 200, &json!(format!("{role} in other"))),
    },
    Shot {
        method: "GET",
        path: "moving",
        profile: "public",
        fits: |_, a| {
            let states = [json!(5), json!(6), json!("5"), json!("6")].map(|n| json!({"id": 1, "n": n}));
            let with_more = |row: &Value| {
                let mut row = row.clone();
                row["added"] = json!("x");
                row
            };
            is(a, 200, &json!([]))
                || states.iter().any(|row| is(a, 200, &json!([row])) || is(a, 200, &json!([with_more(row)])))
                || is_error(a, &["PGRST205", "42P01"])
        },
    },
    Shot {
        method: "GET",
        path: "moving?select=added&n=eq.5",
        profile: "public",
        fits: |_, a| {
            is(a, 200, &json!([{"added": "x"}]))
                || is(a, 200, &json!([]))
                || is_error(a, &["PGRST205", "42P01", "42703"])
        },
    },
    Shot {
        method: "GET",
        path: "rpc/replaced",
        profile: "public",
        fits: |_, a| is(a, 200, &json!("one")) || is(a, 200, &json!("two")),
    },
    Shot { method: "POST", path: "rpc/deallocate", profile: "public", fits: |_, a| is(a, 200, &json!(1)) },
    Shot { method: "POST", path: "rpc/discard", profile: "public", fits: |_, a| is(a, 200, &json!(1)) },
];

#[test]
fn every_answer_fits_some_state_of_the_schema() {
    let home = ScratchDir::new();
    let server = Server::start(home.path(), &[]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    server.cli(&["project", "create", "fire"]);
    let connection = server.cli_json(&["project", "connection", "fire"]);
    let text = |name: &str| connection[name].as_str().expect("a text").to_owned();
    let (id, url) = (text("project_id"), format!("{}/rest/v1", text("api_url")));
    let keys = [("anon", text("anon_key")), ("service_role", text("service_role_key"))];
    server.cli(&["project", "settings", "fire", "--set", r#"{"data_api": {"db_schema": ["public", "other"]}}"#]);
    let owner = runtime.block_on(test_support::connect(&text("db_uri")));
    let superuser = runtime.block_on(test_support::connect(&server.superuser_url(&id)));
    runtime.block_on(owner.batch_execute(PREPARE)).expect("the schema is made");

    let (done, answered, written) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (server, url, keys) = (&server, &url, &keys);
                let (done, answered, written) = (&done, &answered, &written);
                scope.spawn(move || {
                    let mut turn = client;
                    while !done.load(Ordering::Relaxed) {
                        turn += 1;
                        let (role, key) = &keys[turn / 3 % 2];
                        let ask = |method: &str, path: &str, profile: &str| {
                            let name = if method == "GET" { "accept-profile" } else { "content-profile" };
                            let headers =
                                [("apikey", key.as_str()), (name, profile), ("content-type", "application/json")];
                            server.ask(method, &format!("{url}/{path}"), &headers, "{}")
                        };
                        let shot = &SHOTS[turn % SHOTS.len()];
                        let answer = ask(shot.method, shot.path, shot.profile);
                        // Whether a write was committed whose connection broke under it is not known.
                        let lost = |answer: &Answer| answer.status == 503 && answer.body["code"] == "PGRST001";
                        assert!(
                            (shot.fits)(role, &answer) || shot.method == "POST" && lost(&answer),
                            "{role}: {} {} in {}: {} {}",
                            shot.method,
                            shot.path,
                            shot.profile,
                            answer.status,
                            answer.body
                        );
                        answered.fetch_add(1, Ordering::Relaxed);
                        if turn % 5 == 0 {
                            let answer = ask("POST", "log", "public");
                            // Whether a write was committed whose connection broke under it is not known.
                            let lost = is(&answer, 503, &answer.body) && answer.body["code"] == "PGRST001";
                            assert!(
                                answer.status == 201 || lost,
                                "{role}: POST log: {} {}",
                                answer.status,
                                answer.body
                            );
                            written.fetch_add(usize::from(answer.status == 201), Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        // A client that got a wrong answer has ended.
        let state = || {
            let enough = answered.load(Ordering::Relaxed) >= ANSWERS;
            (!enough, clients.iter().any(std::thread::ScopedJoinHandle::is_finished))
        };
        let fire = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(fire(&owner, &superuser, &id, &state))
        }));
        done.store(true, Ordering::Relaxed);
        let failed = clients.into_iter().filter_map(|client| client.join().err()).next();
        if let Some(panic) = fire.err().or(failed) {
            std::panic::resume_unwind(panic);
        }
    });
    let (role, key) = &keys[1];
    let answer = server.ask("GET", &format!("{url}/log?select=count"), &[("apikey", key)], "");
    assert!(answer.status < 500, "{role}: {}", answer.body);
    let count = runtime.block_on(superuser.query_one("select count(*) from log", &[])).expect("a count");
    assert!(count.get::<_, i64>(0) >= i64::try_from(written.load(Ordering::Relaxed)).expect("few"), "no write is lost");
}

/// Changes the schema and ends connections, in turn. `state`: whether more answers are wanted, and whether a client
/// failed.
async fn fire(owner: &Client, superuser: &Client, project: &str, state: &dyn Fn() -> (bool, bool)) {
    let end = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{project}_authenticator' and pid % 2 = "
    );
    let start = Instant::now();
    for round in 0.. {
        let (wants_more, failed) = state();
        if failed || round >= ROUNDS && !wants_more {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "too few answers in {round} rounds");
        let change = CHANGES[round % CHANGES.len()];
        owner.batch_execute(change).await.unwrap_or_else(|error| panic!("{change}: {error:?}"));
        tokio::time::sleep(Duration::from_millis(20)).await;
        // Seldom enough that a schema cache can be read in between, on a busy machine too.
        if round % 20 == 10 {
            superuser.batch_execute(&format!("{end}{}", round / 20 % 2)).await.expect("backends are ended");
        }
    }
}
