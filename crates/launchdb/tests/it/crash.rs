//! kill -9 at random moments: what was acknowledged is there, and nothing half-made stays behind.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use test_support::ScratchDir;

use crate::server::Server;

const CREATIONS: usize = 100;
const INSERTS: u64 = 1_000;
/// Projects that nobody was told of and that are looked at all the same.
const OTHERS: usize = 50;

#[test]
fn killed_servers_leave_whole_projects_and_every_acknowledged_row() {
    let home = ScratchDir::new();
    let mut server = Server::start(home.path(), &[]);
    // Waits for the template; a server that never lives long enough to make it makes no project either.
    server.cli_json(&["project", "create", "before"]);
    let created = create_while_killing(&mut server);
    every_project_is_whole(&mut server, &created);
    insert_while_killing(&mut server, created.first().expect("some project was acknowledged"));
}

/// Milliseconds between `least` and `least + spread`, another one each time.
fn random_pause(least: u64, spread: u64) -> Duration {
    let random = u64::from_le_bytes(base::random::bytes::<8>());
    Duration::from_millis(least + random % spread)
}

/// Kills the server (each third time PostgreSQL as well) and starts it again.
fn crash(server: &mut Server, round: usize) {
    let postmaster = server.postmaster();
    server.signal("KILL");
    server.wait();
    if round % 3 == 2
        && let Some(pid) = postmaster
    {
        assert!(test_support::signal(pid, "KILL"));
    }
    server.start_again();
}

/// Where the server is at the moment, for threads that go on while it is killed.
type Address = Arc<Mutex<(String, String)>>;

fn address(server: &Server) -> (String, String) {
    (server.url(), server.token())
}

pub(crate) fn post(url: &str, headers: &[(&str, &str)], body: &Value) -> Option<(u16, Value)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into();
    let mut request = agent.post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = request.send_json(body).ok()?;
    let text = answer.body_mut().read_to_string().ok()?;
    Some((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null)))
}

/// Runs `work` on four threads until it says that it is done, while the server is killed again and again.
pub(crate) fn while_killing(server: &mut Server, work: impl Fn(&(String, String)) -> bool + Sync) {
    while_killing_within(1_000, server, work);
}

/// The same, where a server lives for up to `longest` milliseconds.
fn while_killing_within(longest: u64, server: &mut Server, work: impl Fn(&(String, String)) -> bool + Sync) {
    let current: Address = Arc::new(Mutex::new(address(server)));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when a start fails below: the scope waits for the workers.
        let _ended = Ends(&done);
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let at = current.lock().expect("no worker panics").clone();
                        if work(&at) {
                            done.store(true, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let mut round = 0;
        while !done.load(Ordering::Relaxed) {
            std::thread::sleep(random_pause(100, longest - 100));
            if done.load(Ordering::Relaxed) {
                break;
            }
            crash(server, round);
            *current.lock().expect("no worker panics") = address(server);
            round += 1;
        }
        for worker in workers {
            worker.join().expect("the worker did not panic");
        }
        assert!(round >= 3, "only {round} kills: the work was done too soon to prove anything");
    });
}

/// Says that the work is done, however the test ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn create_while_killing(server: &mut Server) -> Vec<String> {
    let attempts = AtomicU64::new(0);
    let acknowledged = Mutex::new(Vec::new());
    // A debug build needs a second until it makes projects.
    while_killing_within(4_000, server, |(url, token)| {
        let attempt = attempts.fetch_add(1, Ordering::Relaxed);
        let bearer = format!("Bearer {token}");
        let body = serde_json::json!({ "name": format!("crash-{attempt}") });
        match post(&format!("{url}/api/projects"), &[("authorization", &bearer)], &body) {
            Some((201, project)) => {
                let id = project["id"].as_str().expect("an id").to_owned();
                acknowledged.lock().expect("no worker panics").push(id);
            }
            Some((status, body)) if status < 500 && status != 429 => panic!("{status} {body}"),
            // The server is gone at the moment, or PostgreSQL is. Each try may leave a project behind that has to be finished.
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
        acknowledged.lock().expect("no worker panics").len() >= CREATIONS
    });
    acknowledged.into_inner().expect("no worker panics")
}

fn every_project_is_whole(server: &mut Server, acknowledged: &[String]) {
    assert!(acknowledged.len() >= CREATIONS, "only {} creations were acknowledged", acknowledged.len());
    // The reconciler is at work after a start; until it is through, unfinished projects may be seen.
    let patience = Duration::from_secs(300);
    let projects = server.until_within(patience, "no project is half-made", |server| server.all_active());
    let ids: BTreeSet<&str> = projects.iter().filter_map(|project| project["id"].as_str()).collect();
    for id in acknowledged {
        assert!(ids.contains(id.as_str()), "{id} was acknowledged and is gone");
    }
    // On a busy machine most creations are cut off, and each leaves a project that is finished later: several hundred. All of
    // them are active; whether they can be used is asked of every acknowledged one and of some of the others.
    let others = ids.iter().filter(|id| !acknowledged.iter().any(|known| known == *id)).take(OTHERS);
    for id in acknowledged.iter().map(String::as_str).chain(others.copied()) {
        let connection = server.cli_json(&["project", "connection", id]);
        let field = |name: &str| connection[name].as_str().expect("a text").to_owned();
        let (status, body) = server.get(&format!("{}/rest/v1/nothing", field("api_url")), &field("anon_key"));
        assert_eq!((status, body["code"].as_str()), (404, Some("PGRST205")), "{id}: {body}");
        let db_uri = field("db_uri");
        block_on(async {
            test_support::connect(&db_uri)
                .await
                .batch_execute("create table t (); drop table t")
                .await
                .expect("usable");
        });
    }
    let orphans = server.until("no orphan is left", |server| {
        let found = block_on(orphans(server));
        found.is_empty().then_some(found)
    });
    assert_eq!(orphans, Vec::<String>::new());
}

/// Databases, roles and secrets that belong to no project, and projects without them.
async fn orphans(server: &Server) -> Vec<String> {
    let platform = test_support::connect(&server.superuser_url("platform")).await;
    let rows = platform
        .query(
            "with known as (select id from platform.projects)
             select 'database ' || datname from pg_database where datname ~ '^proj_' and datname not in (table known)
             union all
             select 'role ' || rolname from pg_roles
             where rolname ~ '^proj_' and regexp_replace(rolname, '_authenticator$', '') not in (table known)
             union all
             select 'secret of ' || project_id from platform.secrets
             where project_id ~ '^proj_' and project_id not in (table known)
             union all
             select 'project without database ' || id from known where id not in (select datname from pg_database)
             union all
             select 'project without roles ' || id from known
             where (select count(*) from pg_roles where rolname in (id, id || '_authenticator')) <> 2",
            &[],
        )
        .await
        .expect("the catalogs can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

fn insert_while_killing(server: &mut Server, project: &str) {
    let sql = "create table rows (id bigint primary key); grant all on rows to service_role";
    server.cli(&["project", "sql", project, sql]);
    let connection = server.cli_json(&["project", "connection", project]);
    let key = connection["service_role_key"].as_str().expect("a key").to_owned();
    let path = format!("/p/{project}/rest/v1/rows");
    let next = AtomicU64::new(1);
    let acknowledged = Mutex::new(BTreeSet::new());
    while_killing(server, |(url, _)| {
        let id = next.fetch_add(1, Ordering::Relaxed);
        let answer = post(&format!("{url}{path}"), &[("apikey", &key)], &serde_json::json!({ "id": id }));
        let mut acknowledged = acknowledged.lock().expect("no worker panics");
        match answer {
            Some((201, _)) => {
                acknowledged.insert(id);
            }
            Some((status, body)) => assert!(status >= 500, "{status} {body}"),
            None => {}
        }
        let done = acknowledged.len() as u64 >= INSERTS;
        drop(acknowledged);
        // A pace at which several kills fall into the inserts.
        std::thread::sleep(Duration::from_millis(20));
        done
    });
    let there = block_on(async {
        let database = test_support::connect(&server.superuser_url(project)).await;
        let rows = database.query("select id from rows", &[]).await.expect("the rows can be read");
        rows.iter().map(|row| u64::try_from(row.get::<_, i64>(0)).expect("positive")).collect::<BTreeSet<u64>>()
    });
    let acknowledged = acknowledged.into_inner().expect("no worker panics");
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}
