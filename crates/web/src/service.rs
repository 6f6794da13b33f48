//! The services of LaunchDB as the plumbing sees them.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use tower::Service as _;

use crate::error::Protocol;

/// Which service answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    Rest,
    Auth,
    Storage,
    Realtime,
    Functions,
    Graphql,
    /// The control plane, `/api`.
    Platform,
    /// The status page or dashboard.
    Pages,
    /// What the front answers itself: health, and paths that lead nowhere.
    Gateway,
}

impl ServiceKind {
    pub const ALL: [Self; 9] = [
        Self::Rest,
        Self::Auth,
        Self::Storage,
        Self::Realtime,
        Self::Functions,
        Self::Graphql,
        Self::Platform,
        Self::Pages,
        Self::Gateway,
    ];

    /// The name in paths, log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Auth => "auth",
            Self::Storage => "storage",
            Self::Realtime => "realtime",
            Self::Functions => "functions",
            Self::Graphql => "graphql",
            Self::Platform => "platform",
            Self::Pages => "pages",
            Self::Gateway => "gateway",
        }
    }

    /// The shape of this service's errors; auth's depends on the request.
    pub fn protocol(self, request: &HeaderMap) -> Protocol {
        match self {
            Self::Rest => Protocol::Rest,
            Self::Auth => Protocol::auth(request),
            Self::Storage => Protocol::Storage,
            Self::Realtime | Self::Functions => Protocol::Plain,
            Self::Graphql => Protocol::Graphql,
            Self::Platform | Self::Pages | Self::Gateway => Protocol::Platform,
        }
    }
}

/// Something that answers requests: an `axum::Router`, or a plain function where a router would only cost time.
#[derive(Clone)]
pub struct HttpService(Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>);

impl HttpService {
    /// Wraps a plain async function: one boxed future a request, and nothing else.
    pub fn from_fn<F, Fut>(f: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(f(request))))
    }

    /// Answers a request; none when the service panicked, which must not take the connection along.
    pub async fn call(&self, request: Request) -> Option<Response> {
        AssertUnwindSafe((self.0)(request)).catch_unwind().await.ok()
    }
}

impl From<axum::Router> for HttpService {
    fn from(router: axum::Router) -> Self {
        let router = router.with_state::<()>(());
        Self::from_fn(move |request| {
            let mut router = router.clone();
            async move {
                match router.call(request).await {
                    Ok(response) => response,
                    Err(never) => never_happens(never),
                }
            }
        })
    }
}

fn never_happens(never: Infallible) -> Response {
    match never {}
}

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpService")
    }
}
