//! DDL through psql is visible to the very next request, a thousand times in a row, under load; and one open DDL
//! transaction blocks no other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::ScratchDir;
use tokio_postgres::Client;

use crate::server::Server;

/// Each round makes ten changes and asks after each.
const ROUNDS: u32 = 100;

const PREPARE: &str = "
    create table parents (id int primary key, name text);
    create table load (id int primary key);
    insert into parents values (1, 'one');
    insert into load select generate_series(1, 100);
    grant select on all tables in schema public to anon;
    alter default privileges in schema public grant select on tables to anon;
";

struct Project<'a> {
    server: &'a Server,
    client: Client,
    url: String,
    key: String,
}

impl Project<'_> {
    /// Changes the schema and asks at once.
    async fn check(&self, ddl: &str, path: &str, expected: (u16, Value)) {
        self.client.batch_execute(ddl).await.unwrap_or_else(|error| panic!("{ddl}: {error:?}"));
        self.ask(path, expected, ddl);
    }

    fn ask(&self, path: &str, (status, body): (u16, Value), after: &str) {
        let (got_status, got) = self.server.get(&format!("{}/{path}", self.url), &self.key);
        assert_eq!(got_status, status, "GET {path} after {after}: {got}");
        // Of an error only the code is compared.
        let got = if status >= 400 { got["code"].clone() } else { got };
        assert_eq!(got, body, "GET {path} after {after}");
    }
}

#[test]
fn the_next_request_sees_every_schema_change() {
    let home = ScratchDir::new();
    let server = Server::start(home.path(), &[]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    server.cli(&["project", "create", "changes"]);
    let connection = server.cli_json(&["project", "connection", "changes"]);
    let field = |name: &str| connection[name].as_str().expect("a text").to_owned();
    let (db_uri, key) = (field("db_uri"), field("anon_key"));
    let url = format!("{}/rest/v1", field("api_url"));
    let client = runtime.block_on(test_support::connect(&db_uri));
    runtime.block_on(client.batch_execute(PREPARE)).expect("the tables are made");
    let project = Project { server: &server, client, url, key };

    let done = AtomicBool::new(false);
    let loads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (server, url, key) = (&server, &project.url, &project.key);
            let (done, loads) = (&done, &loads);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let (status, body) = server.get(&format!("{url}/load?select=id&limit=5"), key);
                    assert_eq!(status, 200, "{body}");
                    loads.fetch_add(1, Ordering::Relaxed);
                    // A load that leaves some of two processors to what is looked at.
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        let changes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..ROUNDS {
                runtime.block_on(change_ten_times(&project, round));
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = changes {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(loads.load(Ordering::Relaxed) > u64::from(ROUNDS), "there was load beside the changes");

    runtime.block_on(open_transactions_block_nobody(&project, &db_uri));
}

async fn change_ten_times(project: &Project<'_>, round: u32) {
    let t = format!("t{round}");
    let ok = |body: Value| (200, body);
    let missing = |code: &str| (404, json!(code));
    let bad = |code: &str| (400, json!(code));
    let make = format!("create table {t} (id int primary key, parent_id int, n int); insert into {t} values (1, 1, 5)");
    project.ask(&format!("{t}?select=id"), missing("PGRST205"), "nothing");
    project.check(&make, &format!("{t}?select=id,n"), ok(json!([{"id": 1, "n": 5}]))).await;
    project
        .check(
            &format!("alter table {t} add added text default 'x'"),
            &format!("{t}?select=added"),
            ok(json!([{"added": "x"}])),
        )
        .await;
    project
        .check(&format!("alter table {t} alter n type text"), &format!("{t}?select=n"), ok(json!([{"n": "5"}])))
        .await;
    let embed = format!("{t}?select=id,parents(name)");
    project.ask(&embed, bad("PGRST200"), "no foreign key yet");
    project
        .check(
            &format!("alter table {t} add constraint {t}_parent foreign key (parent_id) references parents"),
            &embed,
            ok(json!([{"id": 1, "parents": {"name": "one"}}])),
        )
        .await;
    project.check(&format!("alter table {t} drop constraint {t}_parent"), &embed, bad("PGRST200")).await;
    let f = format!("f{round}");
    project
        .check(
            &format!("create function {f}() returns int language sql stable as 'select 1'"),
            &format!("rpc/{f}"),
            ok(json!(1)),
        )
        .await;
    project
        .check(
            &format!("create function {f}(a int) returns int language sql stable as 'select a'"),
            &format!("rpc/{f}?a=7"),
            ok(json!(7)),
        )
        .await;
    project.check(&format!("drop function {f}()"), &format!("rpc/{f}"), missing("PGRST202")).await;
    project.check(&format!("alter table {t} drop added"), &format!("{t}?select=added"), bad("42703")).await;
    project
        .check(&format!("drop table {t}; drop function {f}(int)"), &format!("{t}?select=id"), missing("PGRST205"))
        .await;
}

async fn open_transactions_block_nobody(project: &Project<'_>, db_uri: &str) {
    let other = test_support::connect(db_uri).await;
    other.batch_execute("begin; create table first (id int)").await.expect("a table in an open transaction");
    let second = project.check("create table second (id int)", "second", (200, json!([])));
    tokio::time::timeout(Duration::from_secs(5), second).await.expect("the other transaction does not block");
    project.ask("first", (404, json!("PGRST205")), "the first is not committed");
    other.batch_execute("commit").await.expect("a commit");
    project.ask("first", (200, json!([])), "the older transaction committed last");
}
