//! The service at the wire: requests into it, a project's database and a folder below.

mod attacks;
mod bucket;
mod change;
mod hostile;
mod limits;
mod list;
mod maintain;
mod matrix;
mod object;
mod reconcile;
mod render;
mod s3;
mod s3_multipart;
mod sign;
mod tus;

use std::sync::Arc;

use axum::body::Body;
use base::jwt::{JwtKey, JwtKeys};
use base::project::DatabaseTarget;
use base::settings::{DataApiSettings, LimitSettings, StorageSettings};
use base::signing::SigningKeys;
use base::{Caller, Clock, Credential, Project, ProjectRef, ProjectStatus, RoleName, Secret, WriteGate, random};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use pg::{Budget, PoolConfig, ServicePools};
use serde_json::{Value, json};
use test_support::{ScratchDir, TestCluster, TestDatabase};
use tokio_util::task::TaskTracker;

use crate::backend::{FsBackend, Staging};
use crate::{Storage, StorageConfig};

const LOGIN: &str = "storage_test_authenticator";
const SECRET: &[u8] = b"a secret of the tests that is long enough";

const USER_A: &str = "11111111-1111-4111-8111-111111111111";
const USER_B: &str = "22222222-2222-4222-8222-222222222222";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Without any key.
    Nobody,
    Anon,
    User(&'static str),
    Service,
}

impl Who {
    fn caller(self) -> Caller {
        let (role, claims, credential) = match self {
            Self::Nobody => return web::api_key::anonymous(),
            Self::Anon => (RoleName::ANON, json!({"role": "anon"}), Credential::PublishableKey),
            Self::User(id) => (
                RoleName::AUTHENTICATED,
                json!({"role": "authenticated", "sub": id, "aud": "authenticated"}),
                Credential::UserToken,
            ),
            Self::Service => (RoleName::SERVICE_ROLE, json!({"role": "service_role"}), Credential::SecretKey),
        };
        Caller { role: RoleName::new(role), claims: claims.to_string().into(), credential }
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `200`, or what an error says of itself: `400 404 not_found`.
    fn outcome(&self) -> String {
        if self.status.as_u16() < 400 {
            return self.status.as_str().to_owned();
        }
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(body) => format!(
                "{} {} {}",
                self.status.as_str(),
                body["statusCode"].as_str().unwrap_or("-"),
                body["error"].as_str().unwrap_or("-")
            ),
            Err(_) => format!("{} {}", self.status.as_str(), self.text()).trim_end().to_owned(),
        }
    }
}

/// A project with a service of its own.
struct World {
    storage: Storage,
    project: Arc<Project>,
    database: TestDatabase,
    root: ScratchDir,
    clock: Clock,
    gate: WriteGate,
    tasks: TaskTracker,
}

/// What a project's database is made of, as far as storage goes.
const BASELINE: [&str; 5] = [
    include_str!("../../../platform/src/baseline/0001_foundation.sql"),
    include_str!("../../../platform/src/baseline/0002_auth.sql"),
    include_str!("../../../platform/src/baseline/0003_storage.sql"),
    include_str!("../../../platform/src/baseline/0009_storage_removals.sql"),
    include_str!("../../../platform/src/baseline/0010_storage_removals_rights.sql"),
];
const LEDGER: &str = include_str!("../../../platform/src/baseline/ledger.sql");
const ROLES: &str = include_str!("../../../platform/src/baseline/cluster_roles.sql");
const OWNER_ROLE: &str = "set launchdb.owner_role = 'postgres'; set search_path = pg_catalog, pg_temp;";

async fn template(cluster: &TestCluster) -> String {
    cluster
        .once("storage_roles", async || {
            let client = cluster.connect("postgres").await;
            client.batch_execute(&format!("begin; {OWNER_ROLE} {ROLES} commit;")).await.unwrap();
            let login = format!(
                "create role {LOGIN} login noinherit password 'x';
                 grant anon, authenticated, service_role, supabase_storage_admin to {LOGIN};"
            );
            client.batch_execute(&login).await.unwrap();
        })
        .await;
    let fingerprint = base::digest::sha256_hex(BASELINE.concat().as_bytes());
    cluster
        .template_database(&format!("storage_{}", &fingerprint[..12]), async |url| {
            let client = test_support::connect(&url).await;
            client.batch_execute(OWNER_ROLE).await.unwrap();
            client.batch_execute(LEDGER).await.unwrap();
            for file in BASELINE {
                client.batch_execute(&format!("begin; {file}; commit;")).await.unwrap();
            }
        })
        .await
}

impl World {
    async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Project, &mut StorageConfig)) -> Self {
        let cluster = TestCluster::shared();
        let template = template(&cluster).await;
        let project_ref = ProjectRef::parse(&format!("proj_{}", random::hex::<8>())).unwrap();
        let database = cluster.create_database_named(project_ref.as_str(), Some(&template)).await;
        let mut project = Project {
            database: DatabaseTarget {
                host: "127.0.0.1".into(),
                port: cluster.port(),
                database: project_ref.as_str().into(),
                user: LOGIN.into(),
                password: Secret::new("x".into()),
            },
            project_ref,
            status: ProjectStatus::Active,
            revision: 1,
            jwt_keys: JwtKeys::new(vec![JwtKey::secret(SECRET)]),
            api_keys: Vec::new(),
            signing: SigningKeys::new(SECRET, &[]).unwrap(),
            auth: Arc::default(),
            legacy_keys_enabled: true,
            data_api: DataApiSettings::default(),
            limits: LimitSettings::default(),
            storage: StorageSettings::default(),
            s3: base::project::S3Keys::default(),
            custom_domains: Vec::new(),
        };
        let root = ScratchDir::new();
        let (tasks, clock, gate) = (TaskTracker::new(), Clock::system(), WriteGate::new());
        let backend = FsBackend::open(root.path()).unwrap();
        let mut config = StorageConfig {
            pools: ServicePools::new(Budget::unshared(6), TaskTracker::new(), PoolConfig::default()),
            staging: Staging::new(backend.root()),
            backend: Arc::new(backend),
            disk_reserve: 0,
            project_bytes: 0,
            write_gate: gate.clone(),
            public_url: "https://base.example".into(),
            signed_url_ttl: 3600,
            max_uploads: 64,
            max_uploads_per_project: 32,
            keys: Arc::new(web::ApiKeyCheck::new()),
            render: crate::RenderLimits::default(),
            rounds: crate::Rounds::default(),
            tasks: tasks.clone(),
            clock: clock.clone(),
        };
        change(&mut project, &mut config);
        Self { storage: Storage::new(config), project: Arc::new(project), database, root, clock, gate, tasks }
    }

    /// With buckets `open` and `private`, policies that let everybody read and users do everything with what is theirs.
    async fn with_buckets() -> Self {
        let world = Self::start().await;
        world.add_buckets().await;
        world
    }

    async fn add_buckets(&self) {
        self.sql(
            "insert into storage.buckets (id, name, public) values ('open', 'open', true), ('private', 'private', false);
             create policy own on storage.objects for all to authenticated
                 using (owner_id = auth.uid()::text) with check (owner_id = auth.uid()::text);
             create policy see on storage.buckets for select to authenticated using (true);",
        )
        .await;
    }

    async fn sql(&self, sql: &str) {
        self.database.execute(sql).await;
    }

    /// One value as text.
    async fn value(&self, sql: &str) -> String {
        let row = self.database.connect().await.query_one(&format!("select ({sql})::text"), &[]).await.unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".to_owned())
    }

    async fn send(&self, who: Who, request: Request<Body>) -> Answer {
        let mut request = request;
        request.extensions_mut().insert(self.project.clone());
        request.extensions_mut().insert(who.caller());
        let response = self.storage.service().call(request).await.expect("the service does not panic");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// `METHOD /path`, headers, body.
    async fn ask(&self, who: Who, line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(who, request.body(body.into()).unwrap()).await
    }

    async fn get(&self, who: Who, path: &str) -> Answer {
        self.ask(who, &format!("GET {path}"), &[], Body::empty()).await
    }

    async fn post(&self, who: Who, path: &str, body: Value) -> Answer {
        self.ask(who, &format!("POST {path}"), &[("content-type", "application/json")], body.to_string()).await
    }

    /// Uploads a text.
    async fn put(&self, who: Who, path: &str, content: &'static str) -> Answer {
        let headers = [("content-type", "text/plain"), ("cache-control", "max-age=3600"), ("x-upsert", "true")];
        self.ask(who, &format!("POST /object/{path}"), &headers, content).await
    }

    /// What is in the folder of the project, as paths.
    fn files(&self) -> Vec<String> {
        fn walk(folder: &std::path::Path, found: &mut Vec<String>, base: &std::path::Path) {
            let Ok(entries) = std::fs::read_dir(folder) else { return };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found, base);
                } else {
                    found.push(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let mut found = Vec::new();
        walk(self.root.path(), &mut found, self.root.path());
        found.sort();
        found
    }

    /// Has the project's files counted while nothing comes or goes.
    async fn counted(&self) {
        self.settled().await;
        let (shared, id) = (&self.storage.shared, &self.project.project_ref);
        assert!(shared.quotas.counting_begins(id), "nobody else does");
        shared.clone().count(id.clone()).await;
    }

    /// Waits until what was deleted is gone from the disk.
    async fn settled(&self) {
        test_support::eventually("the list of removals is empty", async || {
            (self.value("select count(*) from _launchdb.storage_removals").await == "0").then_some(())
        })
        .await;
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }
}
