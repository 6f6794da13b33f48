//! Connection strings (PostgreSQL docs, "Connection Strings").

use std::sync::Arc;
use std::time::Duration;

use base::Secret;
use tokio_postgres::config::{Host, SslMode};

use crate::driver::ConnectConfig;
use crate::error::Error;

impl ConnectConfig {
    /// Reads a `postgresql://` URI or a key/value string. `session_settings` are those of the environment
    /// (`PGOPTIONS`, `PGTZ`), as libpq would add them.
    pub fn from_uri(uri: &str, session_settings: Vec<(String, String)>) -> Result<Self, Error> {
        let config: tokio_postgres::Config = uri.parse().map_err(|error| Error::Connect(Arc::new(error)))?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(Error::Protocol("TLS to PostgreSQL is not built yet: use sslmode=prefer or disable"));
        }
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(folder)) => folder.to_string_lossy().into_owned(),
            None => "/var/run/postgresql".to_owned(),
        };
        let user = config.get_user().unwrap_or("postgres").to_owned();
        let password = config.get_password().map(|raw| Secret::new(String::from_utf8_lossy(raw).into_owned()));
        let mut settings = session_settings;
        if let Some(options) = config.get_options() {
            settings.push(("options".to_owned(), options.to_owned()));
        }
        Ok(Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            database: config.get_dbname().unwrap_or(&user).to_owned(),
            user,
            password,
            session_settings: settings,
            connect_timeout: config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(10)),
        })
    }
}
