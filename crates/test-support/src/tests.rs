use crate::{TestCluster, connect, eventually};

#[tokio::test]
async fn a_database_comes_from_a_template_and_goes_with_its_value() {
    let cluster = TestCluster::shared();
    let fill = async |url: String| connect(&url).await.batch_execute("create table t (a int)").await.unwrap();
    let template = cluster.template_database("test_support_a", fill).await;
    let again = cluster.template_database("test_support_a", async |_| panic!("made twice")).await;
    assert_eq!(template, again);
    let database = cluster.create_database(Some(&template)).await;
    database.execute("insert into t values (1), (2)").await;
    let count: i64 = database.connect().await.query_one("select count(*) from t", &[]).await.unwrap().get(0);
    assert_eq!(count, 2);
    let name = database.name().to_owned();
    drop(database);
    let client = cluster.connect("postgres").await;
    let left = client.query("select 1 from pg_database where datname = $1", &[&name]).await.unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn the_socket_and_the_port_are_the_same_cluster() {
    let cluster = TestCluster::shared();
    let socket = cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()));
    eventually("the unix socket", async || socket.exists().then_some(())).await;
}

#[tokio::test]
async fn everyone_needs_a_password() {
    let cluster = TestCluster::shared();
    let url = cluster.url_as(cluster.superuser(), "wrong", "postgres");
    let error = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map(|_| ()).unwrap_err();
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("28P01"));
}

#[test]
fn a_scratch_folder_goes_with_its_value() {
    let dir = crate::ScratchDir::new();
    let path = dir.path().to_owned();
    std::fs::write(path.join("file"), "text").unwrap();
    drop(dir);
    assert!(!path.exists());
}
