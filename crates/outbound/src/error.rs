//! Why a target was not spoken to, or did not answer as it should.

/// Each text may be shown to whoever configured the target; causes are in `source`, for the log only.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be called at all: no http(s), no host, or a user name in it.
    #[error("the URL is not one that can be called")]
    Url,
    /// Plain http to a target of a project.
    #[error("the URL has to begin with https://")]
    NotHttps,
    /// The host is, or resolves only to, addresses that a project may not reach.
    #[error("the host \"{0}\" is at a private address or this server's own, which is not allowed")]
    PrivateAddress(String),
    /// The name has no address.
    #[error("the host \"{host}\" has no address")]
    Unknown {
        host: String,
        #[source]
        source: Option<std::io::Error>,
    },
    /// Too many calls of this project are under way.
    #[error("too many calls are under way")]
    Busy,
    /// No whole answer in the time given.
    #[error("the host did not answer in time")]
    Timeout,
    /// More bytes than the caller takes.
    #[error("the answer is too large")]
    TooLarge,
    /// Connection, TLS or HTTP failed.
    #[error("the host could not be reached")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client could not be set up; never happens with the roots and provider that are built in.
    #[error("the client cannot be set up")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether the same call may succeed later without anybody changing a setting.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy | Self::Timeout | Self::Transport(_) | Self::Unknown { .. })
    }
}
