//! Instances as child processes. They outlive a killed manager, and the next one adopts them.

use std::io;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use procs::process::{self, ProcessId, Signal};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::backend::ENDING;

/// Between two looks at a process that is no child of ours.
const LOOK: Duration = Duration::from_millis(100);
/// How long a program may take to read a configuration and say what is wrong with it.
const CHECK: Duration = Duration::from_secs(15);

/// What is started, and where it listens.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    pub program: Program,
    pub bind: IpAddr,
    /// First and last port that instances may have; each takes two.
    pub ports: (u16, u16),
}

/// A program that takes a configuration file as its last argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    /// What stands before the file: `rest` for LaunchDB's own.
    pub arguments: Vec<String>,
    /// LaunchDB's reloads everything at SIGHUP, which ends a real postgrest.
    pub is_launchdb: bool,
}

impl Program {
    fn command(&self, conf: &Path) -> std::process::Command {
        let mut command = std::process::Command::new(&self.path);
        command.args(&self.arguments).arg(conf).current_dir("/").env_clear().stdin(Stdio::null());
        // A Ctrl-C is for the manager, which ends its instances itself.
        command.process_group(0);
        command
    }

    /// Whether these are the arguments of an instance with this file. An operator's editor has the file open, too.
    fn is_instance(&self, arguments: &[&str], conf: &Path) -> bool {
        let is = |argument: Option<&&str>, path: &Path| argument.is_some_and(|text| Path::new(text) == path);
        arguments.len() == self.arguments.len() + 2 && is(arguments.first(), &self.path) && is(arguments.last(), conf)
    }

    /// Starts an instance. It says what it has to say where the manager does.
    pub(crate) fn start(&self, conf: &Path) -> io::Result<Instance> {
        let mut child = Command::from(self.command(conf)).spawn()?;
        match child.id().and_then(ProcessId::of) {
            Some(id) => Ok(Instance { id, child: Some(child) }),
            // It ended already; what it was nobody will ask.
            None => {
                let _ = child.start_kill();
                Ok(Instance { id: ProcessId::remembered(child.id().unwrap_or_default(), 0), child: Some(child) })
            }
        }
    }

    /// An instance of an earlier manager that still runs: the process that was written down, as it was then and with
    /// this file. Others with this file that nobody wrote down are ended, for the port is theirs.
    pub(crate) async fn adopt(&self, conf: &Path, noted: Option<ProcessId>) -> Option<Instance> {
        let uid = rustix::process::geteuid().as_raw();
        let found = process::find(uid, |arguments| self.is_instance(arguments, conf));
        let mut adopted = None;
        for id in found {
            if Some(&id) == noted.as_ref() {
                adopted = Some(Instance { id, child: None });
            } else if !id.ended_within(Duration::ZERO).await {
                let mut stray = Instance { id, child: None };
                stray.end().await;
            }
        }
        adopted
    }

    /// Has the program read the file; what it says against it.
    pub(crate) async fn check(&self, conf: &Path) -> Result<(), String> {
        let mut command = Command::from(self.command(conf));
        command.arg("--dump-config").stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("{} cannot be started: {error}", self.path.display()))?;
        match timeout(CHECK, child.wait_with_output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let text = String::from_utf8_lossy(&output.stderr);
                Err(text.trim().strip_prefix("launchdb: ").unwrap_or(text.trim()).to_owned())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it takes too long to be read".to_owned()),
        }
    }

    /// Has an instance read its file again.
    pub(crate) fn reload(&self, id: &ProcessId) -> io::Result<()> {
        if self.is_launchdb {
            return id.signal(Signal::HUP);
        }
        id.signal(Signal::USR2)?;
        id.signal(Signal::USR1)
    }
}

/// A running instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: ProcessId,
    /// None for an adopted one.
    child: Option<Child>,
}

impl Instance {
    /// Waits for its end, and tells it.
    pub(crate) async fn ended(&mut self) -> String {
        match &mut self.child {
            Some(child) => match child.wait().await {
                Ok(status) => format!("it ended with {status}"),
                Err(error) => error.to_string(),
            },
            None => {
                while self.id.is_alive() {
                    tokio::time::sleep(LOOK).await;
                }
                "it ended".to_owned()
            }
        }
    }

    /// Ends it: requests under way may finish for a moment.
    pub(crate) async fn end(&mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            if let Err(error) = self.id.signal(signal) {
                tracing::warn!(pid = self.id.pid, %error, "an instance cannot be ended");
                return;
            }
            if timeout(ENDING, self.ended()).await.is_ok() {
                return;
            }
        }
    }

    /// Ends it at once.
    pub(crate) async fn kill(&mut self) {
        let _ = self.id.signal(Signal::KILL);
        let _ = timeout(ENDING, self.ended()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_adopted_only_if_it_is_the_one_that_was_noted() {
        let home = tempfile::tempdir().unwrap();
        // A program that takes a file and lives: tail follows it.
        let conf = home.path().join("proj_abc.conf");
        std::fs::write(&conf, "").unwrap();
        let program = Program { path: "/usr/bin/tail".into(), arguments: vec!["-f".into()], is_launchdb: true };
        let first = program.start(&conf).unwrap();
        let id = first.id.clone();
        let mut adopted = loop {
            // Between fork and exec it has our own arguments still.
            if let Some(adopted) = program.adopt(&conf, Some(id.clone())).await {
                break adopted;
            }
        };
        assert_eq!(adopted.id, id);
        let other = ProcessId::remembered(id.pid, id.started() + 1);
        assert!(program.adopt(&conf, Some(other)).await.is_none());
        // Nobody had noted it like that, so it was ended.
        assert_eq!(timeout(Duration::from_secs(5), adopted.ended()).await.unwrap(), "it ended");
        drop(first);
    }
}
