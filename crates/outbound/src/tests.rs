//! Calls to real servers on loopback, with the operator's allowance on and off.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Redirect;
use axum::routing::{get, post};
use url::Url;

use crate::{Client, ConfiguredBy, Error, Lookup, Request, Rules};

/// A server whose requests are counted.
struct Server {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        let router = Router::new()
            .route("/hello", get(|| async { "hello" }))
            .route("/echo", post(|body: String| async move { body }))
            .route("/away", get(|| async { Redirect::temporary("http://127.0.0.1:1/secret") }))
            .route("/large", get(|| async { Body::from(vec![b'x'; 4096]) }))
            .route("/endless", get(|| async { Body::from_stream(endless()) }))
            .route("/slow", get(|| async { std::future::pending::<&'static str>().await }))
            .layer(axum::middleware::map_request(move |request: axum::extract::Request| {
                counted.fetch_add(1, Ordering::Relaxed);
                std::future::ready(request)
            }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, requests }
    }

    fn count(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn endless() -> impl futures_util::Stream<Item = io::Result<bytes::Bytes>> {
    futures_util::stream::repeat_with(|| Ok(bytes::Bytes::from_static(&[b'x'; 512])))
}

/// Names of the tests; everything else has no address.
fn table() -> Lookup {
    Arc::new(|host| {
        Box::pin(async move {
            let addresses: &[&str] = match host.as_str() {
                "here.example" => &["127.0.0.1"],
                "mapped.example" => &["::ffff:127.0.0.1"],
                "metadata.example" => &["169.254.169.254", "fd00:ec2::254"],
                // The public one is one that nothing answers at (discard prefix of a real network would be impolite).
                "both.example" => &["10.0.0.1", "192.0.1.1", "127.0.0.1"],
                "own.example" => &["192.0.1.77"],
                _ => return Err(io::Error::other("NXDOMAIN")),
            };
            Ok(addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect())
        })
    })
}

fn client(private_targets_allowed: bool) -> Client {
    Client::new(Rules { private_targets_allowed, lookup: table(), ..Rules::default() }).unwrap()
}

fn kind<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Error::Url) => "url",
        Err(Error::NotHttps) => "not https",
        Err(Error::PrivateAddress(_)) => "private",
        Err(Error::Unknown { .. }) => "unknown",
        Err(Error::Busy) => "busy",
        Err(Error::Timeout) => "timeout",
        Err(Error::TooLarge) => "too large",
        Err(Error::Transport(_)) => "transport",
        Err(Error::Setup(_)) => "setup",
    }
}

#[tokio::test]
async fn a_project_reaches_nothing_private_in_whatever_notation() {
    let server = Server::start().await;
    let port = server.port;
    let closed = client(false);
    let check = async |url: String, expected: &str| {
        let result = closed.send(ConfiguredBy::Project, "p", Request::get(Url::parse(&url).unwrap())).await;
        assert_eq!(kind(&result), expected, "{url}: {result:?}");
    };
    check(format!("http://127.0.0.1:{port}/hello"), "not https").await;
    check("http://example.org/".into(), "not https").await;
    for host in
        ["127.0.0.1", "2130706433", "0177.0.0.1", "0x7f.1", "0x7f000001", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]"]
    {
        check(format!("https://{host}:{port}/hello"), "private").await;
    }
    for host in ["[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "169.254.169.254", "[fd00:ec2::254]", "１２７.0.0.1", "10.1"]
    {
        check(format!("https://{host}:{port}/hello"), "private").await;
    }
    for name in ["here.example", "mapped.example", "metadata.example"] {
        check(format!("https://{name}:{port}/hello"), "private").await;
    }
    check("https://nowhere.example/".into(), "unknown").await;
    check(format!("https://user:password@here.example:{port}/"), "url").await;
    for url in ["file:///etc/passwd", "gopher://here.example/", "unix:/run/x"] {
        check(url.into(), "url").await;
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn names_of_the_systems_resolver_are_looked_at_too() {
    let closed = Client::new(Rules::default()).unwrap();
    let result = closed.send(ConfiguredBy::Project, "p", Request::get(Url::parse("https://localhost/").unwrap())).await;
    assert_eq!(kind(&result), "private");
}

#[tokio::test]
async fn the_operator_may_allow_it_and_is_exempt() {
    let server = Server::start().await;
    let get = |host: &str| Request::get(Url::parse(&format!("http://{host}:{}/hello", server.port)).unwrap());
    for (client, by) in [(client(true), ConfiguredBy::Project), (client(false), ConfiguredBy::Operator)] {
        for host in ["127.0.0.1", "here.example", "2130706433"] {
            let response = client.send(by, "p", get(host)).await.unwrap();
            assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"hello"[..]), "{host}");
        }
    }
    assert_eq!(server.count(), 6);
}

#[tokio::test]
async fn redirects_are_handed_back_and_answers_have_a_size_and_a_time() {
    let server = Server::start().await;
    let open = client(true);
    let send = async |path: &str| {
        let url = Url::parse(&format!("http://127.0.0.1:{}{path}", server.port)).unwrap();
        let request = Request { most_bytes: 4095, timeout: Duration::from_millis(300), ..Request::get(url) };
        open.send(ConfiguredBy::Project, "p", request).await
    };
    let away = send("/away").await.unwrap();
    assert_eq!((away.status.as_u16(), away.headers["location"].to_str().unwrap()), (307, "http://127.0.0.1:1/secret"));
    assert_eq!(kind(&send("/large").await), "too large");
    assert_eq!(kind(&send("/endless").await), "too large");
    assert_eq!(kind(&send("/slow").await), "timeout");
    let url = Url::parse(&format!("http://127.0.0.1:{}/echo", server.port)).unwrap();
    let echoed = open.send(ConfiguredBy::Project, "p", Request::post(url, "text/plain", "words")).await.unwrap();
    assert_eq!(&echoed.body[..], b"words");
}

#[tokio::test]
async fn addresses_are_pinned_to_the_public_ones() {
    let closed = client(false);
    let rules = closed.rules();
    let check = async |by: ConfiguredBy, host: &str, expected: Result<Vec<&str>, &str>| {
        let found = rules.addresses(by, host, 25).await;
        match expected {
            Ok(expected) => {
                let texts: Vec<String> = found.unwrap().iter().map(ToString::to_string).collect();
                assert_eq!(texts, expected, "{host}");
            }
            Err(expected) => assert_eq!(kind(&found), expected, "{host}"),
        }
    };
    check(ConfiguredBy::Project, "both.example", Ok(vec!["192.0.1.1:25"])).await;
    check(ConfiguredBy::Operator, "here.example", Ok(vec!["127.0.0.1:25"])).await;
    check(ConfiguredBy::Project, "here.example", Err("private")).await;
    check(ConfiguredBy::Project, "[::1]", Err("private")).await;
    check(ConfiguredBy::Project, "nowhere.example", Err("unknown")).await;
    for text in ["", "a b", "a\r\nb", "a/b", "a@b"] {
        check(ConfiguredBy::Operator, text, Err("unknown")).await;
    }
}

/// What the firewall keeps from the internet, the machine itself would reach.
#[tokio::test]
async fn of_the_machines_own_addresses_a_project_reaches_the_web_servers_port_only() {
    let own: IpAddr = "192.0.1.77".parse().unwrap();
    let rules = |private_targets_allowed| Rules {
        private_targets_allowed,
        lookup: table(),
        own_address: Arc::new(move |ip| ip == own),
        ..Rules::default()
    };
    let closed = Client::new(rules(false)).unwrap();
    for port in [22, 25, 465, 587, 2525, 5432, 6432, 8000, 8443] {
        for host in ["own.example", "192.0.1.77"] {
            let found = closed.rules().addresses(ConfiguredBy::Project, host, port).await;
            assert_eq!(kind(&found), "private", "{host} {port}");
            let url = Url::parse(&format!("https://{host}:{port}/")).unwrap();
            let called = closed.send(ConfiguredBy::Project, "p", Request::get(url)).await;
            assert_eq!(kind(&called), "private", "{host} {port}");
        }
        closed.rules().addresses(ConfiguredBy::Operator, "own.example", port).await.unwrap();
        assert!(
            Client::new(rules(true))
                .unwrap()
                .rules()
                .addresses(ConfiguredBy::Project, "own.example", port)
                .await
                .is_ok()
        );
    }
    closed.rules().addresses(ConfiguredBy::Project, "own.example", 443).await.unwrap();
    closed.check(ConfiguredBy::Project, &Url::parse("https://192.0.1.77/hook").unwrap()).unwrap();
    // Others may be anywhere.
    closed.rules().addresses(ConfiguredBy::Project, "both.example", 8443).await.unwrap();
}
