//! A service over a fresh database with the baseline, and a client that shows a key as clients do.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use base::auth_settings::HookSettings;
use base::jwt::{JwtKey, JwtKeys};
use base::project::DatabaseTarget;
use base::settings::{DataApiSettings, LimitSettings, StorageSettings};
use base::signing::SigningKeys;
use base::{AuthSettings, Clock, Project, ProjectRef, ProjectStatus, ProjectTable, Secret, WriteGate, jwt};
use http::HeaderMap;
use mailer::{Mailer, MailerConfig};
use pg::{Budget, PoolConfig, ServicePools};
use serde_json::{Map, Value, json};
use test_support::{TestCluster, TestDatabase};
use tokio_util::task::TaskTracker;
use web::{ApiKeyCheck, ClientIp, Protocol, Rejection};

use crate::{Auth, AuthConfig};

pub(super) const SECRET: &str = "a secret of the project that only this test knows";
const AUTHENTICATOR: &str = "auth_test_authenticator";
const AUTHENTICATOR_PASSWORD: &str = "authenticator";

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// The baseline's files that the service needs, in their order.
const BASELINE: [&str; 3] = [
    include_str!("../../../platform/src/baseline/0001_foundation.sql"),
    include_str!("../../../platform/src/baseline/0002_auth.sql"),
    include_str!("../../../platform/src/baseline/0008_auth_mail.sql"),
];

/// What a request shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'a> {
    Nothing,
    Anon,
    Secret,
    /// A user's access token beside the anon key.
    User(&'a str),
}

/// Addresses of the test's own in place of those of services elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Services<'a> {
    pub(super) captcha_verifier: Option<&'a str>,
    pub(super) sms: Option<&'a str>,
}

pub(super) struct Server {
    pub(super) database: TestDatabase,
    pub(super) project: Arc<Project>,
    pub(super) clock: Clock,
    /// Where requests come from.
    pub(super) ip: IpAddr,
    auth: Auth,
    keys: ApiKeyCheck,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    /// The error's code in either shape; "" for none.
    pub(super) fn code(&self) -> &str {
        self.body["error_code"].as_str().or(self.body["code"].as_str()).unwrap_or_default()
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_else(|| panic!("{name} in {}", self.body))
    }

    pub(super) fn location(&self) -> &str {
        self.headers["location"].to_str().unwrap()
    }

    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

/// A mail in the queue.
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) kind: String,
    pub(super) recipient: String,
    pub(super) data: Value,
}

impl Mail {
    pub(super) fn code(&self) -> &str {
        self.data["email_data"]["token"].as_str().unwrap()
    }

    pub(super) fn token(&self) -> &str {
        self.data["email_data"]["token_hash"].as_str().unwrap()
    }

    /// The link's path and query below the service's base.
    pub(super) fn link(&self) -> &str {
        let url = self.data["confirmation_url"].as_str().unwrap();
        url.strip_prefix("https://base.example/p/proj_authtest/auth/v1").unwrap()
    }
}

async fn template(cluster: &Arc<TestCluster>) -> String {
    cluster
        .once("auth_roles", async || {
            let client = cluster.connect("postgres").await;
            client.batch_execute("set launchdb.owner_role = 'postgres'").await.unwrap();
            client.batch_execute(include_str!("../../../platform/src/baseline/cluster_roles.sql")).await.unwrap();
            let role = format!(
                "create role {AUTHENTICATOR} login noinherit password '{AUTHENTICATOR_PASSWORD}';
                 grant anon, authenticated, service_role, supabase_auth_admin to {AUTHENTICATOR}"
            );
            client.batch_execute(&role).await.unwrap();
        })
        .await;
    let version = base::digest::sha256_hex(BASELINE.concat().as_bytes());
    cluster
        .template_database(&format!("auth_{}", &version[..12]), async |url| {
            let client = test_support::connect(&url).await;
            client.batch_execute("set launchdb.owner_role = 'postgres'").await.unwrap();
            client.batch_execute(include_str!("../../../platform/src/baseline/ledger.sql")).await.unwrap();
            for file in BASELINE {
                client.batch_execute(&format!("begin; {file}; commit")).await.unwrap();
            }
        })
        .await
}

fn service(clock: &Clock, private_targets_allowed: bool, services: Services<'_>) -> Auth {
    let rules = outbound::Rules { private_targets_allowed, ..outbound::Rules::default() };
    let outbound = outbound::Client::new(rules).unwrap();
    let pool = PoolConfig { max_connections: 6, ..PoolConfig::default() };
    let pools = ServicePools::new(Budget::new(6), TaskTracker::new(), pool);
    // Nobody runs it: tests read the queue.
    let mailer = Mailer::new(MailerConfig {
        pools: pools.clone(),
        projects: Arc::new(ProjectTable::new()),
        outbound: outbound.clone(),
        clock: clock.clone(),
        public_url: "https://base.example".to_owned(),
        server: None,
        server_limit: 0,
        kept_in: None,
        hook: None,
    });
    Auth::new(AuthConfig {
        public_url: "https://base.example".to_owned(),
        pools,
        clock: clock.clone(),
        tasks: TaskTracker::new(),
        write_gate: WriteGate::new(),
        outbound,
        mailer,
        captcha_verifier: services.captcha_verifier.map(str::to_owned),
        sms_service: services.sms.map(str::to_owned),
        password_workers: None,
        password_queue: 1_000,
    })
}

impl Server {
    /// With settings that let tests do many things at once.
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut AuthSettings)) -> Self {
        Self::with_services(Services::default(), change).await
    }

    /// With services elsewhere that are the test's own.
    pub(super) async fn with_services(services: Services<'_>, change: impl FnOnce(&mut AuthSettings)) -> Self {
        let mut settings = AuthSettings {
            site_url: "https://app.example.org".to_owned(),
            uri_allow_list: "https://app.example.org/**".to_owned(),
            smtp_max_frequency: 0,
            rate_limit_anonymous_users: 10_000,
            rate_limit_email_sent: 10_000,
            rate_limit_otp: 10_000,
            rate_limit_token_refresh: 10_000,
            rate_limit_verify: 10_000,
            ..AuthSettings::default()
        };
        change(&mut settings);
        let cluster = TestCluster::shared();
        let template = template(&cluster).await;
        let database = cluster.create_database(Some(&template)).await;
        let project = Project {
            project_ref: ProjectRef::parse("proj_authtest").unwrap(),
            status: ProjectStatus::Active,
            revision: 1,
            database: DatabaseTarget {
                host: "127.0.0.1".to_owned(),
                port: cluster.port(),
                database: database.name().to_owned(),
                user: AUTHENTICATOR.to_owned(),
                password: Secret::new(AUTHENTICATOR_PASSWORD.to_owned()),
            },
            jwt_keys: JwtKeys::new(vec![JwtKey::secret(SECRET.as_bytes())]),
            signing: SigningKeys::new(SECRET.as_bytes(), &[]).unwrap(),
            api_keys: Vec::new(),
            legacy_keys_enabled: true,
            data_api: DataApiSettings::default(),
            auth: Arc::new(settings),
            limits: LimitSettings::default(),
            storage: StorageSettings::default(),
            s3: base::project::S3Keys::default(),
            custom_domains: Vec::new(),
        };
        let clock = Clock::system();
        let auth = service(&clock, true, services);
        let keys = ApiKeyCheck::new();
        Self { database, project: Arc::new(project), clock, ip: CLIENT, auth, keys }
    }

    /// The same project in a service that lets projects reach public addresses only.
    pub(super) async fn closed(&self) -> Self {
        Self {
            database: TestCluster::shared().create_database(None).await,
            project: self.project.clone(),
            clock: self.clock.clone(),
            ip: self.ip,
            auth: service(&self.clock, false, Services::default()),
            keys: ApiKeyCheck::new(),
        }
    }

    /// The same service and database with other settings, as after a change through the platform API.
    pub(super) fn set(&mut self, change: impl FnOnce(&mut AuthSettings)) {
        let mut project = Project::clone(&self.project);
        let mut settings = AuthSettings::clone(&project.auth);
        change(&mut settings);
        project.auth = Arc::new(settings);
        project.revision += 1;
        self.project = Arc::new(project);
    }

    pub(super) fn key(&self, role: &str) -> String {
        jwt::sign_hs256(SECRET.as_bytes(), &json!({ "role": role, "ref": self.project.project_ref }))
    }

    pub(super) async fn call(&self, method: &str, path: &str, key: Key<'_>, body: Value) -> Answer {
        self.call_with(method, path, key, &[], body).await
    }

    pub(super) async fn call_with(
        &self,
        method: &str,
        path: &str,
        key: Key<'_>,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.raw(method, path, key, headers, text).await
    }

    pub(super) async fn raw(
        &self,
        method: &str,
        path: &str,
        key: Key<'_>,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        let anon = self.key("anon");
        request = match key {
            Key::Nothing => request,
            Key::Anon => request.header("apikey", &anon),
            Key::Secret => request.header("apikey", self.key("service_role")),
            Key::User(token) => request.header("apikey", &anon).header("authorization", format!("Bearer {token}")),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body)).unwrap();
        let caller = match key {
            Key::Nothing => Ok(web::api_key::anonymous()),
            _ => self.keys.authenticate(&self.project, request.headers(), None, self.clock.unix_seconds()),
        };
        let response = match caller {
            Ok(caller) => {
                request.extensions_mut().insert(self.project.clone());
                request.extensions_mut().insert(caller);
                request.extensions_mut().insert(ClientIp(self.ip));
                self.auth.service().call(request).await.expect("no panic")
            }
            Err(error) => Rejection::from(error).respond(Protocol::auth(request.headers())),
        };
        let (parts, body) = response.into_parts();
        let bytes = web::read_body(body).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Removes what has expired.
    pub(super) async fn sweep(&self) {
        self.auth.sweep(&self.project).await.unwrap();
    }

    /// The mails that wait, oldest first.
    pub(super) async fn mails(&self) -> Vec<Mail> {
        const SQL: &str = "select kind, recipient, data from _launchdb.mail_queue where sent_at is null order by id";
        let rows = self.database.connect().await.query(SQL, &[]).await.unwrap();
        rows.iter().map(|row| Mail { kind: row.get(0), recipient: row.get(1), data: row.get(2) }).collect()
    }

    pub(super) async fn last_mail(&self) -> Mail {
        self.mails().await.pop().expect("a mail waits")
    }

    /// One number that a query of the superuser has for answer.
    pub(super) async fn count(&self, sql: &str) -> i64 {
        self.database.connect().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// A user who has confirmed their address.
    pub(super) async fn user(&self, email: &str, password: &str) -> Value {
        let body = json!({ "email": email, "password": password, "email_confirm": true });
        self.call("POST", "/admin/users", Key::Secret, body).await.expect(200).body
    }

    /// A session of a user.
    pub(super) async fn sign_in(&self, email: &str, password: &str) -> Answer {
        let body = json!({ "email": email, "password": password });
        self.call("POST", "/token?grant_type=password", Key::Anon, body).await
    }

    pub(super) async fn refresh(&self, token: &str) -> Answer {
        let body = json!({ "refresh_token": token });
        self.call("POST", "/token?grant_type=refresh_token", Key::Anon, body).await
    }

    /// The claims of an access token of this project.
    pub(super) fn claims(&self, token: &str) -> Map<String, Value> {
        Map::clone(&self.project.jwt_keys.verify_signature(token).unwrap().map)
    }
}

/// A hook that is a function of the schema `public`.
pub(super) fn hook(name: &str) -> HookSettings {
    HookSettings { uri: format!("pg-functions://postgres/public/{name}"), secrets: None }
}
