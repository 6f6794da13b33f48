//! One data API: a project's, or the only one of a drop-in server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::settings::StatementTimeouts;
use base::{Caller, Project, RoleName, WriteGate};
use bytes::Bytes;
use http::request::Parts;
use pg::claims::{Claims, SchemaCheck};
use pg::{Budget, ConnectConfig, Exchange, Pool, PoolConfig, Resets, Route, Streams};
use tokio_util::task::TaskTracker;

use crate::api_request::ApiRequest;
use crate::cache_slot::{CacheSlot, Renewal, Source};
use crate::config::{Config, RoleSettings};
use crate::error::Error;
use crate::large_reads::{LargeReads, is_too_large};
use crate::main_tx::{DbResult, MainTx, search_path};
use crate::plan::{self, ActionPlan, Footprint};
use crate::prepared::{PreparedRead, PreparedReads, Shape};
use crate::query::{self, MainQuery};
use crate::query_log::QueryLog;
use crate::response::{self, Body, Response, ServerTiming, Stage};
use crate::schema_cache::{SchemaCache, SettingReaders, timezones_from, timezones_query};
use crate::session::{SessionParams, Sessions};
use crate::slow_queries::{SlowQueries, SlowQueryLog};

/// How often a request is planned: with a cache that may be old, with one whose loading began before the request came,
/// and with one that was read after it; each of the first two twice. Errors between them leave some room.
const MOST_REPEATS: usize = 8;

/// `statement_timeout` of a read whose rows are handed on while they come, in milliseconds: it runs as long as the client
/// takes them. The role's own timeout holds until the first row, before which PostgreSQL has made all of them.
const HANDING_ON_MS: u32 = 600_000;

/// What the instances of one process share.
#[derive(Clone)]
pub struct Shared {
    pub budget: Arc<Budget>,
    pub tasks: TaskTracker,
    /// How long connecting to a database may take.
    pub connect_timeout: Duration,
    /// The way to projects' databases.
    pub route: Route,
    /// Connections of each pool that short reads share, see [`PoolConfig::interleaved`].
    pub interleaved: usize,
    /// The URL below which projects are at `/p/<id>`, without a slash at its end; None where there are no projects.
    pub public_url: Option<String>,
    /// Closed while nothing may be written.
    pub write_gate: WriteGate,
}

/// How a plan has to fit the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// The schema is the one it was made for.
    Newest,
    /// What changed since does not concern it.
    Unaffected,
    /// In any way: the schema was read after the request came, so that it is as good as any later one. Where changes
    /// come faster than they can be read, this is how a request ends. A drop-in server knows no better.
    Fresh,
}

/// Whose request is planned and run, and with what.
struct On<'a> {
    caller: &'a Caller,
    parts: &'a Parts,
    cache: &'a Arc<SchemaCache>,
    fit: Fit,
}

pub struct Instance {
    pub config: Config,
    pool: Pool,
    connect: ConnectConfig,
    pool_config: PoolConfig,
    cache: Arc<CacheSlot>,
    versioned: bool,
    /// The value of `search_path` for each exposed schema, in the order of `db_schemas`.
    search_paths: Vec<Arc<str>>,
    /// Whether the pool's sessions start with the first of them.
    sessions_have_path: bool,
    /// Whether they start with the timeout of `authenticated`.
    sessions_have_timeout: bool,
    sessions: Sessions,
    prepared: PreparedReads,
    large_reads: LargeReads,
    timeouts: Option<StatementTimeouts>,
    write_gate: WriteGate,
    tasks: TaskTracker,
    /// None where nobody wants to know.
    slow_queries: Option<SlowQueryLog>,
    revision: i64,
}

impl Instance {
    /// The instance of a project's snapshot; takes over what it can of the one before.
    pub(crate) fn of_project(
        project: &Project,
        before: Option<&Self>,
        shared: &Shared,
        slow_queries: &Arc<SlowQueries>,
    ) -> Self {
        let settings = &project.data_api;
        let config = Config::of_project(&project.project_ref, settings, shared.public_url.as_deref());
        let search_paths = search_paths(&config);
        let session_search_path = search_paths.first().map_or("public", |path| path);
        let target = &project.database;
        let connect = ConnectConfig {
            host: target.host.clone(),
            port: target.port,
            database: target.database.clone(),
            user: target.user.clone(),
            password: Some(target.password.clone()),
            session_settings: match shared.route.keeps_sessions() {
                true => vec![
                    ("search_path".to_owned(), session_search_path.to_owned()),
                    ("statement_timeout".to_owned(), settings.statement_timeout_ms.authenticated.to_string()),
                ],
                false => Vec::new(),
            },
            connect_timeout: shared.connect_timeout,
        };
        let pool_config = shared.route.pool(PoolConfig {
            max_connections: usize::try_from(settings.db_pool).unwrap_or(usize::MAX).max(1),
            interleaved: shared.interleaved,
            ..PoolConfig::default()
        });
        let same_pool = before.filter(|old| old.connect == connect && old.pool_config == pool_config);
        let pool = match same_pool {
            Some(old) => old.pool.clone(),
            None => Pool::new(connect.clone(), pool_config.clone(), shared.budget.clone(), shared.tasks.clone()),
        };
        let same_cache = before.filter(|old| {
            old.config.db_schemas == config.db_schemas && old.config.db_extra_search_path == config.db_extra_search_path
        });
        Self {
            pool,
            connect,
            pool_config,
            cache: same_cache.map(|old| old.cache.clone()).unwrap_or_default(),
            versioned: true,
            search_paths,
            sessions_have_path: shared.route.keeps_sessions(),
            sessions_have_timeout: shared.route.keeps_sessions(),
            sessions: Sessions::default(),
            prepared: PreparedReads::default(),
            large_reads: LargeReads::default(),
            timeouts: Some(settings.statement_timeout_ms),
            write_gate: shared.write_gate.clone(),
            tasks: shared.tasks.clone(),
            slow_queries: SlowQueryLog::new(&project.project_ref, settings.slow_query_ms, slow_queries),
            revision: project.revision,
            config,
        }
    }

    /// The instance of a drop-in server, whose database records no schema versions.
    pub fn drop_in(config: Config, connect: ConnectConfig, pool_config: PoolConfig, shared: &Shared) -> Self {
        let pool = Pool::new(connect.clone(), pool_config.clone(), shared.budget.clone(), shared.tasks.clone());
        Self {
            search_paths: search_paths(&config),
            pool,
            connect,
            pool_config,
            cache: Arc::default(),
            versioned: config.project_timeouts.is_some(),
            sessions_have_path: false,
            sessions_have_timeout: true,
            sessions: Sessions::default(),
            prepared: PreparedReads::default(),
            large_reads: LargeReads::default(),
            timeouts: config.project_timeouts,
            config,
            write_gate: shared.write_gate.clone(),
            tasks: shared.tasks.clone(),
            slow_queries: None,
            revision: 0,
        }
    }

    /// The same API with other settings. Pool and schema cache go along when they fit; a schema cache that was made for
    /// other settings serves on until the new instance loads its own.
    pub(crate) fn with_config(&self, config: Config, pool_config: PoolConfig, shared: &Shared) -> Self {
        let pool = if self.pool_config == pool_config {
            self.pool.clone()
        } else {
            // The old pool ends with the last request that uses it.
            Pool::new(self.connect.clone(), pool_config.clone(), shared.budget.clone(), shared.tasks.clone())
        };
        let cache = if self.reads_same_schema(&config) {
            self.cache.clone()
        } else {
            Arc::new(CacheSlot::holding(self.cache.peek()))
        };
        Self {
            search_paths: search_paths(&config),
            pool,
            connect: self.connect.clone(),
            pool_config,
            cache,
            versioned: config.project_timeouts.is_some(),
            sessions_have_path: self.sessions_have_path,
            sessions_have_timeout: self.sessions_have_timeout,
            sessions: Sessions::default(),
            prepared: PreparedReads::default(),
            large_reads: LargeReads::default(),
            timeouts: config.project_timeouts,
            config,
            write_gate: self.write_gate.clone(),
            tasks: self.tasks.clone(),
            slow_queries: self.slow_queries.clone(),
            revision: self.revision,
        }
    }

    /// Whether a schema cache for these settings would be the same.
    pub(crate) fn reads_same_schema(&self, config: &Config) -> bool {
        let of = |config: &Config| {
            let Config { db_schemas, db_extra_search_path, db_hoisted_tx_settings, .. } = config;
            (db_schemas.clone(), db_extra_search_path.clone(), db_hoisted_tx_settings.clone())
        };
        of(&self.config) == of(config)
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn connect_config(&self) -> &ConnectConfig {
        &self.connect
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Gives up the connections, unless a newer instance works with them.
    pub(crate) fn retire(&self, successor: Option<&Self>) {
        let taken_over =
            successor.is_some_and(|new| new.connect == self.connect && new.pool_config == self.pool_config);
        match successor {
            _ if taken_over => {}
            // Requests that came before the change still end on the old connections.
            Some(_) => self.pool.retire(),
            None => self.pool.close(),
        }
    }

    fn source(&self) -> Source<'_> {
        Source { pool: &self.pool, config: &self.config, versioned: self.versioned, tasks: &self.tasks }
    }

    /// The schema cache, loaded when there is none yet.
    pub async fn schema_cache(&self) -> Result<Arc<SchemaCache>, Error> {
        self.cache.get(&self.source()).await
    }

    /// The schema cache as it is, without a look at the database.
    pub(crate) fn loaded_schema_cache(&self) -> Option<Arc<SchemaCache>> {
        self.cache.peek()
    }

    /// Answers PGRST002 until a schema cache is loaded.
    pub(crate) fn forget_schema_cache(&self) {
        self.cache.forget();
    }

    /// The schema cache for a request. A drop-in server loads it aside from requests, as PostgREST does.
    async fn schema_cache_for_request(&self) -> Result<Arc<SchemaCache>, Error> {
        if self.versioned {
            self.schema_cache().await
        } else {
            self.loaded_schema_cache().ok_or(Error::SchemaCacheUnavailable)
        }
    }

    /// Loads the schema cache anew.
    pub async fn reload_schema_cache(&self) -> Result<Arc<SchemaCache>, Error> {
        self.cache.renew(self.cache.peek().as_ref(), &self.source()).await
    }

    /// The whole request: parse, plan, run, render. When the schema moved meanwhile, plans once more with the new one.
    pub(crate) async fn respond(
        &self,
        caller: &Caller,
        parts: &Parts,
        body: &Bytes,
        timing: &mut ServerTiming,
    ) -> Result<Response, Error> {
        let began = Instant::now();
        let shape = if body.is_empty() { Shape::of(parts) } else { None };
        if let Some(shape) = &shape
            && let Some(response) = self.respond_prepared(caller, parts, shape, timing).await?
        {
            return Ok(response);
        }
        let mut request = ApiRequest::parse(&self.config, parts, body)?;
        timing.end(Stage::Parse);
        let mut cache = self.schema_cache_for_request().await?;
        if request.preferences.timezone.is_some() && cache.timezones.get().is_none() {
            self.load_timezones(&cache).await?;
        }
        request.preferences.settle_timezone(|name| cache.timezones.get().is_some_and(|names| names.contains(name)));
        // While a newer cache is loading, this one is known to be old.
        let mut fit = if self.versioned && self.cache.is_loading() { Fit::Unaffected } else { Fit::Newest };
        for _ in 0..MOST_REPEATS {
            if cache.read_after > Some(began) || !self.versioned {
                fit = Fit::Fresh;
            }
            // Boxed, so that reads that were planned before do not carry the room for it.
            match Box::pin(self.attempt(&On { caller, parts, cache: &cache, fit }, &request, timing)).await {
                // A function of the project can raise the same SQLSTATE; then nothing has moved.
                Err(Error::SchemaMoved) if fit == Fit::Fresh => return Err(Error::SchemaCacheUnavailable),
                Err(Error::SchemaMoved) if fit == Fit::Newest && self.source().version().await? == cache.version => {
                    return Err(Error::SchemaCacheUnavailable);
                }
                Err(Error::SchemaMoved) => {
                    (cache, fit) = match (self.cache.renewal(Some(&cache), &self.source()), fit) {
                        (Renewal::Done(newer), _) => (newer, Fit::Newest),
                        // The loading has begun. What changed may not concern this request.
                        (Renewal::Loading(_), Fit::Newest) => (cache, Fit::Unaffected),
                        (Renewal::Loading(loading), _) => (loading.await?, Fit::Newest),
                    };
                }
                // "Not there" may only be "not there yet": the plan never got to where the version is compared.
                Err(error) if fit != Fit::Fresh && error.is_about_schema() => match self.newer_cache(&cache).await? {
                    Some(newer) => (cache, fit) = (newer, Fit::Newest),
                    None => return Err(self.for_role(error, caller).await?),
                },
                Err(error) if self.versioned => return Err(self.for_role(error, caller).await?),
                Err(error) => return Err(error),
                Ok(response) => {
                    if let Some(shape) = &shape {
                        self.prepared.note(shape, parts, &self.config, &cache);
                    }
                    return Ok(response);
                }
            }
        }
        Err(Error::SchemaCacheUnavailable)
    }

    /// Answers a read that was planned before; None when it was not, or when its plan is of an old schema.
    async fn respond_prepared(
        &self,
        caller: &Caller,
        parts: &Parts,
        shape: &Shape<'_>,
        timing: &mut ServerTiming,
    ) -> Result<Option<Response>, Error> {
        let Some(cache) = self.cache.peek() else { return Ok(None) };
        let Some(prepared) = self.prepared.get(shape, &cache) else { return Ok(None) };
        timing.end(Stage::Parse);
        timing.end(Stage::Plan);
        let PreparedRead { request, plan, .. } = &*prepared;
        let query = prepared.query(shape);
        if self.large_reads.contains(&query) {
            return Ok(None);
        }
        let on = On { caller, parts, cache: &cache, fit: Fit::Newest };
        match self.perform(&on, request, plan, Some(query), timing).await {
            Err(Error::SchemaMoved) => Ok(None),
            // The way of large reads begins with their plan.
            Err(error) if is_too_large(&error) => Ok(None),
            Ok(response) if matches!(response.body, Body::Long(_)) => Ok(None),
            Err(error) if self.versioned => Err(self.for_role(error, caller).await?),
            result => result.map(Some),
        }
    }

    async fn attempt(&self, on: &On<'_>, request: &ApiRequest, timing: &mut ServerTiming) -> Result<Response, Error> {
        let plan = plan::action_plan(request, &self.config, on.cache)?;
        timing.end(Stage::Plan);
        let query = match &plan {
            ActionPlan::Info(_) => None,
            _ => Some(query::main_query(&plan, request, &self.config, self.readers(on))?),
        };
        // Rows are handed on by a transaction that ends with them, never by an explicit one.
        let isolated = self.role_settings(on.caller).is_some_and(|of_role| of_role.isolation_level.is_some());
        let by_rows = || {
            if isolated {
                return Ok(None);
            }
            query::read_rows(&plan, request, &self.config, self.readers(on))
        };
        let query = match query {
            Some(query) if self.large_reads.contains(&query) => by_rows()?.or(Some(query)),
            query => query,
        };
        let statement = query.as_ref().and_then(|query| query.main.as_ref()).map(|main| main.sql.clone());
        let by_rows_already = query.as_ref().is_some_and(|query| query.streams == Streams::Rows);
        let result = self.perform(on, request, &plan, query, timing).await;
        let too_large = match &result {
            Ok(response) => matches!(response.body, Body::Long(_)),
            Err(error) => is_too_large(error),
        };
        if !too_large || by_rows_already {
            return result;
        }
        let Some(query) = by_rows()? else { return result };
        drop(result);
        if let Some(statement) = statement {
            self.large_reads.insert(statement);
        }
        self.perform(on, request, &plan, Some(query), timing).await
    }

    /// The second half of a request: runs its statements, if it has any, and renders.
    async fn perform(
        &self,
        on: &On<'_>,
        request: &ApiRequest,
        plan: &ActionPlan,
        query: Option<MainQuery>,
        timing: &mut ServerTiming,
    ) -> Result<Response, Error> {
        let result = match query {
            None => DbResult::None,
            Some(mut query) => {
                let of_role = self.role_settings(on.caller);
                query.isolation_level = query.isolation_level.or(of_role.and_then(|of_role| of_role.isolation_level));
                if self.config.log_query
                    && let Some(log) = on.parts.extensions.get::<QueryLog>()
                {
                    log.note(&query);
                }
                if !query.read_only {
                    self.write_gate.check().map_err(Error::writes_refused)?;
                }
                let mut session = self.session(on, plan, &request.schema, query.read_only)?;
                let timeout = self.timeouts.filter(|_| query.streams == Streams::Rows);
                if timeout.is_some() {
                    session.statement_timeout_ms = Some(HANDING_ON_MS);
                }
                let (readers, parts, sessions) = (self.readers(on), on.parts, &self.sessions);
                let tx = MainTx { pool: &self.pool, config: &self.config, readers, parts, sessions, session };
                let watched = self.slow_queries.as_ref().map(|log| (log, query.main_text(), Instant::now()));
                let result = match timeout.map(|timeouts| timeouts.of(&on.caller.role)) {
                    // 0 is no limit.
                    Some(limit) if limit > 0 => {
                        let run =
                            tokio::time::timeout(Duration::from_millis(limit.into()), tx.run(plan, request, query));
                        Box::pin(run).await.unwrap_or_else(|_| Err(Error::statement_timeout()))
                    }
                    _ => tx.run(plan, request, query).await,
                };
                if let Some((log, statement, since)) = watched
                    && let took = since.elapsed()
                    && took >= log.threshold
                {
                    log.note(took, &statement, on.caller, parts, &result);
                }
                result?
            }
        };
        timing.end(Stage::Transaction);
        let raw_query = on.parts.uri.query().unwrap_or("");
        let response = response::action_response(plan, request, raw_query, result, &self.config, on.cache)?;
        timing.end(Stage::Response);
        Ok(response)
    }

    /// What stored code can read and set. What has changed since the plan may read what nothing read before.
    fn readers(&self, on: &On<'_>) -> SettingReaders {
        let SettingReaders { response, writes, .. } = on.cache.readers;
        match on.fit {
            Fit::Unaffected => SettingReaders::ALL,
            _ if self.config.send_all_request_settings => SettingReaders { response, writes, ..SettingReaders::ALL },
            _ => on.cache.readers,
        }
    }

    fn role_settings(&self, caller: &Caller) -> Option<&RoleSettings> {
        self.config.role_settings.get(caller.role.as_str())
    }

    fn session<'a>(
        &'a self,
        on: &On<'a>,
        plan: &ActionPlan,
        schema: &str,
        read_only: bool,
    ) -> Result<SessionParams<'a>, Error> {
        let index = self.config.db_schemas.iter().position(|exposed| exposed == schema).unwrap_or_default();
        let no_path = || Error::Internal(format!("the schema {schema} has no search path"));
        let check = match on.fit {
            Fit::Newest => self.versioned.then_some(SchemaCheck::Version(on.cache.version)),
            Fit::Fresh => None,
            Fit::Unaffected => {
                let Footprint { relation, functions } = Footprint::of(plan, on.cache).ok_or(Error::SchemaMoved)?;
                Some(SchemaCheck::Unaffected { known: &on.cache.version_rows, relation, functions })
            }
        };
        Ok(SessionParams {
            caller: on.caller,
            search_path: self.search_paths.get(index).ok_or_else(no_path)?,
            sets_search_path: !self.sessions_have_path || index > 0,
            read_only,
            role_settings: self.role_settings(on.caller).map_or(&[], |of_role| &of_role.settings),
            statement_timeout_ms: self.timeout_of(&on.caller.role),
            schema: check,
        })
    }

    /// The error without what the caller's role may not know of. A drop-in server tells everybody, as PostgREST does.
    async fn for_role(&self, mut error: Error, caller: &Caller) -> Result<Error, Error> {
        let subjects = error.subjects();
        if subjects.is_empty() {
            return Ok(error);
        }
        let objects = query::VisibleObjects::of(&subjects);
        let claims = Claims {
            role: caller.role.as_str(),
            jwt_claims: "{}",
            read_only: true,
            settings: &[("search_path", "")],
            ..Claims::default()
        };
        let exchange = Exchange {
            scope: caller.role.as_str().into(),
            begin: None,
            setup: claims.statement().into(),
            queries: vec![objects.query(&self.config.db_schemas)],
            read_only: true,
            resets: Resets::Settings,
            joins: false,
            streams: Streams::Nothing,
        };
        let results = self.pool.run(&exchange).await?;
        error.retain_visible(objects.read(results.first().unwrap_or(&pg::Rows::default())));
        Ok(error)
    }

    /// The role's own timeout, when it is another than the session's.
    fn timeout_of(&self, role: &RoleName) -> Option<u32> {
        let timeouts = self.timeouts?;
        let wanted = timeouts.of(role);
        (!self.sessions_have_timeout || wanted != timeouts.authenticated).then_some(wanted)
    }

    /// A cache with another version than `cache`, if the database has one.
    async fn newer_cache(&self, cache: &Arc<SchemaCache>) -> Result<Option<Arc<SchemaCache>>, Error> {
        if self.source().version().await? == cache.version {
            return Ok(None);
        }
        self.cache.renew(Some(cache), &self.source()).await.map(Some)
    }

    pub(crate) async fn load_timezones(&self, cache: &SchemaCache) -> Result<(), Error> {
        let rows = self.source().read(timezones_query()).await?;
        let names = timezones_from(&rows).map_err(|error| Error::Internal(error.to_string()))?;
        // Another request may have been first; it read the same.
        cache.timezones.set(names).ok();
        Ok(())
    }
}

fn search_paths(config: &Config) -> Vec<Arc<str>> {
    config.db_schemas.iter().map(|schema| search_path(schema, &config.db_extra_search_path).into()).collect()
}

#[cfg(test)]
mod tests;
