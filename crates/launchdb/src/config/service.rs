//! The services that can be started alone.

/// One service started alone (`serve --only`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Service {
    /// The control plane, and the data API of every project: `/api/*`, `/db/*` (port 8000).
    PlatformApi,
    /// The data API of every project (port 3000).
    Rest,
    /// Buckets and files of every project (port 8003).
    Storage,
    /// The auth service of every project (port 8001).
    Auth,
    /// The internal service that brings projects up to the present baseline (port 8002).
    Migrations,
    /// Keeps data APIs in processes of their own (port 9000).
    PostgrestManager,
    /// PgBouncer, with entries that follow the projects (port 6432; health on 8004).
    Pgbouncer,
    /// The status page alone (port 3001).
    DashboardUi,
    /// The public entrance with every service behind it (port 8000).
    Gateway,
}

impl Service {
    pub fn name(self) -> &'static str {
        match self {
            Self::PlatformApi => "platform-api",
            Self::Rest => "rest",
            Self::Storage => "storage",
            Self::Auth => "auth",
            Self::Migrations => "migrations",
            Self::PostgrestManager => "postgrest-manager",
            Self::Pgbouncer => "pgbouncer",
            Self::DashboardUi => "dashboard-ui",
            Self::Gateway => "gateway",
        }
    }

    /// Whether it only serves projects, and leaves the control plane to another process.
    pub fn serves_projects_only(self) -> bool {
        matches!(self, Self::Rest | Self::Auth | Self::Storage | Self::PostgrestManager | Self::DashboardUi)
    }

    /// Whether it keeps projects: upgrades, spares, the watchdog, backups. One process of a server does.
    pub fn keeps_projects(only: Option<Self>) -> bool {
        matches!(only, None | Some(Self::PlatformApi))
    }

    /// Whether it answers on its port what only processes of the same installation may ask.
    pub fn is_internal(self) -> bool {
        matches!(self, Self::Migrations | Self::PostgrestManager | Self::Pgbouncer)
    }

    /// The port of the specification.
    pub(super) fn default_port(self) -> u16 {
        match self {
            Self::PlatformApi | Self::Gateway => 8000,
            Self::Rest => 3000,
            Self::Storage => 8003,
            Self::Auth => 8001,
            Self::Migrations => 8002,
            Self::PostgrestManager => 9000,
            Self::Pgbouncer => 8004,
            Self::DashboardUi => 3001,
        }
    }
}
