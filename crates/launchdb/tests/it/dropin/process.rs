//! A running `postgrest` that is ours, and requests to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::server::launchdb;

/// Long enough for a machine that builds at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) body: String,
}

/// A link named `postgrest` in this folder.
pub(super) fn link(home: &Path) -> PathBuf {
    let link = home.join("postgrest");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_launchdb"), &link).expect("a link");
    }
    link
}

/// The command behind the link, without the test's own environment.
pub(super) fn postgrest(home: &Path) -> Command {
    let mut command = Command::new(link(home));
    command.env_clear().current_dir(home).stdin(Stdio::null());
    command
}

/// Runs the command to its end.
pub(super) fn run(home: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    postgrest(home).args(args).envs(env.iter().copied()).output().expect("the binary runs")
}

pub(super) struct Postgrest {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    port: u16,
}

impl Postgrest {
    /// Starts the server with a configuration file, through the link or as `launchdb rest --config`.
    pub(super) fn start(home: &Path, file: &Path, port: u16, linked: bool) -> Self {
        let mut command = if linked { postgrest(home) } else { launchdb(home) };
        if !linked {
            command.args(["rest", "--config"]);
        }
        let mut child = command
            .arg(file)
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let pipes: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for pipe in pipes {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    lines.lock().expect("no reader panicked").push(line);
                }
            });
        }
        Self { child, lines, port }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything printed so far.
    pub(super) fn output(&self) -> String {
        self.lines.lock().expect("no reader panicked").join("\n")
    }

    /// Waits until `look` gives a value.
    pub(super) fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = look(self) {
                return value;
            }
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                panic!("the server ended with {status} while waiting for: {what}\n{}", self.output());
            }
            assert!(start.elapsed() < PATIENCE, "never came: {what}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn signal(&self, name: &str) {
        assert!(test_support::signal(self.pid(), name));
    }

    pub(super) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// GET from the API.
    pub(super) fn get(&self, path: &str, token: &str) -> Answer {
        get(self.port, path, token).unwrap_or_else(|| panic!("no answer to {path}\n{}", self.output()))
    }

    /// Waits until the API answers with this status.
    pub(super) fn until_status(&mut self, path: &str, status: u16) {
        let port = self.port;
        self.until(&format!("{status} of {path}"), |_| get(port, path, "").filter(|answer| answer.status == status));
    }
}

impl Drop for Postgrest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// GET from a port of this machine; None when nobody answers.
pub(super) fn get(port: u16, path: &str, token: &str) -> Option<Answer> {
    request(&agent(), port, path, token)
}

/// POST of JSON.
pub(super) fn post(port: u16, path: &str, token: &str, body: &str) -> Option<Answer> {
    let mut request = agent().post(format!("http://127.0.0.1:{port}{path}")).content_type("application/json");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    read(request.send(body).ok()?)
}

/// OPTIONS, which asks the schema cache alone; None unless it is found there.
pub(super) fn options(port: u16, path: &str) -> Option<()> {
    let answer = agent().options(format!("http://127.0.0.1:{port}{path}")).call().ok()?;
    (answer.status() == 200).then_some(())
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into()
}

fn request(agent: &ureq::Agent, port: u16, path: &str, token: &str) -> Option<Answer> {
    let mut request = agent.get(format!("http://127.0.0.1:{port}{path}"));
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    read(request.call().ok()?)
}

fn read(mut answer: http::Response<ureq::Body>) -> Option<Answer> {
    Some(Answer {
        status: answer.status().as_u16(),
        retry_after: answer.headers().get("retry-after").and_then(|v| v.to_str().ok()).map(str::to_owned),
        body: answer.body_mut().read_to_string().ok()?,
    })
}

/// The status line of a GET through a unix socket.
pub(super) fn get_through(socket: &Path, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Clients that ask for one thing again and again.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<Vec<Option<Answer>>>>,
}

impl Load {
    pub(super) fn start(port: u16, path: &'static str, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let agent = agent();
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    answers.push(request(&agent, port, path, ""));
                    std::thread::sleep(Duration::from_millis(2));
                }
                answers
            })
        });
        Self { clients: clients.collect(), stop }
    }

    /// All answers; None where there was none.
    pub(super) fn end(self) -> Vec<Option<Answer>> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().expect("a client ends")).collect()
    }
}
