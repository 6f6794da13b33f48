//! What an operation knows of its request.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::extract::Request;
use base::{AuthSettings, Caller, Project, RoleName};
use http::{HeaderMap, header};
use pg::Pool;
use url::form_urlencoded;
use web::{ClientIp, Protocol, RequestId};

use crate::config::Shared;
use crate::error::Error;
use crate::redirect;
use crate::timestamp::Timestamp;

/// Longest `User-Agent` that is stored, in characters.
const LONGEST_USER_AGENT: usize = 512;

/// The context of one request: first parameter of every operation.
pub(crate) struct Cx {
    pub(crate) shared: Arc<Shared>,
    pub(crate) project: Arc<Project>,
    pub(crate) caller: Caller,
    /// The project's database.
    pub(crate) pool: Pool,
    pub(crate) now: Timestamp,
    pub(crate) client_ip: IpAddr,
    pub(crate) user_agent: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) protocol: Protocol,
    /// Whether a mail was put into the queue: the worker is told when the request is done.
    pub(crate) mail_waits: AtomicBool,
}

impl Cx {
    /// None when the request came without project or caller, which no gateway lets happen.
    pub(crate) fn new(shared: &Arc<Shared>, request: &Request) -> Option<Self> {
        let extensions = request.extensions();
        let project = extensions.get::<Arc<Project>>()?.clone();
        let caller = extensions.get::<Caller>()?.clone();
        let headers = request.headers();
        let query = request.uri().query().unwrap_or_default();
        let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let trace = extensions.get::<RequestId>().filter(|_| project.data_api.trace_requests);
        Some(Self {
            pool: shared.config.pools.of(&project).traced(trace.map(RequestId::as_str)),
            now: Timestamp::now(&shared.config.clock),
            client_ip: extensions.get::<ClientIp>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ip| ip.0),
            user_agent: user_agent.map(|text| text.chars().take(LONGEST_USER_AGENT).collect()),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            protocol: Protocol::auth(headers),
            headers: headers.clone(),
            mail_waits: AtomicBool::new(false),
            shared: shared.clone(),
            project,
            caller,
        })
    }

    pub(crate) fn settings(&self) -> &AuthSettings {
        &self.project.auth
    }

    /// The first value of a parameter of the query; an empty one is none.
    pub(crate) fn query_param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The base of the project's services.
    pub(crate) fn api_url(&self) -> String {
        format!("{}/p/{}", self.shared.config.public_url, self.project.project_ref)
    }

    /// The base of this service; also the issuer of its tokens.
    pub(crate) fn auth_url(&self) -> String {
        format!("{}/auth/v1", self.api_url())
    }

    /// Where the user is sent in the end: what the request names, if the project allows it, or its site.
    pub(crate) fn redirect_to(&self) -> String {
        let header = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok()).map(Cow::from);
        let asked = header("redirect_to").or_else(|| self.query_param("redirect_to").map(Cow::from));
        redirect::choose(self.settings(), [asked.as_deref(), header("referer").as_deref()])
    }

    /// Whether the caller has the project's secret key.
    pub(crate) fn is_admin(&self) -> bool {
        self.caller.role.as_str() == RoleName::SERVICE_ROLE
    }

    pub(crate) fn require_admin(&self) -> Result<(), Error> {
        use crate::error::ErrorCode;
        if self.is_admin() { Ok(()) } else { Err(Error::new(ErrorCode::NotAdmin, "User not allowed")) }
    }
}
