//! The few requests of the Docker Engine API that are needed, over a unix socket or TCP (a filtering proxy).

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::error::Error;

/// How long the engine may take; ending a container has its own patience inside.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const MOST: usize = 4 * 1024 * 1024;

/// Where the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

/// A connection for each request: they are few.
#[derive(Clone, Debug)]
pub(crate) struct EngineApi {
    address: Address,
    /// As configured, for messages.
    text: String,
}

impl EngineApi {
    /// `unix:///run/docker.sock`, `tcp://docker-proxy:2375` or `http://...`, as `DOCKER_HOST` has it.
    pub(crate) fn new(text: &str) -> Result<Self, Error> {
        let tcp = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://"));
        let address = match (text.strip_prefix("unix://"), tcp) {
            (Some(path), _) => Some(Address::Unix(path.into())),
            (None, Some(host)) => Some(Address::Tcp(host.trim_end_matches('/').to_owned())),
            (None, None) => None,
        };
        match address {
            Some(address) => Ok(Self { address, text: text.to_owned() }),
            None => Err(Error::Docker {
                address: text.to_owned(),
                problem: "it is neither unix:///path nor tcp://host:port (DOCKER_HOST)".to_owned(),
            }),
        }
    }

    fn failed(&self, problem: impl ToString) -> Error {
        Error::Docker { address: self.text.clone(), problem: problem.to_string() }
    }

    /// Status and body; a body that is no JSON is null.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Error> {
        let answered = timeout(PATIENCE, async {
            match &self.address {
                Address::Unix(path_of_socket) => {
                    let stream = UnixStream::connect(path_of_socket).await.map_err(|e| self.failed(e))?;
                    self.exchange(stream, method, path, body).await
                }
                Address::Tcp(host) => {
                    let stream = TcpStream::connect(host.as_str()).await.map_err(|e| self.failed(e))?;
                    self.exchange(stream, method, path, body).await
                }
            }
        });
        answered.await.map_err(|_| self.failed("it takes too long"))?
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.failed(e))?;
        let host = match &self.address {
            Address::Unix(_) => "docker",
            Address::Tcp(host) => host,
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default());
        let request = request.body(body).map_err(|e| self.failed(e))?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(|e| self.failed(e))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|e| self.failed(e))?;
            Ok((status, serde_json::from_slice(&body.to_bytes()).unwrap_or_default()))
        };
        tokio::pin!(answered);
        // The connection's own work is done beside, and ends with the answer.
        tokio::select! {
            biased;
            answer = &mut answered => answer,
            ended = connection => match ended {
                Ok(()) => answered.await,
                Err(error) => Err(self.failed(error)),
            },
        }
    }

    /// An answer that is none of those wanted, as an error with what the engine says.
    pub(crate) fn refused(&self, status: StatusCode, body: &Value) -> Error {
        self.failed(format!("{status}: {}", body["message"].as_str().unwrap_or("without a reason")))
    }
}
