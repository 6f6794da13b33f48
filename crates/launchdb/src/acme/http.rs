//! Calls to the certificate authority.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use outbound::{Client, ConfiguredBy};
use url::Url;

/// Validation waits for nobody, so answers come soon; a chain of certificates has a few KB.
const TIMEOUT: Duration = Duration::from_secs(20);
const MOST_BYTES: usize = 256 * 1024;

/// The authority is the operator's choice, and may be in a private network.
pub(super) struct Http(pub(super) Client);

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let url = Url::parse(&parts.uri.to_string()).map_err(|error| Error::Other(Box::new(error)))?;
            let request = outbound::Request {
                method: parts.method,
                url,
                headers: parts.headers,
                body: body.to_bytes(),
                timeout: TIMEOUT,
                most_bytes: MOST_BYTES,
            };
            let answer = client.send(ConfiguredBy::Operator, "acme", request).await;
            let answer = answer.map_err(|error| Error::Other(Box::new(error)))?;
            let mut response = http::Response::new(Full::new(answer.body));
            (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
            Ok(BytesResponse::from(response))
        })
    }
}
