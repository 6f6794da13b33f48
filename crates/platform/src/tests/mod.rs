//! The platform API at the wire: requests into the router, a real PostgreSQL below.

mod api_keys;
mod audit;
mod bad_input;
mod certificates;
mod domains;
mod extensions;
mod internal;
mod owners;
mod projects;
mod required_fields;
mod rotation;
mod routes;
mod s3_keys;
mod settings;
mod signing_keys;
mod slow_queries;
mod sql;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use base::project::DatabaseTarget;
use base::sealed::MasterKey;
use base::{Clock, ProjectRef, ProjectTable, Secret, random};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use test_support::TestCluster;
use tower::ServiceExt;
use web::ClientIp;

use crate::{Address, Platform, PlatformConfig};

const OWNER: &str = "owner@example.org";
const PASSWORD: &str = "a password of the first owner";

/// A control plane of its own in the shared cluster.
pub(crate) struct Server {
    cluster: Arc<TestCluster>,
    pub(crate) platform: Platform,
    projects: Arc<ProjectTable>,
    clock: Clock,
    router: Router,
    /// Of the first owner, an administrator.
    token: String,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

pub(crate) fn config(cluster: &TestCluster) -> PlatformConfig {
    let name = format!("platform_{}", random::hex::<6>());
    let target = |database: &str, user: &str, password: &str| DatabaseTarget {
        host: "127.0.0.1".into(),
        port: cluster.port(),
        database: database.into(),
        user: user.into(),
        password: Secret::new(password.into()),
    };
    PlatformConfig {
        database: target(&name, &name, &random::password()),
        admin: target("postgres", cluster.superuser(), cluster.superuser_password()),
        master_key: Arc::new(MasterKey::from_base64(&MasterKey::generate_base64(), 1).unwrap()),
        public_url: "http://localhost:8000".into(),
        domain: Some("base.example".into()),
        sign_up_allowed: false,
        retention: Duration::from_secs(7 * 24 * 3600),
        spare_count: 0,
        new_certificates_per_week: 40,
        database_address: Address { host: "127.0.0.1".into(), port: cluster.port() },
        pooler_address: None,
        service_pooler: None,
        ceilings: crate::Ceilings::default(),
        setting_defaults: crate::SettingDefaults::default(),
        clock: Clock::system(),
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut PlatformConfig)) -> Self {
        let cluster = TestCluster::shared();
        let mut config = config(&cluster);
        change(&mut config);
        let clock = config.clock.clone();
        let projects = Arc::new(ProjectTable::new());
        let platform = Platform::start(config, projects.clone()).await.unwrap();
        let password = Some(Secret::new(PASSWORD.to_owned()));
        let first = platform.ensure_first_owner(OWNER, password).await.unwrap().unwrap();
        assert!(first.password.is_none());
        let token = platform.create_cli_session(&first.id).await.unwrap().expose().clone();
        let router = platform.router();
        Self { cluster, platform, projects, clock, router, token }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// As somebody with `token`; an empty one is none.
    async fn call_as(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        self.call_from([192, 0, 2, 1], token, method, path, body).await
    }

    /// The same from a client's address.
    async fn call_from(&self, ip: [u8; 4], token: &str, method: &str, path: &str, body: Value) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let mut request = request.header("content-type", "application/json").body(body).unwrap();
        request.extensions_mut().insert(ClientIp(IpAddr::from(ip)));
        self.send(request).await
    }

    /// As the first owner.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_as(&self.token, method, path, body).await
    }

    /// As the first owner; has to succeed.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.call(method, path, body).await;
        assert!(answer.status.is_success(), "{method} {path}: {} {}", answer.status, answer.body);
        answer.body
    }

    /// A token of another owner, no administrator.
    async fn other_owner(&self) -> String {
        let email = format!("{}@example.org", random::hex::<4>());
        let password = "another owner's password";
        self.ok("POST", "/api/owners", json!({ "email": email, "password": password })).await;
        let login = json!({ "email": email, "password": password });
        self.call_as("", "POST", "/api/owners/login", login).await.body["token"].as_str().unwrap().to_owned()
    }

    /// The id of a fresh project.
    pub(crate) async fn project(&self) -> String {
        let name = format!("project {}", random::hex::<4>());
        self.ok("POST", "/api/projects", json!({ "name": name })).await["id"].as_str().unwrap().to_owned()
    }

    fn snapshot(&self, id: &str) -> Option<Arc<base::Project>> {
        self.projects.get(&ProjectRef::parse(id).unwrap())
    }

    /// Everything the platform database has in text form, to look for what must not be there.
    async fn dump(&self) -> String {
        let client = self.cluster.connect(&self.platform.config().database.database).await;
        let mut dump = String::new();
        for table in ["owners", "owner_sessions", "projects", "secrets", "api_keys", "project_settings", "audit_log"] {
            let rows = client.query(&format!("select t::text from platform.{table} t"), &[]).await.unwrap();
            rows.iter().for_each(|row| dump.push_str(row.get(0)));
        }
        dump
    }
}

/// Sends each request as the first owner and compares status and error code.
async fn check(server: &Server, cases: &[(&str, &str, Value, u16, &str)]) {
    for (method, path, body, status, code) in cases {
        let answer = server.call(method, path, body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (*status, *code),
            "{method} {path} {body}: {}",
            answer.body
        );
    }
}

/// Waits until `look` says yes.
async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    test_support::eventually(what, async || look().await.then_some(())).await;
}
