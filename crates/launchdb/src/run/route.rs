//! The way of services to projects' databases: straight, or through PgBouncer, whose version says what it keeps.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use base::project::DatabaseTarget;
use pg::Route;
use platform::Address;
use platform::pooler::{CONSOLE, keeps_prepared_statements};

use crate::config::{Config, Service};
use crate::exit::{self, Exit, ResultExt as _};

/// How long a pooler that starts beside us may take to answer, and between two questions.
const PATIENCE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(200);

/// Where projects' databases are reached, and how. No address is PostgreSQL itself.
pub(super) async fn to_projects(config: &Config, only: Option<Service>) -> Result<(Option<Address>, Route), Exit> {
    // Instances of the data API listen for notifications, for which a pooler has no session; the pooler is the other end.
    let needs_sessions = matches!(only, Some(Service::PostgrestManager | Service::Pgbouncer));
    let (Some((host, port)), Some(platform), false) = (&config.pooler.address, &config.database.url, needs_sessions)
    else {
        return Ok((None, Route::Direct));
    };
    let console = DatabaseTarget { host: host.clone(), port: *port, database: CONSOLE.to_owned(), ..platform.clone() };
    let prepared_statements = ask(&console).await?;
    tracing::info!(host, port, prepared_statements, "projects' databases are reached through a pooler");
    Ok((Some(Address { host: host.clone(), port: *port }), Route::Pooler { prepared_statements }))
}

async fn ask(console: &DatabaseTarget) -> Result<bool, Exit> {
    let started = Instant::now();
    loop {
        let error = match keeps_prepared_statements(console).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.as_db_error().is_some() {
            // Another pooler, or one that does not let us ask.
            tracing::warn!(cause = %error, "the pooler does not tell its version, so no statement is prepared");
            return Ok(false);
        }
        if started.elapsed() > PATIENCE {
            let what = format!("the pooler at {}:{} does not answer", console.host, console.port);
            return Err(error).context(what).exit(exit::POSTGRES);
        }
        tokio::time::sleep(RETRY).await;
    }
}
