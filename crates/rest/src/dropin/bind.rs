//! Where the server listens: an address, a special name of PostgREST's, or a unix socket.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::StartError;
use crate::config::DropIn;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long the server may take to accept a connection from itself.
const REACH: Duration = Duration::from_secs(2);

/// Who is at the other end; nobody can tell behind a unix socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: Option<SocketAddr>,
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self { address: Some(*stream.remote_addr()) }
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(_: IncomingStream<'_, UnixListener>) -> Self {
        Self { address: None }
    }
}

/// Bound, and not yet answering.
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Where a [`Listening`] can be reached.
#[derive(Clone)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Unknown,
}

/// The API's listener.
pub(super) async fn api(settings: &DropIn) -> Result<Listening, StartError> {
    match &settings.server_unix_socket {
        Some(path) => unix(Path::new(path), settings.server_unix_socket_mode)
            .map_err(|source| StartError::Listen { address: path.clone(), source }),
        None => tcp(&settings.server_host, settings.server_port).await,
    }
}

/// The admin server's, when one is wanted.
pub(super) async fn admin(settings: &DropIn) -> Result<Option<Listening>, StartError> {
    match settings.admin_server_port {
        Some(port) => tcp(&settings.admin_server_host, port).await.map(Some),
        None => Ok(None),
    }
}

fn unix(path: &Path, mode: u32) -> io::Result<Listening> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(Listening::Unix(listener, path.to_owned()))
}

async fn tcp(host: &str, port: u16) -> Result<Listening, StartError> {
    let failed = |source| StartError::Listen { address: format!("{host}:{port}"), source };
    let mut problem = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (address, only_v6) in addresses(host, port).await.map_err(failed)? {
        match listen(address, only_v6) {
            Ok(listener) => return Ok(Listening::Tcp(listener)),
            Err(error) => problem = error,
        }
    }
    Err(failed(problem))
}

/// What to try for a host, in this order, and whether IPv6 alone is meant. The special names are those of the library
/// that PostgREST uses (streaming-commons, `HostPreference`).
async fn addresses(host: &str, port: u16) -> io::Result<Vec<(SocketAddr, bool)>> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    Ok(match host {
        "!4" => vec![(v4, false)],
        "*4" => vec![(v4, false), (v6, false)],
        "!6" => vec![(v6, true)],
        // IPv6's unspecified address takes connections of both kinds.
        "*" | "*6" => vec![(v6, false), (v4, false)],
        // A name may stand for several.
        name => {
            let name = name.trim_start_matches('[').trim_end_matches(']');
            tokio::net::lookup_host((name, port)).await?.map(|address| (address, address.is_ipv6())).collect()
        }
    })
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(StdTcpListener::from(socket))
}

impl Listening {
    pub(super) fn reachable_at(&self) -> Address {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(Address::Unknown, Address::Tcp),
            Self::Unix(_, path) => Address::Unix(path.clone()),
        }
    }

    /// Answers until `shutdown`, then lets requests under way end.
    pub(super) async fn serve(
        self,
        router: Router,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartError> {
        let service = router.into_make_service_with_connect_info::<Peer>();
        let result = match self {
            Self::Tcp(listener) => axum::serve(listener, service).with_graceful_shutdown(shutdown).await,
            Self::Unix(listener, path) => {
                let result = axum::serve(listener, service).with_graceful_shutdown(shutdown).await;
                // Whoever looks for it may see that nobody is there any more.
                std::fs::remove_file(path).ok();
                result
            }
        };
        result.map_err(StartError::Serve)
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reachable_at() {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Unknown => f.write_str("an unknown address"),
        }
    }
}

impl Address {
    /// Whether somebody accepts connections there.
    pub(super) async fn is_reachable(&self) -> bool {
        let reached = tokio::time::timeout(REACH, async {
            match self {
                Self::Tcp(address) => reach(*address).await,
                Self::Unix(path) => UnixStream::connect(path).await.map(drop),
                Self::Unknown => Err(io::ErrorKind::AddrNotAvailable.into()),
            }
        });
        matches!(reached.await, Ok(Ok(())))
    }
}

/// IPv6's unspecified address takes connections of both kinds, and a machine may have no IPv6 to reach it by.
async fn reach(address: SocketAddr) -> io::Result<()> {
    let reached = match TcpStream::connect(address).await {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await
        }
        reached => reached,
    };
    reached.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn special_names_stand_for_addresses() {
        let check = async |host: &str, expected: &[(&str, bool)]| {
            let found = addresses(host, 3000).await.unwrap();
            let found: Vec<(String, bool)> = found.iter().map(|(address, only)| (address.to_string(), *only)).collect();
            let expected: Vec<(String, bool)> = expected.iter().map(|(a, only)| ((*a).to_owned(), *only)).collect();
            assert_eq!(found, expected, "{host}");
        };
        check("!4", &[("0.0.0.0:3000", false)]).await;
        check("*4", &[("0.0.0.0:3000", false), ("[::]:3000", false)]).await;
        check("!6", &[("[::]:3000", true)]).await;
        check("*6", &[("[::]:3000", false), ("0.0.0.0:3000", false)]).await;
        check("*", &[("[::]:3000", false), ("0.0.0.0:3000", false)]).await;
        check("127.0.0.1", &[("127.0.0.1:3000", false)]).await;
        check("[::1]", &[("[::1]:3000", true)]).await;
    }
}
