//! The services that can be started alone.

/// One service started alone (`serve --only`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Service {
    /// The control plane: `/api/*` (port 8000).
    PlatformApi,
    /// The data API of every project (port 3000).
    Rest,
    /// The internal service that brings projects up to the present baseline (port 8002).
    Migrations,
    /// Buckets and files of every project (port 8003).
    Storage,
    /// The auth service of every project (port 8001).
    Auth,
    /// The public entrance with every service behind it (port 8000).
    Gateway,
}

impl Service {
    pub fn name(self) -> &'static str {
        match self {
            Self::PlatformApi => "platform-api",
            Self::Rest => "rest",
            Self::Migrations => "migrations",
            Self::Storage => "storage",
            Self::Auth => "auth",
            Self::Gateway => "gateway",
        }
    }

    /// Whether it only serves projects, and leaves the control plane to another process.
    pub fn serves_projects_only(self) -> bool {
        matches!(self, Self::Rest | Self::Auth | Self::Storage)
    }

    /// Whether it keeps projects: upgrades, spares, the watchdog, backups. One process of a server does.
    pub fn keeps_projects(only: Option<Self>) -> bool {
        matches!(only, None | Some(Self::PlatformApi))
    }

    /// The port of the specification.
    pub(super) fn default_port(self) -> u16 {
        match self {
            Self::PlatformApi | Self::Gateway => 8000,
            Self::Rest => 3000,
            Self::Migrations => 8002,
            Self::Storage => 8003,
            Self::Auth => 8001,
        }
    }
}
