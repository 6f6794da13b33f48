//! A network and a hosts file of a test's own: names that lead here, and ports that need rights elsewhere.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use test_support::ScratchDir;

/// Names the hosts file to the test inside.
const HOSTS: &str = "LAUNCHDB_TEST_HOSTS";

/// The hosts file of the network that this process is in.
pub(crate) struct OwnNetwork(PathBuf);

impl OwnNetwork {
    /// None outside, after `test` (its whole name) ran inside and passed. Needs no rights where users may make namespaces.
    pub(crate) fn enter(test: &str) -> Option<Self> {
        if let Some(hosts) = std::env::var_os(HOSTS) {
            return Some(Self(hosts.into()));
        }
        let folder = ScratchDir::new();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 localhost\n").expect("written");
        // Everybody reads it: PostgreSQL is another user.
        let set_up = format!("ip link set lo up && mount --bind \"${HOSTS}\" /etc/hosts && exec \"$0\" \"$@\"");
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--map-current-user", "--keep-caps"]);
        }
        let status = command
            .args(["--net", "--mount", "sh", "-c", &set_up])
            .arg(std::env::current_exe().expect("this test's program"))
            .args(["--exact", test, "--nocapture"])
            .env(HOSTS, &hosts)
            .stdin(Stdio::null())
            .status();
        let status = status.expect("unshare (util-linux) runs");
        assert!(
            status.success(),
            "{test} failed in a network of its own ({status}); it needs `ip` (iproute2), and namespaces that users may make \
             (sysctl kernel.unprivileged_userns_clone) where it does not run as root"
        );
        None
    }

    /// Lets a name lead here.
    pub(crate) fn add(&self, name: &str) {
        let before = std::fs::read_to_string(&self.0).expect("the hosts file");
        std::fs::write(&self.0, format!("{before}127.0.0.1 {name}\n")).expect("written");
    }
}
