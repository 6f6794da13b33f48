use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::*;

struct Running {
    addr: SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    metrics: HttpMetrics,
    /// Answers of `/large` that were made.
    made: Arc<AtomicUsize>,
}

async fn start(config: ServeConfig) -> Running {
    let made = Arc::new(AtomicUsize::new(0));
    let making = made.clone();
    let large = move || {
        making.fetch_add(1, Ordering::Relaxed);
        async { vec![b'x'; 8 * 1024 * 1024] }
    };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                "slow"
            }),
        )
        .route("/large", get(large))
        .route("/health", get(|| async { "well" }))
        .route("/echo", post(|body: bytes::Bytes| async move { body }));
    let (addr, shutdown, task, metrics) = start_with(Arc::new(router), config).await;
    Running { addr, shutdown, task, metrics, made }
}

async fn start_with<H: Handler>(
    handler: Arc<H>,
    config: ServeConfig,
) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>, HttpMetrics) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let metrics = HttpMetrics::default();
    let task = tokio::spawn(serve(listener, handler, config, metrics.clone(), shutdown.clone()));
    (addr, shutdown, task, metrics)
}

/// Waits until no connection is open.
async fn until_closed(metrics: &HttpMetrics) {
    for _ in 0..200 {
        if metrics.connections.get() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the connection stays open");
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
async fn a_client_that_takes_its_answer_too_slowly_is_cut_off() {
    let (idle_timeout, rate_window) = (Duration::from_secs(600), Duration::from_secs(1));
    let server = start(ServeConfig { idle_timeout, rate_window, ..ServeConfig::default() }).await;
    let mut slow = TcpStream::connect(server.addr).await.unwrap();
    slow.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let trickle = async {
        let mut bytes = [0; 100];
        loop {
            let _ = slow.read(&mut bytes).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = trickle => {}
        () = until_closed(&server.metrics) => {}
    }
    let text = ask(server.addr, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(text.ends_with("hello"), "{text}");
}

#[tokio::test]
async fn no_answer_is_made_while_the_client_takes_none() {
    let server = start(ServeConfig::default()).await;
    let mut greedy = TcpStream::connect(server.addr).await.unwrap();
    let requests = "GET /large HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20);
    greedy.write_all(requests.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(server.made.load(Ordering::Relaxed) <= 2, "{:?} answers wait", server.made);
    // Who reads gets all of them.
    let mut bytes = vec![0; 1024 * 1024];
    let mut read = 0;
    while read < 20 * 8 * 1024 * 1024 {
        read += timeout(Duration::from_secs(10), greedy.read(&mut bytes)).await.unwrap().unwrap();
    }
    assert_eq!(server.made.load(Ordering::Relaxed), 20);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_an_error_for_its_reader() {
    let server = start(ServeConfig { rate_window: Duration::from_secs(1), ..ServeConfig::default() }).await;
    let text = ask(server.addr, "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhi").await;
    assert!(text.starts_with("HTTP/1.1 4"), "{text}");
}

#[tokio::test]
async fn a_request_beyond_its_time_is_given_up_by_its_handler() {
    struct Hanging;
    impl Handler for Hanging {
        async fn handle(&self, _: Request, _: SocketAddr, work: &Work) -> Response {
            work.must_end_in(1);
            poll_fn(|_| if work.is_overdue() { Poll::Ready(()) } else { Poll::Pending }).await;
            Response::new(Body::from("given up"))
        }
    }
    let (addr, ..) = start_with(Arc::new(Hanging), ServeConfig::default()).await;
    // The second one has a time of its own.
    let text =
        ask(addr, "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!(text.matches("given up").count(), 2, "{text}");
}

#[tokio::test]
async fn one_client_cannot_take_every_place_and_health_is_told_to_all() {
    let server = start(ServeConfig { max_connections_per_client: 1, ..ServeConfig::default() }).await;
    let mut first = TcpStream::connect(server.addr).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let text = ask(server.addr, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    let text = ask(server.addr, "GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("well"), "{text}");
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(server.addr).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(read_all(&mut other).await.ends_with("hello"));
}

#[tokio::test]
async fn heads_that_cannot_be_read_are_refused_in_words() {
    let server = start(ServeConfig { max_head_bytes: 4096, ..ServeConfig::default() }).await;
    let check = async |request: &str, status: u16, code: &str| {
        let text = ask(server.addr, request).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("X-Request-Id: ") && head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{text}"
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], code, "{text}");
    };
    check(&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(8000)), 431, "headers_too_large").await;
    check("nonsense\r\n\r\n", 400, "malformed_request").await;
    check("GET / HTTP/1.1\r\nhost a\r\n\r\n", 400, "malformed_request").await;
}
