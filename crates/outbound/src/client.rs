//! HTTP calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect;
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::places::Places;
use crate::resolve::HTTPS;
use crate::{ConfiguredBy, Error, Rules};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections to one host, and how long they are kept.
const IDLE_PER_HOST: usize = 4;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// One call.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// From the first look at DNS to the last byte of the answer.
    pub timeout: Duration,
    /// Most bytes of the answer's body.
    pub most_bytes: usize,
}

impl Request {
    /// A GET with 10 s and 1 MiB.
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(10),
            most_bytes: 1024 * 1024,
        }
    }

    /// A POST with 10 s and 1 MiB.
    pub fn post(url: Url, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut request = Self { method: Method::POST, body: body.into(), ..Self::get(url) };
        request.headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        request
    }
}

/// A whole answer, whatever its status; redirects come back as they are.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Calls targets by the rules of whoever configured them. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    rules: Rules,
    of_projects: reqwest::Client,
    /// For other ports than that of https.
    of_projects_elsewhere: reqwest::Client,
    of_operator: reqwest::Client,
    places: Places,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Client {
    /// # Errors
    /// [`Error::Setup`] when one of the extra roots is no certificate.
    pub fn new(rules: Rules) -> Result<Self, Error> {
        let tls = tls_config(&rules)?;
        Ok(Self {
            of_projects: http_client(&rules, ConfiguredBy::Project, HTTPS, tls.clone())?,
            of_projects_elsewhere: http_client(&rules, ConfiguredBy::Project, 0, tls.clone())?,
            of_operator: http_client(&rules, ConfiguredBy::Operator, 0, tls)?,
            rules,
            places: Places::default(),
        })
    }

    /// The rules this client follows; SMTP follows them too.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether `url` could be called at all, without DNS: for checking a setting before it is stored.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::NotHttps`], [`Error::PrivateAddress`].
    pub fn check(&self, by: ConfiguredBy, url: &Url) -> Result<(), Error> {
        let exempt = self.rules.exempts(by);
        match url.scheme() {
            "https" => {}
            "http" if exempt => {}
            "http" => return Err(Error::NotHttps),
            _ => return Err(Error::Url),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Url);
        }
        // The `url` crate has made addresses of every notation that inet_aton knows (decimal, octal, hexadecimal).
        let ip = match url.host() {
            None => return Err(Error::Url),
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(ip)) => ip.into(),
            Some(Host::Ipv6(ip)) => ip.into(),
        };
        match self.rules.allows(by, ip, url.port_or_known_default().unwrap_or_default()) {
            true => Ok(()),
            false => Err(Error::PrivateAddress(url.host_str().unwrap_or_default().to_owned())),
        }
    }

    /// Calls a target that `whose` (a project's id) wants called.
    ///
    /// # Errors
    /// See [`Error`]; an answer with any status is no error.
    pub async fn send(&self, by: ConfiguredBy, whose: &str, request: Request) -> Result<Response, Error> {
        self.check(by, &request.url)?;
        let _place = self.places.take(whose).ok_or(Error::Busy)?;
        let timeout = request.timeout;
        match tokio::time::timeout(timeout, self.exchange(by, request)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout),
        }
    }

    async fn exchange(&self, by: ConfiguredBy, request: Request) -> Result<Response, Error> {
        let client = match by {
            ConfiguredBy::Project if request.url.port_or_known_default() == Some(HTTPS) => &self.of_projects,
            ConfiguredBy::Project => &self.of_projects_elsewhere,
            ConfiguredBy::Operator => &self.of_operator,
        };
        let call = client.request(request.method, request.url).headers(request.headers).body(request.body);
        let mut response = call.send().await.map_err(transport)?;
        let too_large = |length: u64| usize::try_from(length).map_or(true, |length| length > request.most_bytes);
        if response.content_length().is_some_and(too_large) {
            return Err(Error::TooLarge);
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > request.most_bytes {
                return Err(Error::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status: response.status(), headers: std::mem::take(response.headers_mut()), body: body.freeze() })
    }
}

/// What the resolver refused is inside of what the HTTP client says.
fn transport(error: reqwest::Error) -> Error {
    if error.is_timeout() {
        return Error::Timeout;
    }
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        match cause.downcast_ref::<Error>() {
            Some(Error::PrivateAddress(host)) => return Error::PrivateAddress(host.clone()),
            Some(Error::Unknown { host, .. }) => return Error::Unknown { host: host.clone(), source: None },
            _ => source = cause.source(),
        }
    }
    // The URL may hold a token.
    Error::Transport(Box::new(error.without_url()))
}

fn tls_config(rules: &Rules) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for der in &rules.extra_roots {
        roots.add(der.clone().into()).map_err(|error| Error::Setup(Box::new(error)))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Setup(Box::new(error)))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A client for targets at `port`; 0 is any but that of https.
fn http_client(rules: &Rules, by: ConfiguredBy, port: u16, tls: ClientConfig) -> Result<reqwest::Client, Error> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        // The environment's proxies would look names up themselves.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .user_agent("LaunchDB")
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .dns_resolver(Arc::new(Resolver { rules: rules.clone(), by, port }))
        .build()
        .map_err(|error| Error::Setup(Box::new(error)))
}

/// Hands the HTTP client only addresses that the rules allow, so that it can connect to nothing else.
struct Resolver {
    rules: Rules,
    by: ConfiguredBy,
    /// The HTTP client does not say which one it asks for.
    port: u16,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, by, port) = (self.rules.clone(), self.by, self.port);
        Box::pin(async move {
            let found: Vec<SocketAddr> = rules.addresses(by, name.as_str(), port).await?;
            // A port of 0 is replaced by the URL's.
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address.ip(), 0))) as Addrs)
        })
    }
}
