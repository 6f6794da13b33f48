//! The schema cache of one database: loaded on first use, renewed when the schema version moved, by one task for all
//! that wait. The task belongs to nobody's request, so that clients without patience cannot keep it from ever ending.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use pg::{Exchange, Pool, Query, Resets, Rows, Streams};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::error::Error;
use crate::schema_cache::{self, SchemaCache};

/// How often the catalog is read before an error of it is told, and the pause before the second time; each further one is
/// longer by as much.
const MOST_READS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Version rows above which they are folded into one.
const MANY_VERSION_ROWS: i64 = 64;

pub(crate) type Loading = Shared<BoxFuture<'static, Result<Arc<SchemaCache>, Error>>>;

#[derive(Default)]
pub(crate) struct CacheSlot {
    current: ArcSwapOption<SchemaCache>,
    loading: Mutex<Option<Loading>>,
    is_loading: AtomicBool,
}

pub(crate) enum Renewal {
    Done(Arc<SchemaCache>),
    Loading(Loading),
}

impl CacheSlot {
    /// A slot that begins with this cache.
    pub(crate) fn holding(cache: Option<Arc<SchemaCache>>) -> Self {
        Self { current: ArcSwapOption::new(cache), ..Self::default() }
    }

    /// Gives up the cache.
    pub(crate) fn forget(&self) {
        self.current.store(None);
    }

    /// The cache as it is, without a look at the database.
    pub(crate) fn peek(&self) -> Option<Arc<SchemaCache>> {
        self.current.load_full()
    }

    /// The cache, loaded when there is none yet.
    pub(crate) async fn get(self: &Arc<Self>, source: &Source<'_>) -> Result<Arc<SchemaCache>, Error> {
        match self.peek() {
            Some(cache) => Ok(cache),
            None => self.renew(None, source).await,
        }
    }

    /// A cache that is not `stale`. Whoever comes first starts to load it; all wait and take what came, and if that
    /// was an error, the next request tries again.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        stale: Option<&Arc<SchemaCache>>,
        source: &Source<'_>,
    ) -> Result<Arc<SchemaCache>, Error> {
        match self.renewal(stale, source) {
            Renewal::Done(cache) => Ok(cache),
            Renewal::Loading(loading) => loading.await,
        }
    }

    /// As [`CacheSlot::renew`], without waiting.
    pub(crate) fn renewal(self: &Arc<Self>, stale: Option<&Arc<SchemaCache>>, source: &Source<'_>) -> Renewal {
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = self.peek()
            && stale.is_none_or(|stale| !Arc::ptr_eq(stale, &current))
        {
            return Renewal::Done(current);
        }
        Renewal::Loading(loading.get_or_insert_with(|| self.start(source)).clone())
    }

    /// Whether a newer cache is on its way.
    pub(crate) fn is_loading(&self) -> bool {
        self.is_loading.load(Ordering::Relaxed)
    }

    fn start(self: &Arc<Self>, source: &Source<'_>) -> Loading {
        let loader = Loader { pool: source.pool.clone(), config: source.config.clone(), versioned: source.versioned };
        let (slot, pool) = (self.clone(), source.pool.clone());
        self.is_loading.store(true, Ordering::Relaxed);
        let task = source.tasks.spawn(async move {
            let ended = Ended(&slot);
            let loaded = loader.load().await.map(Arc::new);
            if let Ok(cache) = &loaded {
                // What the code that is gone has left in sessions is not undone any more.
                if slot.peek().is_some_and(|before| before.readers.writes) && !cache.readers.writes {
                    pool.renew();
                }
                tracing::debug!(version = cache.version, "schema cache loaded: {}", cache.summary());
                slot.current.store(Some(cache.clone()));
            }
            drop(ended);
            loaded
        });
        async move { task.await.unwrap_or(Err(Error::SchemaCacheUnavailable)) }.boxed().shared()
    }
}

/// Makes room for the next loading, also after a panic.
struct Ended<'a>(&'a CacheSlot);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut loading = self.0.loading.lock().unwrap_or_else(PoisonError::into_inner);
        *loading = None;
        self.0.is_loading.store(false, Ordering::Relaxed);
    }
}

/// Where a schema cache is read from.
pub(crate) struct Source<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) config: &'a Config,
    /// Whether the database records schema versions (LaunchDB's own do; a drop-in's do not).
    pub(crate) versioned: bool,
    /// Where the loading runs.
    pub(crate) tasks: &'a TaskTracker,
}

/// What the loading takes with it.
struct Loader {
    pool: Pool,
    config: Config,
    versioned: bool,
}

impl Loader {
    /// Reads version and catalog in one snapshot and one round trip.
    async fn load(self) -> Result<SchemaCache, Error> {
        let began = Instant::now();
        let catalog = schema_cache::queries(&self.config);
        let mut queries: Vec<Query> = catalog.into_iter().map(|catalog| catalog.query).collect();
        if self.versioned {
            queries
                .push(statement("select pg_catalog.sum(n)::pg_catalog.int8, pg_catalog.count(*), pg_catalog.array_agg(id)::pg_catalog.text \
                 from _launchdb.schema_versions"));
        }
        let exchange = Exchange {
            scope: "".into(),
            begin: Some(statement("begin isolation level repeatable read read only")),
            setup: statement("select pg_catalog.set_config('transaction_read_only', 'on', true)").into(),
            queries,
            read_only: true,
            resets: Resets::Settings,
            joins: false,
            streams: Streams::Nothing,
        };
        let mut results = self.read(&exchange).await?;
        let version = if self.versioned { results.pop() } else { None };
        let Self { config, pool, .. } = self;
        // Building it takes a tenth of a second when there are thousands of tables; requests go on meanwhile.
        let built = tokio::task::spawn_blocking(move || SchemaCache::load(&config, &results)).await;
        let mut cache = built
            .map_err(|error| Error::Internal(error.to_string()))?
            .map_err(|error| Error::Internal(error.to_string()))?;
        cache.read_after = Some(began);
        if let Some(row) = version.as_ref().and_then(|rows: &Rows| rows.rows.first()) {
            cache.version = row.int(0).unwrap_or(0);
            cache.version_rows = row.text(2).unwrap_or("{}").into();
            if row.int(1).is_some_and(|rows| rows > MANY_VERSION_ROWS) {
                fold_versions(&pool).await;
            }
        }
        Ok(cache)
    }

    /// Reads the catalog. PostgreSQL prints expressions, policies and views as they are now, not as they were when the
    /// snapshot was taken, and fails when what they are on was dropped meanwhile; a new snapshot does without them.
    async fn read(&self, exchange: &Exchange) -> Result<Vec<Rows>, Error> {
        let mut reads = 1;
        let (results, transaction) = loop {
            match self.pool.begin(exchange).await {
                Err(pg::Error::Db(cause)) if reads < MOST_READS && is_of_something_gone(&cause.code) => {
                    tracing::debug!(error = %cause.message, "the catalog changed while it was read");
                    tokio::time::sleep(PAUSE * reads).await;
                    reads += 1;
                }
                read => break read.map_err(unavailable)?,
            }
        };
        // Nothing was written: how it ends is of no interest.
        transaction.commit().await.ok();
        Ok(results)
    }
}

/// Whether an error of this SQLSTATE can come of an object that was dropped while the catalog was read: internal errors
/// ("could not open relation with OID"), and those of class 42 ("does not exist") but for missing privileges.
fn is_of_something_gone(code: &str) -> bool {
    code == "XX000" || code.starts_with("42") && code != "42501"
}

impl Source<'_> {
    /// The database's schema version now.
    pub(crate) async fn version(&self) -> Result<i64, Error> {
        let rows =
            self.read(statement("select pg_catalog.sum(n)::pg_catalog.int8 from _launchdb.schema_versions")).await?;
        Ok(rows.rows.first().and_then(|row| row.int(0)).unwrap_or(0))
    }

    /// Runs one read of ours.
    pub(crate) async fn read(&self, query: Query) -> Result<Rows, Error> {
        let exchange = Exchange {
            scope: "".into(),
            begin: None,
            setup: statement("select pg_catalog.set_config('transaction_read_only', 'on', true)").into(),
            queries: vec![query],
            read_only: true,
            resets: Resets::Settings,
            joins: false,
            streams: Streams::Nothing,
        };
        let results = self.pool.run(&exchange).await.map_err(unavailable)?;
        Ok(results.into_iter().next().unwrap_or_default())
    }
}

/// Folds the version rows into one with the same sum. What fails is tried again at the next load.
async fn fold_versions(pool: &Pool) {
    let exchange = Exchange {
        scope: "".into(),
        begin: None,
        setup: statement("select _launchdb.compact_schema_versions()").into(),
        queries: Vec::new(),
        read_only: false,
        resets: Resets::Settings,
        joins: false,
        streams: Streams::Nothing,
    };
    if let Err(error) = pool.run(&exchange).await {
        tracing::warn!(error = %error, "the schema versions could not be folded");
    }
}

fn statement(sql: &str) -> Query {
    Query { sql: sql.into(), params: Vec::new() }
}

/// Errors of the catalog queries are ours, not the caller's: they must not look like an error of the request.
fn unavailable(error: pg::Error) -> Error {
    match error {
        pg::Error::Db(cause) => {
            tracing::error!(error = %cause.message, sqlstate = cause.code, "the schema cache could not be loaded");
            Error::SchemaCacheUnavailable
        }
        other => Error::from(other),
    }
}
