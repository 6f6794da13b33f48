use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::data_dir::DataDir;
use crate::process::{ProcessId, Signal};

/// A data folder whose PostgreSQL ends with the test, also when that fails.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("launchdb-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Self(dir)
    }

    fn config(&self) -> ClusterConfig {
        let data_dir = DataDir::open(&self.0.path().join("data")).unwrap();
        let search = Search { bin_dir: None, path: None };
        let password = Secret::new("a password".to_owned());
        ClusterConfig::new(data_dir.postgres_dir(), data_dir.run_as().clone(), search, password)
    }

    fn postmaster(&self) -> Option<ProcessId> {
        let file = postmaster::PidFile::read(&self.0.path().join("data/postgres/data"))?;
        ProcessId::of(file.pid)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(postmaster) = self.postmaster() {
            let _ = postmaster.signal(Signal::QUIT);
        }
    }
}

fn psql_command(cluster: &Cluster, host: &Path, sql: &str) -> std::process::Command {
    let mut command = std::process::Command::new(cluster.binaries().program("psql"));
    command
        .args(["-XAtq", "-U", cluster.superuser(), "-d", "postgres", "-p", &cluster.port().to_string(), "-c", sql])
        .arg("-h")
        .arg(host)
        .env("PGPASSWORD", "a password");
    command
}

fn psql(cluster: &Cluster, sql: &str) -> String {
    let output = psql_command(cluster, cluster.socket_dir(), sql).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_cluster_is_made_once_and_keeps_its_port_and_data() {
    let scratch = Scratch::new();
    let cluster = Cluster::open(scratch.config()).await.unwrap();
    assert!(cluster.is_new());
    psql(&cluster, "create table t as select 1 as a");
    let host = psql_command(&cluster, Path::new("127.0.0.1"), "table t").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&host.stdout), "1\n");
    let settings = "select concat_ws(' ', current_setting('server_encoding'), current_setting('data_checksums'), \
                    current_setting('wal_level'), datcollate, datctype, usename, \
                    (select rolpassword like 'SCRAM-SHA-256$%' from pg_authid where rolname = usename)) \
                    from pg_database, pg_user where datname = 'postgres'";
    assert_eq!(psql(&cluster, settings), "UTF8 on logical C C.UTF-8 supabase_admin t");
    let wrong = psql_command(&cluster, cluster.socket_dir(), "select 1").env("PGPASSWORD", "wrong").output().unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("password authentication failed"));
    let port = cluster.port();
    let health = cluster.health();
    cluster.stop().await;
    assert_eq!(*health.borrow(), Health::Stopped);
    assert_eq!(scratch.postmaster(), None);

    let again = Cluster::open(scratch.config()).await.unwrap();
    assert!(!again.is_new());
    assert_eq!(again.port(), port);
    assert_eq!(psql(&again, "table t"), "1");
    again.stop().await;
}

#[tokio::test]
async fn a_killed_postgres_comes_back_although_a_backend_is_busy() {
    let scratch = Scratch::new();
    let cluster = Cluster::open(scratch.config()).await.unwrap();
    psql(&cluster, "create table t as select 1 as a");
    let endless = "do $$ begin loop perform 1; end loop; end $$";
    let mut busy = psql_command(&cluster, cluster.socket_dir(), endless).spawn().unwrap();
    let busy_backends = "select count(*) from pg_stat_activity where query like 'do %'";
    while psql(&cluster, busy_backends) != "1" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut health = cluster.health();
    health.mark_unchanged();
    scratch.postmaster().unwrap().signal(Signal::KILL).unwrap();
    health.wait_for(|h| matches!(h, Health::Down(_))).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), health.wait_for(|h| *h == Health::Ready)).await.unwrap().unwrap();
    assert_eq!(psql(&cluster, "table t"), "1");
    busy.wait().unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_postgres_that_outlived_its_launchdb_is_taken_over() {
    let scratch = Scratch::new();
    let cluster = Cluster::open(scratch.config()).await.unwrap();
    cluster.set_databases(1_000).await.unwrap();
    let before = scratch.postmaster().unwrap();
    drop(cluster);
    let cluster = Cluster::open(scratch.config()).await.unwrap();
    assert_eq!(scratch.postmaster(), Some(before.clone()));
    while psql(&cluster, "show autovacuum_naptime") != "200s" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Its end is noticed although it is no child of this supervisor.
    let mut health = cluster.health();
    before.signal(Signal::KILL).unwrap();
    health.wait_for(|h| matches!(h, Health::Down(_))).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), health.wait_for(|h| *h == Health::Ready)).await.unwrap().unwrap();
    cluster.stop().await;
    assert_eq!(scratch.postmaster(), None);

    let mut config = scratch.config();
    config.port = Some(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let wanted = config.port;
    drop(Cluster::open(scratch.config()).await.unwrap());
    let moved = Cluster::open(config).await.unwrap();
    assert_eq!(Some(moved.port()), wanted, "other settings need a new start");
    assert_eq!(psql(&moved, "select 1"), "1");
    moved.stop().await;
}

#[tokio::test]
async fn backends_have_a_memory_limit() {
    let scratch = Scratch::new();
    let mut config = scratch.config();
    config.backend_memory = Some(256 * 1024 * 1024);
    let cluster = Cluster::open(config).await.unwrap();
    let greedy =
        psql_command(&cluster, cluster.socket_dir(), "select length(repeat('x', 400000000))").output().unwrap();
    assert!(String::from_utf8_lossy(&greedy.stderr).contains("out of memory"), "{greedy:?}");
    assert_eq!(psql(&cluster, "select 1"), "1");

    let mut busy = psql_command(
        &cluster,
        cluster.socket_dir(),
        "do $$ declare t text := repeat('x', 60000000); begin \
                                 perform pg_sleep(60); end $$",
    )
    .spawn()
    .unwrap();
    let backends = cluster.backends();
    let (pid, bytes) = loop {
        let (pid, bytes) = backends.memory_sizes().into_iter().max_by_key(|(_, bytes)| *bytes).unwrap();
        if bytes > 60_000_000 {
            break (pid, bytes);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(bytes < 256 * 1024 * 1024, "{bytes}");
    // When memory is out, the kernel takes it rather than the postmaster.
    let score = |pid| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse::<i32>().unwrap();
    assert!(score(pid) > score(scratch.postmaster().unwrap().pid));
    assert_eq!(psql(&cluster, &format!("select pg_terminate_backend({pid})")), "t");
    busy.wait().unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn another_versions_cluster_is_refused_untouched() {
    let scratch = Scratch::new();
    let config = scratch.config();
    let data = config.dir.join("data");
    fs::create_dir_all(&data).unwrap();
    config.run_as.own(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "12\n").unwrap();
    let error = Cluster::open(config).await.unwrap_err().to_string();
    assert!(error.contains("PostgreSQL 12") && error.contains("found: "), "{error}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
}

#[tokio::test]
async fn a_start_that_fails_shows_the_log() {
    let scratch = Scratch::new();
    let config = scratch.config();
    Cluster::open(config.clone()).await.unwrap().stop().await;
    fs::write(config.dir.join("data/custom.conf"), "no_such_setting = 1\n").unwrap();
    config.run_as.own(&config.dir.join("data/custom.conf")).unwrap();
    let error = Cluster::open(config).await.unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn whoever_floods_the_log_fills_no_disk_and_stops_nobody() {
    let scratch = Scratch::new();
    let mut config = scratch.config();
    config.log_bytes = 1024 * 1024;
    let (dir, bytes) = (config.dir.clone(), config.log_bytes);
    let log = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let taken = || (log("postgresql.log").len() + log("postgresql.log.1").len()) as u64;
    let cluster = Cluster::open(config.clone()).await.unwrap();
    psql(&cluster, "create table t (i int)");
    // 800 MB in four sessions; lines of a few bytes fill as well as long ones; and what no setting silences.
    let long = "do $$ begin for i in 1..50 loop raise warning '%', repeat('x', 4000000); end loop; end $$";
    let short = "do $$ begin for i in 1..30000 loop raise log 'x'; end loop; end $$";
    let memory = "do $$ begin for i in 1..300 loop begin perform repeat('x', 900000000); \
                  exception when out_of_memory then null; end; end loop; end $$";
    let flood = |cluster: &Cluster| {
        let attack = |sql: &&str| {
            let quiet = format!("set client_min_messages = error; {sql}");
            psql_command(cluster, cluster.socket_dir(), &quiet).spawn().unwrap()
        };
        [long, long, short, memory].iter().map(attack).collect::<Vec<_>>()
    };
    let mut attackers = flood(&cluster);
    let mut writes = 0;
    while attackers.iter_mut().any(|attacker| attacker.try_wait().unwrap().is_none()) {
        psql(&cluster, "insert into t values (1)");
        writes += 1;
        assert!(taken() <= bytes, "{}", taken());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(writes > 2, "{writes}");
    assert!(log("postgresql.log").contains("LaunchDB: the server says too much"));

    // While nobody reads, the server waits for nobody either.
    let mut attackers = flood(&cluster);
    drop(cluster);
    for attacker in &mut attackers {
        assert!(attacker.wait().unwrap().success());
    }
    assert!(taken() <= bytes, "{}", taken());
    let before = scratch.postmaster();
    let cluster = Cluster::open(config).await.unwrap();
    assert_eq!(scratch.postmaster(), before, "it is taken over");
    // It is heard again, and its last words too.
    while !log("postgresql.log").contains("a word") {
        psql(&cluster, "do $$ begin raise log 'a word'; end $$");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.stop().await;
    assert!(log("postgresql.log").contains("database system is shut down"));
    assert!(taken() <= bytes, "{}", taken());
}

#[tokio::test]
async fn a_server_that_writes_its_log_itself_is_not_taken_over() {
    let scratch = Scratch::new();
    drop(Cluster::open(scratch.config()).await.unwrap());
    let before = scratch.postmaster();
    fs::remove_file(scratch.config().dir.join("postgresql.log.pipe")).unwrap();
    let cluster = Cluster::open(scratch.config()).await.unwrap();
    assert_ne!(scratch.postmaster(), before);
    cluster.stop().await;
}
