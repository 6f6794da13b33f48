//! Clients that begin to log in and say nothing more.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// A connection that was asked for a password.
async fn half_open(scene: &Scene, project: &ProjectRef) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", scene.config.admin.port)).await.unwrap();
    let parameters = format!("user\0{project}\0database\0{project}\0\0");
    let mut message = Vec::new();
    message.extend(u32::try_from(parameters.len() + 8).unwrap().to_be_bytes());
    // Version 3.0.
    message.extend(196_608u32.to_be_bytes());
    message.extend(parameters.as_bytes());
    stream.write_all(&message).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'R', "the server asks who it is");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_finish_logging_in_keeps_nobody_from_dropping_a_database() {
    let scene = Scene::own().await;
    let (hostile, other) = (scene.project().await, scene.project().await);
    let mut silent = half_open(&scene, &hostile).await;
    let config = WatchdogConfig { interval: Duration::from_millis(200), ..WatchdogConfig::default() };
    let shutdown = CancellationToken::new();
    let watching = tokio::spawn(scene.watchdog(config).run(shutdown.clone()));
    // It is in nobody's way yet.
    tokio::time::sleep(Duration::from_millis(500)).await;

    let started = Instant::now();
    scene.admin.batch_execute(&format!("drop database {other}")).await.unwrap();
    // Without the watchdog it takes the 10 s of authentication_timeout.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    shutdown.cancel();
    watching.await.unwrap();
}
