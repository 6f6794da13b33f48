//! The data API of all projects in one process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response as HttpResponse;
use base::slow_query::SlowQuery;
use base::{Caller, Project, ProjectRef, ProjectTable, RoleName};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use web::{HttpService, Protocol, Rejection};

use crate::error::{self, Error};
use crate::grant_hint;
use crate::instance::{Instance, Shared};
use crate::response::{self, Response, ServerTiming};
use crate::slow_queries::SlowQueries;

/// Serves every project whose snapshot comes with the request. A project that nobody asks for costs nothing.
pub struct Engine {
    shared: Shared,
    instances: RwLock<HashMap<ProjectRef, Arc<Instance>>>,
    slow_queries: Arc<SlowQueries>,
}

impl Engine {
    pub fn new(shared: Shared) -> Arc<Self> {
        Arc::new(Self { shared, instances: RwLock::default(), slow_queries: Arc::default() })
    }

    /// One handler for everything: relations and functions are found in the schema cache, not in a route table.
    ///
    /// Requests must carry `Arc<Project>` and [`Caller`] in their extensions and a path below the service's base.
    pub fn service(self: &Arc<Self>) -> HttpService {
        let engine = self.clone();
        HttpService::from_fn(move |request| handle(engine.clone(), request))
    }

    /// The instance for this snapshot of the project.
    fn instance(&self, project: &Project) -> Arc<Instance> {
        let found = self.read().get(&project.project_ref).cloned();
        match found {
            Some(instance) if instance.revision() >= project.revision => instance,
            before => self.renew(project, before),
        }
    }

    fn renew(&self, project: &Project, before: Option<Arc<Instance>>) -> Arc<Instance> {
        let mut instances = self.instances.write().unwrap_or_else(PoisonError::into_inner);
        // Another request may have been here first.
        if let Some(present) = instances.get(&project.project_ref)
            && present.revision() >= project.revision
        {
            return present.clone();
        }
        let instance = Arc::new(Instance::of_project(project, before.as_deref(), &self.shared, &self.slow_queries));
        if let Some(before) = instances.insert(project.project_ref.clone(), instance.clone()) {
            before.retire(Some(&instance));
        }
        instance
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<ProjectRef, Arc<Instance>>> {
        self.instances.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many projects' schemas are held in memory.
    pub fn loaded_schema_caches(&self) -> usize {
        self.read().values().filter(|instance| instance.loaded_schema_cache().is_some()).count()
    }

    /// Requests whose statements took longer than their projects want them to, since this was last asked; oldest first.
    pub fn take_slow_queries(&self) -> Vec<SlowQuery> {
        self.slow_queries.take()
    }

    /// How many there were since the start.
    pub fn slow_query_totals(&self) -> Vec<(ProjectRef, u64)> {
        self.slow_queries.totals()
    }

    /// Gives up what belongs to projects that are no longer there or no longer active.
    pub fn forget_inactive(&self, projects: &ProjectTable) {
        self.slow_queries.forget_inactive(projects);
        let mut instances = self.instances.write().unwrap_or_else(PoisonError::into_inner);
        instances.retain(|project_ref, instance| {
            let active = projects.get(project_ref).is_some_and(|p| p.status == base::ProjectStatus::Active);
            if !active {
                instance.retire(None);
            }
            active
        });
    }
}

async fn handle(engine: Arc<Engine>, request: Request) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let (Some(project), Some(caller)) = (parts.extensions.get::<Arc<Project>>(), parts.extensions.get::<Caller>())
    else {
        return render(&Error::Internal("a request came without project or caller".to_owned()), false);
    };
    let instance = engine.instance(project);
    let body = match web::read_body(body).await {
        Ok(body) => body,
        Err(error) => return Rejection::from(error).respond(Protocol::Rest),
    };
    let mut timing = ServerTiming::start(instance.config.server_timing_enabled);
    match instance.respond(caller, &parts, &body, &mut timing).await {
        Ok(response) => into_http(response),
        Err(error) => {
            let error = grant_hint::explain(error, caller, &parts.method);
            render(&error, caller.role.as_str() != RoleName::ANON)
        }
    }
}

/// The whole body of a request to a drop-in server, which bounds no sizes, as PostgREST does not.
pub(crate) async fn collect(body: Body) -> Result<Bytes, Error> {
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(Error::InvalidBody(format!("The body could not be read: {error}"))),
    }
}

pub(crate) fn into_http(response: Response) -> HttpResponse {
    let measured = response.headers.contains_key(CONTENT_LENGTH) || response.status == StatusCode::NO_CONTENT;
    let body = match response.body {
        response::Body::Long(mut value) => Body::new(StreamBody::new(futures_util::stream::poll_fn(move |cx| {
            value.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
        }))),
        response::Body::Whole(bytes) if measured => Body::from(bytes),
        // Without a length from us (HEAD), the HTTP server must not make one of the body that is not there.
        response::Body::Whole(_) => {
            Body::new(StreamBody::new(futures_util::stream::empty::<Result<Frame<Bytes>, Infallible>>()))
        }
    };
    let mut http = HttpResponse::new(body);
    *http.status_mut() = response.status;
    *http.headers_mut() = response.headers;
    http
}

/// Renders an error; what is our own or PostgreSQL's fault goes to the log.
pub(crate) fn render(error: &Error, authenticated: bool) -> HttpResponse {
    let (status, mut headers, body) = error::render(error, authenticated);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if status.is_server_error() {
        tracing::error!(code = %error.code(), status = status.as_u16(), "{error}");
    }
    into_http(Response { status, headers, body: body.into() })
}
