//! Connections that the server ended: nobody's work is lost that was not begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use test_support::eventually;
use tokio::net::{TcpListener, TcpStream};

use super::{Fixture, exchange, number, one, query};
use crate::{ConnectConfig, Error, Pool};

#[tokio::test]
async fn reads_survive_a_connection_that_the_server_ended() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool(one(1));
    assert_eq!(number(&pool, "select 1::int8").await.unwrap(), Some(1));
    let end = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}' and pid <> pg_backend_pid()",
        fixture.database.name()
    );
    fixture.database.execute(&end).await;
    assert_eq!(number(&pool, "select 2::int8").await.unwrap(), Some(2));
    let own = number(&pool, "select pg_terminate_backend(pg_backend_pid())::int::int8").await.unwrap_err();
    assert!(matches!(own, Error::Lost), "{own}");
    assert_eq!(number(&pool, "select 3::int8").await.unwrap(), Some(3));
}

/// Hands on what client and server say, but not that the server hung up: as if its process took long to end after its
/// last words. Gives its port, and how many servers have hung up.
async fn slow_farewells(port: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = ended.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let counted = counted.clone();
            tokio::spawn(async move {
                let (mut client, mut server) = (client.into_split(), server.into_split());
                let asked = tokio::spawn(async move { tokio::io::copy(&mut client.0, &mut server.1).await });
                tokio::io::copy(&mut server.0, &mut client.1).await.ok();
                counted.fetch_add(1, Ordering::Relaxed);
                asked.await.ok();
            });
        }
    });
    (own, ended)
}

#[tokio::test]
async fn a_connection_that_was_said_goodbye_to_gets_no_write() {
    let fixture = Fixture::new().await;
    let (port, ended) = slow_farewells(fixture.connect.port).await;
    let connect = ConnectConfig { port, ..fixture.connect.clone() };
    let pool = Pool::new(connect, one(6), fixture.budget.clone(), fixture.tasks.clone());
    let busy = exchange(query("select pg_sleep(0.05)", &[]), true);
    futures_util::future::join_all((0..6).map(|_| pool.run(&busy))).await;
    let end = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{}' and pid <> pg_backend_pid()",
        fixture.database.name()
    );
    let observer = fixture.database.connect().await;
    let terminated: i64 = observer.query_one(&end, &[]).await.unwrap().get(0);
    assert_eq!(terminated, 6);
    eventually("all have hung up", async || (ended.load(Ordering::Relaxed) == 6).then_some(())).await;
    let write = exchange(query("insert into t values (2, 'two')", &[]), false);
    pool.run(&write).await.expect("the write goes over a new connection");
    let mut conditional = exchange(query("insert into t values (3, 'three')", &[]), false);
    conditional.begin = Some(query("begin", &[]));
    pool.run(&conditional).await.expect("and the next one too");
    assert_eq!(number(&pool, "select count(*) from t").await.unwrap(), Some(3));
}

#[tokio::test]
async fn a_farewell_is_read_although_nothing_can_be_written_any_more() {
    let fixture = Fixture::new().await;
    let socket = fixture.database.cluster().socket_dir().display().to_string();
    let connect = ConnectConfig { host: socket, ..fixture.connect.clone() };
    let pool = Pool::new(connect, one(1), fixture.budget.clone(), fixture.tasks.clone());
    let pid = number(&pool, "select pg_backend_pid()::int8").await.unwrap().unwrap();
    let url = fixture.database.url();
    // This thread, which drives the connection, sees nothing of it until the socket is closed.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = test_support::connect(&url).await;
            client.execute(&format!("select pg_terminate_backend({pid})"), &[]).await.unwrap();
            eventually("the process has gone", async || {
                let left = format!("select from pg_stat_activity where pid = {pid}");
                client.query(&left, &[]).await.unwrap().is_empty().then_some(())
            })
            .await;
            // It leaves the list before its socket is closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
        });
    })
    .join()
    .unwrap();
    let write = exchange(query("insert into t values (2, 'two')", &[]), false);
    pool.run(&write).await.expect("the write goes over a new connection");
}
