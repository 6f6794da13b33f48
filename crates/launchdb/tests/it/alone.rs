//! One service as a process of its own, beside a server that has everything: with its database and secrets, and no data
//! folder.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use test_support::free_port;

use crate::server::{Server, launchdb};

/// The process; it ends with the test.
pub(crate) struct Alone {
    child: Child,
    pub(crate) url: String,
}

impl Alone {
    /// `serve --only service`, with these settings besides.
    pub(crate) fn start(server: &Server, service: &str, working_folder: &Path, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let text = std::fs::read_to_string(server.data().join("secrets.env")).expect("secrets were made");
        let secret = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("{name} is among the secrets")).to_owned()
        };
        let address = |user: &str, password: &str, database: &str| {
            format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", server.postgres_port())
        };
        let child = launchdb(working_folder)
            .args(["serve", "--only", service, "--port", &port.to_string()])
            .env("DATABASE_URL", address("platform", &secret("LAUNCHDB_PLATFORM_DB_PASSWORD"), "platform"))
            .env(
                "LAUNCHDB_ADMIN_DATABASE_URL",
                address("supabase_admin", &secret("POSTGRES_SUPERUSER_PASSWORD"), "postgres"),
            )
            .env("LAUNCHDB_MASTER_KEY", secret("LAUNCHDB_MASTER_KEY"))
            .env("PLATFORM_JWT_SECRET", secret("PLATFORM_JWT_SECRET"))
            // Clients know one address of a project, whatever answers behind it.
            .env("LAUNCHDB_PUBLIC_URL", server.url())
            .env("LAUNCHDB_ADMIN_PORT", "0")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }

    /// It ends in order.
    pub(crate) fn end(mut self) {
        assert!(test_support::signal(self.child.id(), "TERM"));
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                break status;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
