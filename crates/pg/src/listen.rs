//! Notifications: one connection that listens on one channel (PostgreSQL docs, "LISTEN").

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tokio_util::task::TaskTracker;

use crate::driver::ConnectConfig;
use crate::error::{DbError, Error};
use crate::ident;

/// Notifications that may wait to be read; more would mean that nobody reads.
const WAITING: usize = 64;

const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection that listens. Dropping it ends it.
pub struct Listener {
    payloads: mpsc::Receiver<String>,
    _client: Client,
}

impl Listener {
    /// Connects and listens on `channel`, whose case counts. The socket's task runs on `tasks`.
    pub async fn connect(config: &ConnectConfig, channel: &str, tasks: &TaskTracker) -> Result<Self, Error> {
        let mut postgres = tokio_postgres::Config::new();
        postgres.host(&config.host).port(config.port).user(&config.user).dbname(&config.database);
        postgres.connect_timeout(config.connect_timeout).application_name("launchdb");
        // A host that went away without a word is noticed in minutes, not in hours.
        postgres.keepalives_idle(KEEPALIVE);
        if let Some(password) = &config.password {
            postgres.password(password.expose());
        }
        for (name, value) in &config.session_settings {
            match name.as_str() {
                "options" => postgres.options(value),
                "application_name" => postgres.application_name(value),
                _ => &mut postgres,
            };
        }
        let connecting = tokio::time::timeout(config.connect_timeout, postgres.connect(NoTls));
        let (client, mut connection) = match connecting.await {
            Ok(connected) => connected.map_err(failed)?,
            Err(_) => return Err(Error::Connect(Arc::new(std::io::Error::from(std::io::ErrorKind::TimedOut)))),
        };
        let (sender, payloads) = mpsc::channel(WAITING);
        tasks.spawn(async move {
            loop {
                match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(notification))) => {
                        if sender.send(notification.payload().to_owned()).await.is_err() {
                            return;
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(error = %error, "a listening connection ended");
                        return;
                    }
                    None => return,
                }
            }
        });
        let mut sql = String::from("listen ");
        ident::push_ident(&mut sql, channel);
        client.batch_execute(&sql).await.map_err(failed)?;
        Ok(Self { payloads, _client: client })
    }

    /// The next notification's payload; None when the connection is gone.
    pub async fn next(&mut self) -> Option<String> {
        self.payloads.recv().await
    }
}

fn failed(error: tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(cause) => Error::Refused(Box::new(DbError {
            severity: cause.severity().to_owned(),
            ..DbError::new(cause.code().code(), cause.message())
        })),
        None => Error::Connect(Arc::new(error)),
    }
}
