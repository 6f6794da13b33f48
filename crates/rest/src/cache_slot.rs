//! The schema cache of one database: loaded on first use, renewed when the schema version moved, by one request for
//! all that wait.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use pg::{Exchange, Pool, Query, Rows, Streams};
use tokio::sync::Mutex;

use crate::config::Config;
use crate::error::Error;
use crate::schema_cache::{self, SchemaCache};

/// Version rows above which they are folded into one.
const MANY_VERSION_ROWS: i64 = 64;

#[derive(Default)]
pub(crate) struct CacheSlot {
    current: ArcSwapOption<SchemaCache>,
    loading: Mutex<()>,
}

impl CacheSlot {
    /// A slot that begins with this cache.
    pub(crate) fn holding(cache: Option<Arc<SchemaCache>>) -> Self {
        Self { current: ArcSwapOption::new(cache), loading: Mutex::default() }
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
    pub(crate) async fn get(&self, source: &Source<'_>) -> Result<Arc<SchemaCache>, Error> {
        match self.peek() {
            Some(cache) => Ok(cache),
            None => self.renew(None, source).await,
        }
    }

    /// A cache that is not `stale`. Whoever comes first loads it; the others wait and take what came.
    pub(crate) async fn renew(
        &self,
        stale: Option<&Arc<SchemaCache>>,
        source: &Source<'_>,
    ) -> Result<Arc<SchemaCache>, Error> {
        let _loading = self.loading.lock().await;
        if let Some(current) = self.peek()
            && stale.is_none_or(|stale| !Arc::ptr_eq(stale, &current))
        {
            return Ok(current);
        }
        let mut cache = source.load().await?;
        // What such code left behind in the pool's sessions may still be there when the code is gone.
        cache.readers.writes |= self.peek().is_some_and(|before| before.readers.writes);
        let cache = Arc::new(cache);
        tracing::debug!(version = cache.version, "schema cache loaded: {}", cache.summary());
        self.current.store(Some(cache.clone()));
        Ok(cache)
    }
}

/// Where a schema cache is read from.
pub(crate) struct Source<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) config: &'a Config,
    /// Whether the database records schema versions (LaunchDB's own do; a drop-in's do not).
    pub(crate) versioned: bool,
}

impl Source<'_> {
    /// Reads version and catalog in one snapshot and one round trip.
    async fn load(&self) -> Result<SchemaCache, Error> {
        let catalog = schema_cache::queries(self.config);
        let mut queries: Vec<Query> = catalog.into_iter().map(|catalog| catalog.query).collect();
        if self.versioned {
            queries.push(statement(
                "select pg_catalog.sum(n)::pg_catalog.int8, pg_catalog.count(*) from _launchdb.schema_versions",
            ));
        }
        let exchange = Exchange {
            scope: "".into(),
            begin: Some(statement("begin isolation level repeatable read read only")),
            setup: statement("select pg_catalog.set_config('transaction_read_only', 'on', true)").into(),
            queries,
            read_only: true,
            resets: false,
            joins: false,
            streams: Streams::Nothing,
        };
        let (mut results, transaction) = self.pool.begin(&exchange).await.map_err(unavailable)?;
        transaction.commit().await.map_err(unavailable)?;
        let version = if self.versioned { results.pop() } else { None };
        let mut cache = SchemaCache::load(self.config, &results).map_err(|error| Error::Internal(error.to_string()))?;
        if let Some(row) = version.as_ref().and_then(|rows: &Rows| rows.rows.first()) {
            cache.version = row.int(0).unwrap_or(0);
            if row.int(1).is_some_and(|rows| rows > MANY_VERSION_ROWS) {
                self.fold_versions().await;
            }
        }
        Ok(cache)
    }

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
            resets: false,
            joins: false,
            streams: Streams::Nothing,
        };
        let results = self.pool.run(&exchange).await.map_err(unavailable)?;
        Ok(results.into_iter().next().unwrap_or_default())
    }

    /// Folds the version rows into one with the same sum. What fails is tried again at the next load.
    async fn fold_versions(&self) {
        let exchange = Exchange {
            scope: "".into(),
            begin: None,
            setup: statement("select _launchdb.compact_schema_versions()").into(),
            queries: Vec::new(),
            read_only: false,
            resets: false,
            joins: false,
            streams: Streams::Nothing,
        };
        if let Err(error) = self.pool.run(&exchange).await {
            tracing::warn!(error = %error, "the schema versions could not be folded");
        }
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
