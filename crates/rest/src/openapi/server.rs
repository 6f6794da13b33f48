//! Where the API can be reached.

use http::Uri;

use crate::config::Config;

pub(super) struct Server {
    pub(super) scheme: &'static str,
    /// Always with the port.
    pub(super) host: String,
    pub(super) base_path: String,
}

impl Server {
    /// From the configuration alone: what a request says of its host could be anything.
    pub(super) fn of(config: &Config) -> Self {
        config.openapi_server_proxy_uri.as_deref().and_then(Self::parse).unwrap_or_else(|| Self {
            scheme: "http",
            host: config.openapi_default_host.clone(),
            base_path: "/".to_owned(),
        })
    }

    fn parse(uri: &str) -> Option<Self> {
        let uri: Uri = uri.parse().ok()?;
        let authority = uri.authority()?;
        let (scheme, default_port) = if uri.scheme_str() == Some("http") { ("http", 80) } else { ("https", 443) };
        let port = authority.port_u16().unwrap_or(default_port);
        Some(Self { scheme, host: format!("{}:{port}", authority.host()), base_path: uri.path().to_owned() })
    }
}
