//! Configuration and schema cache, read anew while requests go on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::database_config::{DatabaseConfig, server_version};
use super::snapshot::Snapshot;
use super::{Reload, Server, StartError};
use crate::config::Config;
use crate::error::Error;

/// How long after a failure the database is tried again; doubled each time.
pub(super) const FIRST_DELAY: Duration = Duration::from_secs(1);
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(32);
/// Between two attempts that requests bring about.
const PAUSE: Duration = Duration::from_secs(1);

/// How a reload failed.
enum Failure {
    /// It may work later.
    Retry,
    /// The server may not go on.
    Fatal(StartError),
}

/// Loads the schema cache, again whenever somebody wants it, and for as long as the database is away. Returns why the
/// server may not go on.
pub(super) async fn keep_loaded(server: &Server) -> StartError {
    let state = &server.state;
    let mut delay = FIRST_DELAY;
    loop {
        match reload(server, Reload::SchemaCache).await {
            Ok(()) => {
                if !state.loaded.swap(true, Ordering::Relaxed) {
                    state.back.notify_waiters();
                }
                delay = FIRST_DELAY;
                state.retry_after.store(0, Ordering::Relaxed);
                tokio::select! {
                    () = state.wanted.notified() => {}
                    () = paused(state.trouble.notified()) => {}
                }
            }
            Err(Failure::Retry) => {
                state.loaded.store(false, Ordering::Relaxed);
                let seconds = delay.as_secs();
                state.retry_after.store(u32::try_from(seconds).unwrap_or(u32::MAX), Ordering::Relaxed);
                tracing::info!("the database is tried again in {seconds} s");
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = state.wanted.notified() => {}
                    () = paused(state.recovered.notified()) => {}
                }
                delay = (delay * 2).min(LONGEST_DELAY);
            }
            Err(Failure::Fatal(error)) => return error,
        }
    }
}

async fn paused(reason: impl Future<Output = ()>) {
    tokio::time::sleep(PAUSE).await;
    reason.await;
}

/// Does what a signal or notification asks for.
pub(super) async fn on_demand(server: &Server, what: Reload) {
    match what {
        Reload::SchemaCache => server.state.wanted.notify_one(),
        Reload::Config => {
            if reload(server, what).await.is_err() {
                // The loader comes to the same end, and goes on from there.
                server.state.wanted.notify_one();
            }
        }
    }
}

/// Makes a new snapshot and swaps it in once it is complete. What fails leaves the old one in place.
async fn reload(server: &Server, what: Reload) -> Result<(), Failure> {
    let _turn = server.reloading.lock().await;
    let current = server.current();
    if what == Reload::SchemaCache {
        check_database(server, &current).await?;
    }
    let next = match next_snapshot(server, &current).await {
        Ok(next) => Arc::new(next),
        Err(problems) => {
            tracing::error!("the configuration stays as it was: {}", problems.join("; "));
            current.clone()
        }
    };
    let other_schema = !current.instance.reads_same_schema(&next.instance.config);
    if what == Reload::SchemaCache || other_schema {
        load_schema_cache(server, &next).await?;
    }
    if !Arc::ptr_eq(&current, &next) {
        server.current.store(next);
        server.state.config_changed.notify_one();
        tracing::info!("the configuration was read");
    }
    Ok(())
}

/// Whether the database can be reached, and what not means.
async fn check_database(server: &Server, current: &Snapshot) -> Result<(), Failure> {
    let error = match server_version(current.instance.pool()).await {
        Ok((_, version)) => {
            if !server.state.loaded.load(Ordering::Relaxed) {
                tracing::info!("connected to {version}");
            }
            return Ok(());
        }
        Err(error) => error,
    };
    tracing::error!("the database cannot be reached: {error}");
    let wrong_password = match &error {
        pg::Error::Refused(cause) => cause.code == "28P01", // invalid_password
        pg::Error::Protocol(_) => true,
        _ => false,
    };
    Err(if wrong_password {
        Failure::Fatal(StartError::Refused(error))
    } else if !current.drop_in.db_pool_automatic_recovery && !matches!(error, pg::Error::AcquireTimeout) {
        Failure::Fatal(StartError::NoRecovery)
    } else {
        Failure::Retry
    })
}

/// The next snapshot by what file, variables and database say now; its schema cache is the present one.
pub(super) async fn next_snapshot(server: &Server, current: &Snapshot) -> Result<Snapshot, Vec<String>> {
    let mut settings = server.source.settings().map_err(|problem| vec![problem])?;
    let database = if current.drop_in.db_config {
        match DatabaseConfig::read(current.instance.pool(), current.drop_in.db_pre_config.as_ref()).await {
            Ok(database) => database,
            Err(error) => {
                tracing::error!("the settings in the database could not be read, those read before stay: {error}");
                current.database.clone()
            }
        }
    } else {
        DatabaseConfig::default()
    };
    settings.extend(database.settings.iter().cloned());
    let mut drop_in = Config::from_pgrst_vars(settings, &|path| server.source.file(path))?;
    drop_in.keep_fixed(&current.drop_in);
    drop_in.config.role_settings.clone_from(&database.roles);
    Ok(current.next(drop_in, database, &server.shared, &server.metrics))
}

async fn load_schema_cache(server: &Server, next: &Snapshot) -> Result<(), Failure> {
    let started = Instant::now();
    match next.instance.reload_schema_cache().await {
        Ok(cache) => {
            let time = started.elapsed();
            server.metrics.loaded(time);
            tracing::info!("schema cache loaded in {:.1} ms: {}", time.as_secs_f64() * 1000.0, cache.summary());
            // Sessions keep what they know of the catalog and of their role's settings.
            next.instance.pool().renew();
            Ok(())
        }
        Err(error) => {
            server.metrics.not_loaded();
            let schemas = next.instance.config.db_schemas.join(", ");
            tracing::error!("the schema cache for {schemas} could not be loaded: {error}");
            // An old cache is better than none while the database is away, but not when the catalog cannot be read.
            if matches!(error, Error::SchemaCacheUnavailable | Error::Internal(_)) {
                server.current().instance.forget_schema_cache();
            }
            Err(Failure::Retry)
        }
    }
}
