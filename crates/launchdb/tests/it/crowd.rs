//! Owners who take every connection of PostgreSQL: the others' data APIs go on, and projects can be made.

use std::time::Duration;

use serde_json::json;
use test_support::ScratchDir;
use tokio::task::JoinSet;

use crate::server::Server;

/// Few for each, so that four owners are enough to take them all. The budget of the data APIs is smaller accordingly.
const MOST_CONNECTIONS: &str = "max_connections = 60\n";
const BUDGET: &str = "15";
const HOSTILE: [&str; 4] = ["one", "two", "three", "four"];
/// Of each of them.
const LOOPS: usize = 3;

const TABLE: &str =
    "create table items (id int primary key); insert into items values (1); grant select on items to anon";

#[test]
fn owners_who_take_every_connection_harm_nobody() {
    let home = ScratchDir::new();
    let mut server = Server::start(home.path(), &[]);
    for name in HOSTILE.iter().chain(&["neighbour"]) {
        server.cli(&["project", "create", name]);
    }
    server.cli(&["project", "sql", "neighbour", TABLE]);
    server.signal("TERM");
    server.wait();
    std::fs::write(server.data().join("postgres/data/custom.conf"), MOST_CONNECTIONS).expect("the file can be written");

    let mut server = Server::start_with(home.path(), &[], &[("LAUNCHDB_DB_CONNECTIONS", BUDGET)]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let admin = runtime.block_on(test_support::connect(&server.superuser_url("postgres")));
    let count = |sql: &str| -> i64 { runtime.block_on(admin.query_one(sql, &[])).expect("an answer").get(0) };
    let mut crowd = JoinSet::new();
    for name in HOSTILE {
        let connection = server.cli_json(&["project", "connection", name]);
        let uri = connection["db_uri"].as_str().expect("a URI").to_owned();
        for _ in 0..LOOPS {
            crowd.spawn_on(insist(uri.clone()), runtime.handle());
        }
    }
    // The server notices by itself.
    server.until("limits are lower", |_| {
        let sql = "select coalesce(sum(rolconnlimit), 0) from pg_roles where rolname ~ '^proj_[a-z0-9]+$' and
            rolname in (select usename from pg_stat_activity)";
        let all = "select count(distinct usename) from pg_stat_activity where usename ~ '^proj_[a-z0-9]+$'";
        (count(all) == 4 && count(sql) <= 20).then_some(())
    });
    let items = |server: &Server, name: &str| {
        let connection = server.cli_json(&["project", "connection", name]);
        let text = |field: &str| connection[field].as_str().expect("a text").to_owned();
        server.get(&format!("{}/rest/v1/items", text("api_url")), &text("anon_key"))
    };
    // Its first connection is made now.
    server.until("the neighbour's data API answers", |server| (items(server, "neighbour").0 == 200).then_some(()));
    for _ in 0..20 {
        assert_eq!(items(&server, "neighbour"), (200, json!([{ "id": 1 }])));
    }
    // More than the one spare that is there.
    for name in ["new", "newer"] {
        server.cli(&["project", "create", name]);
        server.cli(&["project", "sql", name, TABLE]);
        assert_eq!(items(&server, name), (200, json!([{ "id": 1 }])));
    }
    assert!(count("select count(*) from pg_stat_activity where usename ~ '^proj_[a-z0-9]+$'") > 4, "they still try");
    runtime.block_on(crowd.shutdown());
}

/// Takes one connection after the other, and tries again and again to have more.
async fn insist(uri: String) {
    let attempts = async {
        let mut held = JoinSet::new();
        loop {
            match tokio_postgres::connect(&uri, tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    // Until it is ended.
                    held.spawn(async move {
                        let _ = connection.await;
                        drop(client);
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(60), attempts).await;
}
