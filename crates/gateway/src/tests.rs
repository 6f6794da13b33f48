//! Route, credential and status as one table, against a table of projects made by hand.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use base::api_key::{self, ApiKeyKind};
use base::jwt::{JwtKey, JwtKeys, sign_hs256};
use base::project::{ApiKey, DatabaseTarget};
use base::settings::{DataApiSettings, LimitSettings, StatementTimeouts, StorageSettings};
use base::{Caller, Clock, Project, ProjectRef, ProjectStatus, ProjectTable, RoleName, Secret};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use web::byte_budget::ByteBudget;
use web::client_ip::TrustedProxies;
use web::health::HealthPart;
use web::limits::HeadLimits;
use web::log_buffer::LogBuffer;
use web::log_request::{LineFormat, RequestLog};
use web::metrics::HttpMetrics;
use web::overload::InFlight;
use web::rate_limit::{IpRateLimiter, Rate};
use web::{ApiKeyCheck, HttpService, Protocol, Rejection, Work};

use crate::{Gateway, GatewayConfig, Services};

const SECRET_A: &[u8] = b"the secret of project a, 32 bytes";
const SECRET_B: &[u8] = b"the secret of project b, 32 bytes";

fn project(id: &str, secret: &[u8], status: ProjectStatus) -> (Project, Secret<String>) {
    let opaque = api_key::generate(ApiKeyKind::Publishable);
    let project = Project {
        project_ref: ProjectRef::parse(id).unwrap(),
        status,
        revision: 1,
        database: DatabaseTarget {
            host: "127.0.0.1".into(),
            port: 1,
            database: id.into(),
            user: id.into(),
            password: Secret::new(String::new()),
        },
        jwt_keys: JwtKeys::new(vec![JwtKey::secret(secret)]),
        api_keys: vec![ApiKey { id: 1, kind: ApiKeyKind::Publishable, hash: api_key::hash(opaque.expose()) }],
        signing: base::signing::SigningKeys::default(),
        auth: std::sync::Arc::default(),
        legacy_keys_enabled: true,
        data_api: DataApiSettings::default(),
        limits: LimitSettings { max_body_bytes: 100, ..LimitSettings::default() },
        storage: StorageSettings::default(),
        s3: base::project::S3Keys::default(),
        custom_domains: vec![],
    };
    (project, opaque)
}

struct Fixture {
    gateway: Gateway,
    opaque: Secret<String>,
}

fn fixture(limits: impl FnOnce(&mut LimitSettings)) -> Fixture {
    let table = Arc::new(ProjectTable::new());
    let (mut a, opaque) = project("proj_aaa", SECRET_A, ProjectStatus::Active);
    limits(&mut a.limits);
    a.custom_domains = vec!["shop.example".into()];
    let (b, _) = project("proj_bbb", SECRET_B, ProjectStatus::Active);
    let (suspended, _) = project("proj_sss", SECRET_A, ProjectStatus::Suspended);
    let (deleted, _) = project("proj_ddd", SECRET_A, ProjectStatus::Deleted);
    table.replace_all(vec![a, b, suspended, deleted]);
    // Says what it was asked and for whom.
    let rest = HttpService::from_fn(async |request: Request| {
        let caller = request.extensions().get::<Caller>().unwrap();
        let project = request.extensions().get::<Arc<Project>>().unwrap();
        let text = format!("{} {} {}", project.project_ref, caller.role, request.uri());
        match request.uri().path() {
            "/panic" => panic!("a fault of the service"),
            "/echo" => match web::read_body(request.into_body()).await {
                Ok(body) => Response::new(Body::from(body)),
                Err(error) => Rejection::from(error).respond(Protocol::Rest),
            },
            "/cookie" => Response::builder().header("set-cookie", "a=b; Path=/").body(Body::empty()).unwrap(),
            "/large" => Response::new(Body::from("x".repeat(100_000))),
            _ => Response::new(Body::from(text)),
        }
    });
    let own = |name: &'static str| HttpService::from_fn(move |_| std::future::ready(Response::new(Body::from(name))));
    let services = Services {
        rest: Some(rest),
        platform: Some(own("platform")),
        pages: Some(own("pages")),
        ..Services::default()
    };
    let config = GatewayConfig { domain: Some("base.example".into()), ..GatewayConfig::default() };
    let (keys, metrics) = (Arc::new(ApiKeyCheck::new()), HttpMetrics::default());
    let health = web::health::always_healthy();
    let log = RequestLog::new(LogBuffer::new(std::io::sink()), LineFormat::Json);
    let gateway = Gateway::new(config, table, services, health, metrics, log, keys, Clock::system());
    Fixture { gateway, opaque }
}

async fn ask(
    gateway: &Gateway,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (Response<()>, String) {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let (parts, body) = gateway.handle(request, "127.0.0.1:9".parse().unwrap(), &Work::default()).await.into_parts();
    let text = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
    (Response::from_parts(parts, ()), text)
}

#[tokio::test]
async fn who_may_go_where() {
    let Fixture { gateway, opaque } = fixture(|_| {});
    let anon = sign_hs256(SECRET_A, &json!({"role": "anon", "ref": "proj_aaa"}));
    let service = sign_hs256(SECRET_A, &json!({"role": "service_role", "ref": "proj_aaa"}));
    let user = sign_hs256(SECRET_A, &json!({"role": "authenticated", "sub": "u"}));
    let foreign = sign_hs256(SECRET_B, &json!({"role": "anon"}));
    let expired = sign_hs256(SECRET_A, &json!({"role": "authenticated", "sub": "u", "exp": 1}));
    let owner = sign_hs256(SECRET_A, &json!({"role": "postgres", "sub": "u"}));
    let bearer = |token: &str| format!("Bearer {token}");
    let check = async |uri: &str, headers: &[(&str, &str)], status: u16, expected: &str| {
        let (response, text) = ask(&gateway, "GET", uri, headers, "").await;
        assert_eq!(response.status().as_u16(), status, "{uri} {headers:?}: {text}");
        assert!(text.contains(expected), "{uri} {headers:?}: {text}");
        assert!(response.headers().contains_key("x-request-id"));
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    };
    let items = "http://base.example/p/proj_aaa/rest/v1/items?id=eq.1";
    check(items, &[("apikey", &anon)], 200, "proj_aaa anon /items?id=eq.1").await;
    check(items, &[("apikey", &service)], 200, "proj_aaa service_role").await;
    check(items, &[("apikey", opaque.expose())], 200, "proj_aaa anon").await;
    check(items, &[("authorization", &bearer(&anon))], 200, "proj_aaa anon").await;
    check(items, &[("apikey", &anon), ("authorization", &bearer(&user))], 200, "proj_aaa authenticated").await;
    check(&format!("{items}&apikey={anon}"), &[], 200, "/items?id=eq.1").await;
    check("http://proj-aaa.base.example/rest/v1/items", &[("apikey", &anon)], 200, "proj_aaa anon /items").await;
    check("http://base.example/db/proj_aaa/items", &[("apikey", &anon)], 200, "proj_aaa anon /items").await;
    for (headers, code) in [
        (vec![], "No API key found in request"),
        (vec![("apikey", foreign.as_str())], "PGRST30"),
        (vec![("apikey", "sb_publishable_nonsense")], "Invalid API key"),
        (vec![("apikey", user.as_str())], "Invalid API key"),
        (vec![("apikey", "nonsense")], "PGRST30"),
    ] {
        check(items, &headers, 401, code).await;
    }
    for token in [&foreign, &expired, &owner] {
        check(items, &[("apikey", &anon), ("authorization", &bearer(token))], 401, "PGRST30").await;
    }
    check("http://base.example/p/proj_bbb/rest/v1/items", &[("apikey", &anon)], 401, "PGRST30").await;
    check("http://base.example/p/proj_sss/rest/v1/items", &[("apikey", &anon)], 403, "suspended").await;
    for unknown in ["proj_ddd", "proj_zzz", "nonsense", "proj_aaa%00"] {
        check(&format!("http://base.example/p/{unknown}/rest/v1/items"), &[("apikey", &anon)], 404, "No such project")
            .await;
    }
    check("http://base.example/p/proj_aaa/auth/v1/signup", &[("apikey", &anon)], 501, "error_code").await;
    check("http://base.example/p/proj_aaa/storage/v1/bucket", &[("apikey", &anon)], 501, "statusCode").await;
    // A service that is not there yet gives nothing away without a key, but its open routes say what is the matter.
    check("http://base.example/p/proj_aaa/auth/v1/signup", &[], 401, "no_authorization").await;
    check("http://base.example/p/proj_aaa/storage/v1/bucket", &[("apikey", &foreign)], 401, "Unauthorized").await;
    check("http://base.example/p/proj_aaa/auth/v1/.well-known/jwks.json", &[], 501, "not_implemented").await;
    check("http://base.example/p/proj_aaa/storage/v1/object/public/b/o", &[("apikey", "x")], 501, "NotImpl").await;
    check("http://base.example/p/proj_aaa/realtime/v1/websocket", &[("apikey", &anon)], 501, "not_implemented").await;
    check("http://base.example/p/proj_aaa/functions/v1/f", &[("apikey", &anon)], 501, "not_implemented").await;
    check("http://base.example/p/proj_aaa/graphql/v1", &[("apikey", &anon)], 501, "errors").await;
    check("http://base.example/api/projects", &[], 200, "platform").await;
    check("http://base.example/", &[], 200, "pages").await;
    check("http://base.example/health", &[], 200, "ok").await;
    check("http://base.example/nowhere", &[], 404, "Nothing is served").await;
    check("http://base.example/p/proj_aaa/rest/v1/panic", &[("apikey", &anon)], 500, "The request failed").await;
}

#[tokio::test]
async fn a_project_sets_cookies_on_its_own_domain_only() {
    let Fixture { gateway, .. } = fixture(|_| {});
    let anon = sign_hs256(SECRET_A, &json!({"role": "anon"}));
    let check = async |base: &str, expected: usize| {
        let uri = format!("http://{base}/cookie");
        let (response, _) = ask(&gateway, "GET", &uri, &[("apikey", &anon)], "").await;
        let cookies = response.headers().get_all("set-cookie").iter().count();
        assert_eq!((response.status().as_u16(), cookies), (200, expected), "{base}");
    };
    check("base.example/p/proj_aaa/rest/v1", 0).await;
    check("base.example/db/proj_aaa", 0).await;
    check("proj-aaa.base.example/rest/v1", 0).await;
    check("shop.example/rest/v1", 1).await;
}

#[tokio::test]
async fn preflights_need_no_key_and_bodies_have_a_limit() {
    let Fixture { gateway, .. } = fixture(|_| {});
    let items = "http://base.example/p/proj_aaa/rest/v1/items";
    let preflight = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let (response, _) = ask(&gateway, "OPTIONS", items, &preflight, "").await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    // Not every OPTIONS is a browser's: PostgREST and tus answer them too, and a key is never asked for.
    let (response, text) = ask(&gateway, "OPTIONS", items, &[("apikey", "stale")], "").await;
    assert_eq!((response.status().as_u16(), text.as_str()), (200, "proj_aaa anon /items"));
    let unknown = "http://base.example/p/proj_zzz/rest/v1/items";
    let (response, _) = ask(&gateway, "GET", unknown, &[("origin", "https://app.example")], "").await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["access-control-allow-origin"], "*", "a browser sees why");
    let anon = sign_hs256(SECRET_A, &json!({"role": "anon"}));
    let headers = [("apikey", anon.as_str()), ("content-length", "101"), ("origin", "https://app.example")];
    let (response, text) = ask(&gateway, "POST", items, &headers, &"x".repeat(101)).await;
    assert_eq!(response.status(), 413);
    assert_eq!(response.headers()["access-control-allow-origin"], "*", "also on errors");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert!(["code", "message", "details", "hint"].iter().all(|key| body.get(key).is_some()), "{text}");
}

#[tokio::test]
async fn a_project_has_a_rate() {
    let Fixture { gateway, .. } = fixture(|limits| {
        limits.requests_per_second = 1;
        limits.request_burst = 1;
    });
    let anon = sign_hs256(SECRET_A, &json!({"role": "anon"}));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let uri = "http://base.example/p/proj_aaa/rest/v1/items";
        let (response, _) = ask(&gateway, "GET", uri, &[("apikey", &anon)], "").await;
        statuses.push((response.status().as_u16(), response.headers().contains_key("retry-after")));
    }
    assert_eq!(statuses, [(200, false), (200, false), (429, true)]);
    let foreign = sign_hs256(SECRET_B, &json!({"role": "anon"}));
    let uri = "http://base.example/p/proj_bbb/rest/v1/items";
    assert_eq!(ask(&gateway, "GET", uri, &[("apikey", &foreign)], "").await.0.status(), 200, "a neighbour is unharmed");
}

#[tokio::test]
async fn only_listed_origins_get_permissions() {
    let Fixture { gateway, .. } = fixture(|limits| limits.cors_origins = vec!["https://app.example".into()]);
    let anon = sign_hs256(SECRET_A, &json!({"role": "anon"}));
    let items = "http://base.example/p/proj_aaa/rest/v1/items";
    for (origin, allowed) in [("https://app.example", true), ("https://evil.example", false)] {
        let (response, _) = ask(&gateway, "GET", items, &[("apikey", &anon), ("origin", origin)], "").await;
        assert_eq!(response.headers().get("access-control-allow-origin").is_some(), allowed, "{origin}");
    }
}

#[tokio::test]
async fn heads_and_addresses_have_limits() {
    let Fixture { mut gateway, .. } = fixture(|_| {});
    gateway.config.head_limits = HeadLimits { uri_bytes: 100, header_bytes: 1000 };
    let anon = sign_hs256(SECRET_A, &json!({"role": "anon"}));
    let items = "http://base.example/p/proj_aaa/rest/v1/items";
    let (response, text) =
        ask(&gateway, "GET", &format!("{items}?{}", "a".repeat(100)), &[("apikey", &anon)], "").await;
    assert_eq!(response.status(), 414, "{text}");
    let (response, text) = ask(&gateway, "GET", items, &[("apikey", &anon), ("x", &"a".repeat(1000))], "").await;
    assert_eq!(response.status(), 431, "{text}");
    assert!(text.contains("\"hint\""), "{text}");

    gateway.config.trusted_proxies = TrustedProxies(vec!["127.0.0.1".parse().unwrap()]);
    gateway.ip_limiter = Some(IpRateLimiter::new(Rate::new(1, 0).unwrap(), 100, Instant::now()));
    let from = async |client: &str| {
        let headers = [("apikey", anon.as_str()), ("x-forwarded-for", client)];
        ask(&gateway, "GET", items, &headers, "").await.0.status().as_u16()
    };
    assert_eq!(from("192.0.2.1").await, 200);
    assert_eq!(from("192.0.2.1").await, 429);
    assert_eq!(from("192.0.2.2").await, 200, "each client behind the proxy has its own rate");
    assert_eq!(from("192.0.2.1, 192.0.2.2").await, 429, "what the client itself wrote does not count");
    let (response, _) = ask(&gateway, "GET", "http://base.example/health", &[], "").await;
    assert_eq!(response.status(), 200, "health has no rate");
}

#[tokio::test]
async fn work_in_flight_is_bounded() {
    let Fixture { mut gateway, .. } = fixture(|_| {});
    gateway.in_flight = InFlight::new(0, Default::default());
    let (response, text) = ask(&gateway, "GET", "http://base.example/p/proj_aaa/rest/v1/items", &[], "").await;
    assert_eq!(response.status(), 503, "{text}");
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(ask(&gateway, "GET", "http://base.example/health", &[], "").await.0.status(), 200);
}

#[tokio::test]
async fn a_request_has_one_readable_host() {
    let Fixture { gateway, .. } = fixture(|_| {});
    let check = async |hosts: &[&[u8]], status: u16| {
        let mut request = Request::builder().uri("/health");
        for host in hosts {
            request = request.header("host", *host);
        }
        let peer = "127.0.0.1:9".parse().unwrap();
        let response = gateway.handle(request.body(Body::empty()).unwrap(), peer, &Work::default()).await;
        assert_eq!(response.status().as_u16(), status, "{hosts:?}");
    };
    check(&[b"base.example"], 200).await;
    check(&[], 200).await;
    check(&[b"base.example", b"base.example"], 400).await;
    check(&[b"b\xe4se.example"], 400).await;
}

#[tokio::test]
async fn answers_that_nobody_takes_have_a_budget() {
    let Fixture { mut gateway, .. } = fixture(|_| {});
    gateway.answers = ByteBudget::new(150_000);
    let anon = sign_hs256(SECRET_A, &json!({"role": "anon"}));
    let get = async |method: &str, path: &str| {
        let request = Request::builder().method(method).header("apikey", &anon);
        let request = request.uri(format!("http://base.example/p/proj_aaa/rest/v1/{path}")).body(Body::empty());
        gateway.handle(request.unwrap(), "127.0.0.1:9".parse().unwrap(), &Work::default()).await
    };
    let first = get("GET", "large").await;
    assert_eq!(first.status(), 200);
    let second = get("GET", "large").await;
    assert_eq!((second.status().as_u16(), second.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
    assert_eq!(get("GET", "items").await.status(), 200, "short ones go on");
    assert_eq!(get("POST", "large").await.status(), 200, "what was done is told");
    drop(first);
    assert_eq!(get("GET", "large").await.status(), 200);
    assert_eq!(gateway.answers.held(), 0);
}

#[tokio::test]
async fn a_body_on_its_way_keeps_nobody_out() {
    let Fixture { mut gateway, .. } = fixture(|_| {});
    gateway.in_flight = InFlight::new(1, Default::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = web::ServeConfig { rate_window: std::time::Duration::from_secs(2), ..web::ServeConfig::default() };
    let serving = web::serve(listener, Arc::new(gateway), config, HttpMetrics::default(), CancellationToken::new());
    let server = tokio::spawn(serving);
    let anon = sign_hs256(SECRET_A, &json!({"role": "anon"}));
    let send = async |line: &str, rest: &str| {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let head = format!("{line} HTTP/1.1\r\nhost: base.example\r\napikey: {anon}\r\nconnection: close\r\n{rest}");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let read = async |mut stream: TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let mut slow = Vec::new();
    for _ in 0..5 {
        slow.push(send("POST /p/proj_aaa/rest/v1/echo", "content-length: 9\r\n\r\nhi").await);
        // It has to be waited for before the next one finds a place.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let text = read(send("GET /p/proj_aaa/rest/v1/items", "\r\n").await).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let mut quick = slow.pop().unwrap();
    quick.write_all(b" there!").await.unwrap();
    assert!(read(quick).await.ends_with("hi there!"));
    for stream in slow {
        let text = read(stream).await;
        assert!(text.starts_with("HTTP/1.1 408") && text.contains("connection: close"), "{text}");
    }
    server.abort();
}

#[test]
fn requests_are_given_up_some_time_after_their_statements_should_have_ended() {
    let check = |role: &str, timeout: u32, path: &str, seconds: u64| {
        let timeouts = StatementTimeouts { anon: timeout, authenticated: 1, service_role: 1 };
        assert_eq!(crate::deadline_seconds(&timeouts, &RoleName::new(role), path), seconds, "{role} {timeout} {path}");
    };
    check("anon", 3_000, "/items", 60);
    check("anon", 60_000, "/items", 135);
    check("anon", 0, "/items", 0);
    check("anon", 3_000, "/rpc/f", 345);
    check("somebody", 60_000, "/items", 60);
}

#[tokio::test]
async fn a_failing_part_is_named() {
    let Fixture { mut gateway, .. } = fixture(|_| {});
    gateway.health = Arc::new(|| vec![HealthPart::ok("platform"), HealthPart::failing("postgres", "no connection")]);
    for path in ["/health", "/api/health"] {
        let (response, text) = ask(&gateway, "GET", &format!("http://base.example{path}"), &[], "").await;
        assert_eq!(response.status(), 503);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["failing"], json!(["postgres"]));
    }
    assert_eq!(ask(&gateway, "DELETE", "http://base.example/health", &[], "").await.0.status(), 405);
}

/// The real server and a real connection: what hyper does with bodies and connections counts too.
#[tokio::test]
async fn over_a_real_connection() {
    let Fixture { gateway, .. } = fixture(|_| {});
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let metrics = HttpMetrics::default();
    let server = tokio::spawn(web::serve(
        listener,
        Arc::new(gateway),
        web::ServeConfig::default(),
        metrics.clone(),
        shutdown.clone(),
    ));
    let anon = sign_hs256(SECRET_A, &json!({"role": "anon"}));
    let ask = async |head: &str, body: &str| {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("{head}\r\nhost: base.example\r\napikey: {anon}\r\nconnection: close\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let items = "/p/proj_aaa/rest/v1/items HTTP/1.1";
    let text = ask(&format!("GET {items}\r\nx-request-id: my-id"), "\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("proj_aaa anon /items"), "{text}");
    assert!(text.contains("x-request-id: my-id\r\n"), "{text}");
    let text = ask(&format!("HEAD {items}"), "\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"), "{text}");
    let text = ask(&format!("POST {items}"), &format!("content-length: 101\r\n\r\n{}", "x".repeat(101))).await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    // Of unknown length, and read by the service: it sees an error in the place of the body's end.
    let chunked = format!("transfer-encoding: chunked\r\n\r\n65\r\n{}\r\n0\r\n\r\n", "x".repeat(101));
    let text = ask("POST /p/proj_aaa/rest/v1/echo HTTP/1.1", &chunked).await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    let text = ask("POST /p/proj_aaa/rest/v1/echo HTTP/1.1", "content-length: 2\r\n\r\nhi").await;
    assert!(text.ends_with("hi"), "{text}");
    for (target, status) in [
        ("GET /p/proj_aaa/rest/v1/items\u{0}x HTTP/1.1", "400"),
        ("GET * HTTP/1.1", "404"),
        ("GET /p/proj_aaa/rest/v1/%ff%00/../x HTTP/1.1", "200"),
        ("GET http://proj-aaa.base.example/rest/v1/x HTTP/1.1", "200"),
        ("BREW /p/proj_aaa/rest/v1/x HTTP/1.1", "200"),
    ] {
        let text = ask(target, "\r\n").await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {text}");
    }
    shutdown.cancel();
    server.await.unwrap();
    assert_eq!(metrics.connections.get(), 0);
}
