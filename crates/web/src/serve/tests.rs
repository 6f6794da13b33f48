use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

struct Running {
    addr: SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    metrics: HttpMetrics,
}

async fn start(config: ServeConfig) -> Running {
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                "slow"
            }),
        )
        .route("/echo", post(|body: bytes::Bytes| async move { body }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let metrics = HttpMetrics::default();
    let task = tokio::spawn(serve(listener, Arc::new(router), config, metrics.clone(), shutdown.clone()));
    Running { addr, shutdown, task, metrics }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut text)).await.unwrap();
    String::from_utf8(text).unwrap()
}

async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

#[tokio::test]
async fn requests_share_a_connection() {
    let server = start(ServeConfig::default()).await;
    let text = ask(
        server.addr,
        "GET / HTTP/1.1\r\nhost: a\r\n\r\nPOST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi\
         GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    assert_eq!(text.matches("hello").count(), 2, "{text}");
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert_eq!(server.metrics.connections.get(), 0);
}

#[tokio::test]
async fn the_end_waits_for_requests_in_work() {
    let server = start(ServeConfig::default()).await;
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut busy = TcpStream::connect(server.addr).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.shutdown.cancel();
    let text = read_all(&mut busy).await;
    assert!(text.ends_with("slow"), "{text}");
    assert!(read_all(&mut idle).await.ends_with("hello"));
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn requests_beyond_the_drain_are_dropped() {
    let server = start(ServeConfig { drain_deadline: Duration::from_millis(50), ..ServeConfig::default() }).await;
    let mut busy = TcpStream::connect(server.addr).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    timeout(Duration::from_secs(2), server.task).await.unwrap().unwrap();
    assert_eq!(read_all(&mut busy).await, "");
}

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let server = start(ServeConfig { idle_timeout: Duration::from_secs(1), ..ServeConfig::default() }).await;
    let mut slow = TcpStream::connect(server.addr).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    assert_eq!(read_all(&mut slow).await, "");
    server.shutdown.cancel();
    server.task.await.unwrap();
}

#[tokio::test]
async fn one_connection_too_many_is_told() {
    let server = start(ServeConfig { max_connections: 1, ..ServeConfig::default() }).await;
    let mut first = TcpStream::connect(server.addr).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0; 1];
    first.read_exact(&mut byte).await.unwrap();
    let text = ask(server.addr, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    let body = text.split("\r\n\r\n").nth(1).unwrap();
    assert!(text.contains(&format!("Content-Length: {}\r\n", body.len())), "{text}");
    drop(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let text = ask(server.addr, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert_eq!(server.metrics.connections_refused.get(), 1);
}

#[tokio::test]
async fn an_oversized_head_and_nonsense_are_refused() {
    let server = start(ServeConfig { max_head_bytes: 4096, ..ServeConfig::default() }).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(8000));
    assert!(ask(server.addr, &long).await.starts_with("HTTP/1.1 431"));
    assert!(ask(server.addr, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}
