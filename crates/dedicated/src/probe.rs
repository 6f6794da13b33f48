//! A look at an instance's admin server: one request over a connection of its own.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an instance may take to say that it lives.
const PATIENCE: Duration = Duration::from_secs(2);

/// The status of `GET path`; none when there is no answer in time.
pub(crate) async fn status(host: &str, port: u16, path: &str) -> Option<u16> {
    timeout(PATIENCE, ask(host, port, path)).await.ok()?
}

async fn ask(host: &str, port: u16, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect((host, port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    // "HTTP/1.1 200" are 12 bytes.
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}
