//! Opening a connection: startup message and authentication (PostgreSQL docs, "Message Flow: Start-up").

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Secret;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::Stream;
use crate::error::{DbError, Error};

/// Where and as whom to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectConfig {
    /// Host name, address, or the folder of a unix socket (starts with `/`).
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<Secret<String>>,
    /// Settings of the session, sent with the startup message (`search_path`, `statement_timeout`, ...).
    pub session_settings: Vec<(String, String)>,
    /// How long connecting and authenticating may take.
    pub connect_timeout: Duration,
}

/// What `CancelRequest` needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CancelKey {
    process_id: i32,
    secret_key: i32,
}

pub(super) async fn connect(config: &ConnectConfig) -> Result<(Stream, CancelKey), Error> {
    match tokio::time::timeout(config.connect_timeout, handshake(config)).await {
        Ok(result) => result,
        Err(_) => Err(broken(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))),
    }
}

/// Between two tries of a login that is refused.
const LOGIN_RETRY: Duration = Duration::from_millis(100);

/// As [`connect`]; a login that is refused is tried again for so long, because a pooler may not know yet what PostgreSQL has
/// just been given.
pub(super) async fn connect_patiently(
    config: &ConnectConfig,
    patience: Duration,
) -> Result<(Stream, CancelKey), Error> {
    let started = Instant::now();
    loop {
        match connect(config).await {
            Err(Error::Refused(cause)) if may_be_early(&cause) && started.elapsed() < patience => {
                tokio::time::sleep(LOGIN_RETRY).await;
            }
            result => return result,
        }
    }
}

/// Whether a refusal may mean that a pooler does not know the database, the role or the password. Older versions of
/// PgBouncer say protocol_violation to everything.
fn may_be_early(cause: &DbError) -> bool {
    matches!(cause.code.as_str(), "08P01" | "28000" | "28P01" | "3D000")
}

fn broken(cause: io::Error) -> Error {
    Error::Connect(Arc::new(cause))
}

/// Asks the server to cancel what the connection with this key is running; errors do not matter, because the caller
/// waits for the connection anyway.
pub(super) async fn cancel(config: &ConnectConfig, key: CancelKey) -> io::Result<()> {
    let mut stream = Stream::open(&config.host, config.port).await?;
    let mut buf = BytesMut::new();
    frontend::cancel_request(key.process_id, key.secret_key, &mut buf);
    stream.write_all(&buf).await?;
    // The server closes once the signal is sent; a later statement can then no longer be hit by it.
    stream.read_u8().await.map(drop).or_else(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Ok(()),
        _ => Err(error),
    })
}

async fn handshake(config: &ConnectConfig) -> Result<(Stream, CancelKey), Error> {
    let mut session = Handshake {
        stream: Stream::open(&config.host, config.port).await.map_err(broken)?,
        incoming: BytesMut::with_capacity(4096),
    };
    let mut buf = BytesMut::new();
    let fixed = [
        ("user", config.user.as_str()),
        ("database", config.database.as_str()),
        ("client_encoding", "UTF8"),
        ("application_name", "launchdb"),
    ];
    let settings = config.session_settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    frontend::startup_message(fixed.into_iter().chain(settings), &mut buf).map_err(broken)?;
    session.stream.write_all(&buf).await.map_err(broken)?;
    session.authenticate(config).await?;
    let mut key = CancelKey::default();
    loop {
        match session.next().await? {
            Message::BackendKeyData(body) => {
                key = CancelKey { process_id: body.process_id(), secret_key: body.secret_key() };
            }
            Message::ReadyForQuery(_) => return Ok((session.stream, key)),
            _ => {}
        }
    }
}

struct Handshake {
    stream: Stream,
    incoming: BytesMut,
}

impl Handshake {
    /// The next message that is no notice; an ErrorResponse is the server's refusal.
    async fn next(&mut self) -> Result<Message, Error> {
        loop {
            match Message::parse(&mut self.incoming).map_err(broken)? {
                Some(Message::ErrorResponse(body)) => {
                    return Err(Error::Refused(Box::new(DbError::read(body.fields()).map_err(broken)?)));
                }
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Some(message) => return Ok(message),
                None => {
                    if self.stream.read_buf(&mut self.incoming).await.map_err(broken)? == 0 {
                        return Err(broken(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
            }
        }
    }

    async fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), Error> {
        let mut buf = BytesMut::new();
        write(&mut buf).map_err(broken)?;
        self.stream.write_all(&buf).await.map_err(broken)
    }

    async fn authenticate(&mut self, config: &ConnectConfig) -> Result<(), Error> {
        let password = config.password.as_ref().map(|p| p.expose().as_bytes());
        let password = || password.ok_or(Error::Protocol("the server wants a password and none is configured"));
        match self.next().await? {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                let password = password()?.to_vec();
                self.send(|buf| frontend::password_message(&password, buf)).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(config.user.as_bytes(), password()?, body.salt());
                self.send(|buf| frontend::password_message(hash.as_bytes(), buf)).await?;
            }
            Message::AuthenticationSasl(body) => {
                let plain = body.mechanisms().any(|m| Ok(m == sasl::SCRAM_SHA_256)).map_err(broken)?;
                if !plain {
                    return Err(Error::Protocol("the server offers no authentication known here"));
                }
                self.scram(password()?).await?;
            }
            _ => return Err(Error::Protocol("an authentication method that is not supported")),
        }
        match self.next().await? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(Error::Protocol("no AuthenticationOk after the password")),
        }
    }

    async fn scram(&mut self, password: &[u8]) -> Result<(), Error> {
        let mut scram = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
        self.send(|buf| frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), buf)).await?;
        let Message::AuthenticationSaslContinue(body) = self.next().await? else {
            return Err(Error::Protocol("no SASLContinue"));
        };
        scram.update(body.data()).map_err(broken)?;
        self.send(|buf| frontend::sasl_response(scram.message(), buf)).await?;
        let Message::AuthenticationSaslFinal(body) = self.next().await? else {
            return Err(Error::Protocol("no SASLFinal"));
        };
        scram.finish(body.data()).map_err(broken)
    }
}
