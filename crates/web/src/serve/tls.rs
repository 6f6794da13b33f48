//! TLS of a listener: which certificate a connection gets is asked once its first message is there.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// How long each half of a handshake may take: what the client says first, and what it says after our answer.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a client says at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The name it wants to reach (SNI), as it was sent; those that connect to an address send none.
    pub server_name: Option<String>,
    /// The protocols it speaks above TLS (ALPN).
    pub protocols: Vec<Vec<u8>>,
}

/// Decides about the certificates of a listener.
pub trait Tls: fmt::Debug + Send + Sync + 'static {
    /// How a connection goes on. It may take some seconds: a certificate may have to be got first.
    fn config(&self, hello: Hello) -> Pin<Box<dyn Future<Output = Arc<ServerConfig>> + Send + '_>>;
}

/// The encrypted connection.
pub(super) async fn accept(tls: &dyn Tls, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let start = timeout(HANDSHAKE, LazyConfigAcceptor::new(Acceptor::default(), stream)).await??;
    let hello = {
        let hello = start.client_hello();
        let protocols = hello.alpn().map(|all| all.map(<[u8]>::to_vec).collect());
        Hello { server_name: hello.server_name().map(str::to_owned), protocols: protocols.unwrap_or_default() }
    };
    let config = tls.config(hello).await;
    timeout(HANDSHAKE, start.into_stream(config)).await?
}
