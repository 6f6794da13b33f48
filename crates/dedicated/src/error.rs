//! What the postgrest-manager refuses, and how it says so.

use std::borrow::Cow;
use std::io;

use axum::response::{IntoResponse, Response};
use base::ProjectRef;
use http::StatusCode;
use web::{Protocol, WireError};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the internal key is needed (X-Internal-Key)")]
    WrongKey,
    #[error("{0}")]
    BadId(String),
    #[error("there is no project {0}")]
    NoSuchProject(ProjectRef),
    #[error("the project {0} is not active: only an active one can have an instance")]
    NotActive(ProjectRef),
    #[error("{0} has an instance already")]
    Running(ProjectRef),
    #[error("{0} has no instance: spawn one first")]
    NotRunning(ProjectRef),
    #[error("another request is changing the instance of {0}: try again when it is done")]
    Busy(ProjectRef),
    #[error("there are {0} instances, the most that this server allows (LAUNCHDB_POSTGREST_MAX)")]
    Full(usize),
    #[error("no free port is left in {0}-{1} (LAUNCHDB_POSTGREST_PORTS)")]
    NoPort(u16, u16),
    /// The configuration file has been edited so that an instance would not take it.
    #[error("{file} cannot be used and was not loaded; the instance goes on with what it has: {problem}")]
    Conf { file: String, problem: String },
    #[error(
        "the container name {name} is taken by a container that is not ours: remove or rename it (docker rm {name})"
    )]
    NameTaken { name: String },
    #[error("the instance of {project} does not start: {problem}")]
    Start { project: ProjectRef, problem: String },
    #[error("the Docker engine at {address} does not answer: {problem}")]
    Docker { address: String, problem: String },
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("there is no such route")]
    NoRoute,
    #[error("this method is not allowed here")]
    Method,
    #[error("the body is no JSON object with projectId")]
    Body,
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    fn table(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::WrongKey => (S::UNAUTHORIZED, "wrong_internal_key"),
            Self::BadId(_) => (S::BAD_REQUEST, "bad_project_id"),
            Self::Body => (S::BAD_REQUEST, "bad_body"),
            Self::NoSuchProject(_) => (S::NOT_FOUND, "no_such_project"),
            Self::NotRunning(_) => (S::NOT_FOUND, "not_running"),
            Self::NoRoute => (S::NOT_FOUND, "not_found"),
            Self::Method => (S::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::NotActive(_) => (S::CONFLICT, "project_not_active"),
            Self::Running(_) => (S::CONFLICT, "already_running"),
            Self::Busy(_) => (S::CONFLICT, "busy"),
            Self::NameTaken { .. } => (S::CONFLICT, "container_name_taken"),
            Self::Conf { .. } => (S::UNPROCESSABLE_ENTITY, "bad_configuration"),
            Self::Full(_) => (S::SERVICE_UNAVAILABLE, "too_many_instances"),
            Self::NoPort(..) => (S::SERVICE_UNAVAILABLE, "no_free_port"),
            Self::Start { .. } => (S::BAD_GATEWAY, "does_not_start"),
            Self::Docker { .. } => (S::BAD_GATEWAY, "docker_unreachable"),
            Self::Io { .. } => (S::INTERNAL_SERVER_ERROR, "io"),
        }
    }
}

/// Callers are processes and operators of the same installation: they are told everything.
impl WireError for Error {
    fn status(&self) -> StatusCode {
        self.table().0
    }

    fn code(&self) -> Cow<'_, str> {
        self.table().1.into()
    }

    fn body(&self) -> Vec<u8> {
        Protocol::Platform.body(self.status(), &self.code(), &self.to_string(), None, None)
    }

    fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.status().is_server_error().then_some(self as &dyn std::error::Error)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        web::respond(&self)
    }
}
