//! One connection to a mail server: the address checked and pinned, TLS unless the server is this machine or the
//! operator's choice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::Secret;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::extension::{ClientId, Extension};
use outbound::{ConfiguredBy, Rules};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::limited_stream::{LimitedStream, TlsStream};
use crate::message::{Letter, Sender};

/// Port on which servers speak TLS from the first byte on.
const SUBMISSIONS: u16 = 465;
/// Ports that mail servers listen on: a project's settings are no way to look at what else answers somewhere.
const PORTS: [u16; 4] = [25, SUBMISSIONS, 587, 2525];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the greeting, TLS and sign-in together, and for one mail.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest text of a mail server's that is kept as a reason, in characters.
const LONGEST_REASON: usize = 300;

/// A mail server and who mails are from.
#[derive(Clone, Debug)]
pub struct Server {
    pub by: ConfiguredBy,
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<Secret<String>>,
    pub sender: Sender,
}

/// Why a mail was not sent. Texts are for the owner of the project; they hold no code and no password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may succeed later, by itself or after somebody mended a setting.
    #[error("{0}")]
    Retry(String),
    /// This mail will never be taken.
    #[error("{0}")]
    Refused(String),
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte on.
    Implicit,
    /// STARTTLS, or nothing is sent.
    Required,
    /// STARTTLS where the server offers it.
    IfOffered,
    /// The server is this machine.
    None,
}

impl Security {
    fn of(server: &Server, address: SocketAddr) -> Self {
        match (server.port, address.ip().to_canonical().is_loopback(), server.by) {
            (SUBMISSIONS, _, _) => Self::Implicit,
            (_, true, _) => Self::None,
            (_, false, ConfiguredBy::Operator) => Self::IfOffered,
            (_, false, ConfiguredBy::Project) => Self::Required,
        }
    }
}

/// A connection that is signed in.
pub(crate) struct Connection(AsyncSmtpConnection);

impl Connection {
    /// Connects, secures and signs in.
    pub(crate) async fn open(rules: &Rules, server: &Server) -> Result<Self, SendError> {
        match tokio::time::timeout(OPEN_TIMEOUT, Self::opened(rules, server)).await {
            Ok(result) => result,
            Err(_) => Err(SendError::Retry(format!("the mail server {} did not answer in time", server.host))),
        }
    }

    async fn opened(rules: &Rules, server: &Server) -> Result<Self, SendError> {
        let host = server.host.as_str();
        let failed = |what: &str| SendError::Retry(format!("the mail server {host} {what}"));
        let addresses = rules
            .addresses(server.by, host, server.port)
            .await
            .map_err(|error| SendError::Retry(format!("the mail server cannot be reached: {error}")))?;
        if !rules.exempts(server.by) && !PORTS.contains(&server.port) {
            let known = PORTS.map(|port| port.to_string()).join(", ");
            return Err(failed(&format!("cannot be at port {}: smtp_port has to be one of {known}", server.port)));
        }
        let (stream, address) = connect(&addresses).await.ok_or_else(|| failed("cannot be reached"))?;
        Self::speak(rules, server, stream, Security::of(server, address)).await
    }

    async fn speak(rules: &Rules, server: &Server, stream: TcpStream, security: Security) -> Result<Self, SendError> {
        let host = server.host.as_str();
        let failed = |what: &str| SendError::Retry(format!("the mail server {host} {what}"));
        let stream = LimitedStream::new(stream);
        let me = ClientId::Domain("localhost".to_owned());
        let stream: Box<dyn AsyncTokioStream> = if security == Security::Implicit {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| failed("has no name that TLS can check"))?;
            let config =
                tls_config(rules).map_err(|error| failed(&format!("cannot be spoken to over TLS: {error}")))?;
            let secured = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
            Box::new(TlsStream(secured.map_err(|error| failed(&format!("failed at TLS: {error}")))?))
        } else {
            Box::new(stream)
        };
        let spoke = |error: lettre::transport::smtp::Error| failed(&format!("said: {}", shown(&error)));
        let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &me).await.map_err(spoke)?;
        match (security, connection.can_starttls()) {
            (Security::Required | Security::IfOffered, true) => {
                let parameters = tls_parameters(rules, host).map_err(spoke)?;
                connection.starttls(parameters, &me).await.map_err(spoke)?;
            }
            (Security::Required, false) => {
                return Err(failed("offers no STARTTLS, and nothing is sent without TLS"));
            }
            (Security::Implicit | Security::IfOffered | Security::None, _) => {}
        }
        if let (Some(user), Some(password)) = (&server.user, &server.password) {
            if !connection.server_info().supports_feature(Extension::Authentication(Mechanism::Plain))
                && !connection.server_info().supports_feature(Extension::Authentication(Mechanism::Login))
            {
                return Err(failed("offers no sign-in with a password"));
            }
            let credentials = Credentials::new(user.clone(), password.expose().clone());
            connection
                .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
                .await
                .map_err(|error| failed(&format!("refused the user name and password: {}", shown(&error))))?;
        }
        Ok(Self(connection))
    }

    /// Sends one mail. After an error other than a refusal the connection is of no use.
    pub(crate) async fn send(&mut self, letter: &Letter) -> Result<(), SendError> {
        match tokio::time::timeout(SEND_TIMEOUT, self.0.send(&letter.envelope, &letter.bytes)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(send_error(&error)),
            Err(_) => Err(SendError::Retry("the mail server did not take the mail in time".to_owned())),
        }
    }

    /// Whether another mail can be sent on it.
    pub(crate) fn is_usable(&self) -> bool {
        !self.0.has_broken()
    }

    pub(crate) async fn quit(mut self) {
        tokio::time::timeout(QUIT_TIMEOUT, self.0.quit()).await.ok();
    }
}

async fn connect(addresses: &[SocketAddr]) -> Option<(TcpStream, SocketAddr)> {
    for address in addresses {
        if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            return Some((stream, *address));
        }
    }
    None
}

/// A server that refuses a sign-in or a sender for want of one is set up wrongly; that can be mended.
fn send_error(error: &lettre::transport::smtp::Error) -> SendError {
    const MENDABLE: [u16; 4] = [530, 534, 535, 538];
    let text = format!("the mail server said: {}", shown(error));
    let code = error.status().map(u16::from);
    match error.is_permanent() && !code.is_some_and(|code| MENDABLE.contains(&code)) {
        true => SendError::Refused(text),
        false => SendError::Retry(text),
    }
}

/// The server's words, shortened and without line ends.
fn shown(error: &lettre::transport::smtp::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let status = error.status().map(|code| format!("{code} ")).unwrap_or_default();
    let words = if source.is_empty() { error.to_string() } else { format!("{status}{source}") };
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_REASON).collect()
}

fn tls_config(rules: &Rules) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for der in &rules.extra_roots {
        roots.add(der.clone().into())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn tls_parameters(rules: &Rules, host: &str) -> Result<TlsParameters, lettre::transport::smtp::Error> {
    let mut builder = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::WebpkiRoots);
    for der in &rules.extra_roots {
        builder = builder.add_root_certificate(Certificate::from_der(der.clone())?);
    }
    builder.build_rustls()
}

#[cfg(test)]
mod tests {
    use test_support::{SmtpOptions, SmtpServer, SmtpTls};

    use super::*;
    use crate::message::{self, Template};

    async fn try_out(tls: SmtpTls, security: Security, host: &str, trusted: bool) -> Result<bool, SendError> {
        let options = SmtpOptions { tls, host: Some("mail.example".into()), ..SmtpOptions::default() };
        let smtp = SmtpServer::start(options).await;
        let extra_roots = if trusted { vec![smtp.root_der()] } else { Vec::new() };
        let rules = Rules { extra_roots, ..Rules::default() };
        let server = Server {
            by: ConfiguredBy::Project,
            host: host.into(),
            port: smtp.port(),
            user: None,
            password: None,
            sender: Sender { address: "noreply@example.org".into(), name: None },
        };
        let stream = TcpStream::connect(("127.0.0.1", smtp.port())).await.unwrap();
        let mut connection = Connection::speak(&rules, &server, stream, security).await?;
        let rendered = message::render("invite", &Template::default(), &serde_json::json!({})).unwrap();
        let letter = message::build(&server.sender, "a@example.org", &rendered, "1", 0).unwrap();
        connection.send(&letter).await?;
        Ok(smtp.mails()[0].over_tls)
    }

    #[tokio::test]
    async fn tls_is_checked_and_never_left_out_where_it_is_required() {
        let check = async |tls, security, host: &str, trusted, expected: Result<bool, &str>| {
            let result = try_out(tls, security, host, trusted).await;
            match (&result, expected) {
                (Ok(over_tls), Ok(expected)) => assert_eq!(*over_tls, expected, "{tls:?} {security:?}"),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                _ => panic!("{tls:?} {security:?} {host}: {result:?}"),
            }
        };
        use Security::*;
        check(SmtpTls::StartTls, Required, "mail.example", true, Ok(true)).await;
        check(SmtpTls::StartTls, Required, "mail.example", false, Err("certificate")).await;
        check(SmtpTls::StartTls, Required, "other.example", true, Err("certificate")).await;
        check(SmtpTls::None, Required, "mail.example", true, Err("no STARTTLS")).await;
        check(SmtpTls::StartTls, IfOffered, "mail.example", true, Ok(true)).await;
        check(SmtpTls::None, IfOffered, "mail.example", true, Ok(false)).await;
        check(SmtpTls::FromTheStart, Implicit, "mail.example", true, Ok(true)).await;
        check(SmtpTls::FromTheStart, Implicit, "other.example", true, Err("TLS")).await;
        check(SmtpTls::StartTls, None, "mail.example", false, Ok(false)).await;
    }

    #[test]
    fn only_this_machine_and_the_operators_servers_may_do_without() {
        let check = |by, port, address: &str, expected| {
            let sender = Sender { address: String::new(), name: None };
            let server = Server { by, host: String::new(), port, user: None, password: None, sender };
            assert_eq!(Security::of(&server, SocketAddr::new(address.parse().unwrap(), port)), expected);
        };
        check(ConfiguredBy::Project, 587, "192.0.1.1", Security::Required);
        check(ConfiguredBy::Project, 25, "10.0.0.1", Security::Required);
        check(ConfiguredBy::Project, 587, "::ffff:127.0.0.1", Security::None);
        check(ConfiguredBy::Operator, 25, "10.0.0.1", Security::IfOffered);
        check(ConfiguredBy::Operator, 465, "127.0.0.1", Security::Implicit);
    }
}
