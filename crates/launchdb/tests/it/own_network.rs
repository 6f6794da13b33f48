//! A network and a hosts file of a test's own: names that lead here, and ports that need rights elsewhere.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use test_support::ScratchDir;

/// Names the hosts file to the test inside.
const HOSTS: &str = "LAUNCHDB_TEST_HOSTS";

/// The hosts file of the network that this process is in.
pub(crate) struct OwnNetwork(PathBuf);

/// How to run a command in namespaces of its own: as root, as a user, with sudo.
const WAYS: [&[&str]; 3] = [
    &["unshare", "--net", "--mount"],
    &["unshare", "--map-current-user", "--keep-caps", "--net", "--mount"],
    &["sudo", "--non-interactive", "--preserve-env", "unshare", "--net", "--mount"],
];

/// None when the first word of `way` is not there.
fn status(way: &[&str], words: &[&OsStr]) -> Option<ExitStatus> {
    Command::new(way[0]).args(&way[1..]).args(words).stdin(Stdio::null()).status().ok()
}

impl OwnNetwork {
    /// None outside, after `test` (its whole name) ran inside and passed. Needs no rights where users may make namespaces, and
    /// sudo without a password where they may not (Ubuntu).
    pub(crate) fn enter(test: &str) -> Option<Self> {
        if let Some(hosts) = std::env::var_os(HOSTS) {
            return Some(Self(hosts.into()));
        }
        let folder = ScratchDir::new();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 localhost\n").expect("written");
        let way = WAYS.iter().find(|way| status(way, &["true".as_ref()]).is_some_and(|status| status.success()));
        let way = way.unwrap_or_else(|| {
            panic!(
                "{test} needs a network of its own: root, namespaces that users may make (sysctl \
                 kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), or sudo without a password"
            )
        });
        // Everybody reads it: PostgreSQL is another user.
        let set_up =
            "ip link set lo up && mount --bind \"$1\" /etc/hosts && export \"$2=$1\" && shift 2 && exec \"$@\"";
        let program = std::env::current_exe().expect("this test's program");
        let words: [&OsStr; 9] = [
            "sh".as_ref(),
            "-c".as_ref(),
            set_up.as_ref(),
            "sh".as_ref(),
            hosts.as_ref(),
            HOSTS.as_ref(),
            program.as_ref(),
            "--exact".as_ref(),
            test.as_ref(),
        ];
        let status = status(way, &[&words[..], &["--nocapture".as_ref()]].concat());
        assert!(
            status.is_some_and(|status| status.success()),
            "{test} failed in a network of its own ({status:?}); it needs `ip` (iproute2)"
        );
        None
    }

    /// Lets a name lead here.
    pub(crate) fn add(&self, name: &str) {
        let before = std::fs::read_to_string(&self.0).expect("the hosts file");
        std::fs::write(&self.0, format!("{before}127.0.0.1 {name}\n")).expect("written");
    }
}
