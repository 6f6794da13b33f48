//! HTTP plumbing that the services share: wire errors, key check, CORS, limits, request log, metrics, graceful serve.
//!
//! Everything here is on the path of every request. It is plain functions over `http` types: no tower layers, no regular
//! expressions, and no allocation that a request does not need. Nothing is process-wide: state lives in values that the
//! binary makes and hands on.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

pub mod api_key;
pub mod byte_budget;
pub mod client_ip;
pub mod cors;
pub mod error;
pub mod health;
pub mod internal_key;
pub mod json;
pub mod limits;
pub mod log_buffer;
pub mod log_request;
pub mod metrics;
pub mod overload;
pub mod rate_limit;
pub mod received_body;
pub mod rejection;
pub mod request_id;
pub mod security_headers;
pub mod serve;
pub mod service;

pub use api_key::{ApiKeyCheck, KeyError};
pub use error::{Protocol, WireError, respond};
pub use json::Json;
pub use limits::{BodyError, read_body};
pub use rejection::Rejection;
pub use request_id::RequestId;
pub use serve::{Handler, Hello, ServeConfig, Tls, Work, serve};
pub use service::{HttpService, ServiceKind};

/// The request's URI as the client wrote it, kept as an extension where the gateway rewrote the URI for a service
/// (`/p/<id>/rest/v1/items?x` arrives at the service as `/items?x`).
#[derive(Clone, Debug)]
pub struct OriginalPath(pub http::Uri);

/// The address of the other end of the connection, as an extension for handlers that are served without a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub std::net::SocketAddr);

/// The address of the client behind trusted proxies (see [`client_ip`]), as an extension of every request that a
/// gateway hands to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIp(pub std::net::IpAddr);
