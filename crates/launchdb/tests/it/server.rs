//! A real server of a test: started, spoken to, ended.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough for a machine that builds at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program with nothing of the test's own environment but the search path.
pub(crate) fn launchdb(working_folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_launchdb"));
    command.env_clear().current_dir(working_folder).stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(working_folder: &Path, args: &[&str]) -> Output {
    launchdb(working_folder).args(args).output().expect("the binary runs")
}

/// The exit code and what was printed on standard error.
pub(crate) fn refused(output: &Output) -> (i32, String) {
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// A body that is no JSON is a text.
    pub(crate) body: Value,
}

/// A running `launchdb dev`.
pub(crate) struct Server {
    child: Child,
    /// The folder the server was started in; its data folder is `.launchdb` in it.
    pub(crate) home: PathBuf,
    /// What it was started with, for the one that comes after it.
    settings: Vec<(String, String)>,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    /// From the start of the process to the first healthy answer.
    pub(crate) healthy_after: Duration,
}

impl Server {
    /// Starts a server in a folder and waits until it is healthy.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Self {
        Self::start_with(home, args, &[])
    }

    /// As [`Server::start`] with settings.
    pub(crate) fn start_with(home: &Path, args: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::start_as(home, &[&["dev", "--port", "0"], args].concat(), settings)
    }

    /// Another one in place of this one, which has ended, with the same settings.
    pub(crate) fn start_again(&mut self) {
        let settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        *self = Self::start_with(&self.home, &[], &settings);
    }

    /// As [`Server::start_with`], on the port that the settings name.
    pub(crate) fn start_at(home: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_as(home, &["dev"], settings)
    }

    /// A server for others on port 443 of loopback, whose certificates come by themselves.
    pub(crate) fn serve_tls(home: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_as(home, &["serve", "--tls", "--port", "443", "--data", ".launchdb"], settings)
    }

    fn start_as(home: &Path, args: &[&str], settings: &[(&str, &str)]) -> Self {
        let started = Instant::now();
        let mut child = launchdb(home)
            .args(args)
            .env("LAUNCHDB_STATUS_PORT", "0")
            .env("LAUNCHDB_ADMIN_PORT", "0")
            .env("LAUNCHDB_SPARES", "1")
            .env("LAUNCHDB_POOLER_PORT", "off")
            .env("LAUNCHDB_DISK_RESERVE_MB", "64")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut server = Self { child, home: home.to_owned(), settings, stdout, stderr, healthy_after: Duration::ZERO };
        server.until("healthy", |server| {
            let url = server.try_url()?;
            let answer = ureq::get(format!("{url}/health")).call().ok()?;
            (answer.status() == 200).then_some(())
        });
        server.healthy_after = started.elapsed();
        server
    }

    /// Waits until `look` gives a value; fails with the server's output.
    pub(crate) fn until<T>(&mut self, what: &str, look: impl FnMut(&Self) -> Option<T>) -> T {
        self.until_within(PATIENCE, what, look)
    }

    /// As [`Self::until`], for what takes as long as there is work.
    pub(crate) fn until_within<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = look(self) {
                return value;
            }
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                // Its last words are still on their way.
                std::thread::sleep(Duration::from_millis(300));
                panic!("the server ended with {status} while waiting for: {what}\n{}", self.output());
            }
            assert!(start.elapsed() < patience, "never came: {what}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.join(".launchdb")
    }

    /// Whether another server, which lives, works in this folder.
    fn has_successor(&self) -> bool {
        let text = std::fs::read_to_string(self.data().join("run/cli.json")).unwrap_or_default();
        let pid = serde_json::from_str::<Value>(&text).ok().and_then(|file| file["pid"].as_u64());
        pid.is_some_and(|pid| pid != u64::from(self.child.id()) && Path::new(&format!("/proc/{pid}")).exists())
    }

    fn server_file(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.data().join("run/cli.json")).ok()?;
        let file: Value = serde_json::from_str(&text).ok()?;
        // One that an earlier server left behind does not count.
        (file["pid"] == self.child.id()).then_some(file)
    }

    fn try_url(&self) -> Option<String> {
        Some(self.server_file()?["url"].as_str()?.to_owned())
    }

    /// Where the server answers.
    pub(crate) fn url(&self) -> String {
        self.try_url().expect("the server wrote its file")
    }

    /// The command line's token, which is the first owner's.
    pub(crate) fn token(&self) -> String {
        let file = self.server_file().expect("the server wrote its file");
        file["token"].as_str().expect("a token").to_owned()
    }

    /// How the cluster's superuser connects to a database.
    pub(crate) fn superuser_url(&self, database: &str) -> String {
        let secrets = std::fs::read_to_string(self.data().join("secrets.env")).expect("secrets were made");
        let password = secrets
            .lines()
            .find_map(|line| line.strip_prefix("POSTGRES_SUPERUSER_PASSWORD="))
            .expect("the superuser has a password");
        let port = self.postgres_port();
        format!("host=127.0.0.1 port={port} user=supabase_admin password='{password}' dbname={database}")
    }

    /// The loopback port of its PostgreSQL.
    pub(crate) fn postgres_port(&self) -> String {
        let port = postmaster_file(&self.data()).and_then(|text| text.lines().nth(3).map(str::to_owned));
        port.expect("PostgreSQL runs")
    }

    /// What the server printed so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().expect("no reader panicked").clone()
    }

    /// What it told of itself: its log.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("no reader panicked").clone()
    }

    /// What its metrics are now.
    pub(crate) fn admin_metrics(&self) -> String {
        let page = self.stdout();
        let url = page.split_whitespace().find(|word| word.ends_with("/metrics")).expect("the welcome names it");
        let mut answer = ureq::get(url).call().expect("metrics");
        answer.body_mut().read_to_string().expect("a text")
    }

    fn output(&self) -> String {
        format!("stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr())
    }

    /// Runs a command of the command line against this server; it has to succeed.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let output = run(&self.home, args);
        assert!(output.status.success(), "{args:?}: {}\n{}", String::from_utf8_lossy(&output.stderr), self.output());
        String::from_utf8(output.stdout).expect("output is UTF-8")
    }

    /// As [`Server::cli`] with `--json`, read.
    pub(crate) fn cli_json(&self, args: &[&str]) -> Value {
        let text = self.cli(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?} printed no JSON ({e}): {text}"))
    }

    /// The owner's projects (the first thousand), once all of them are active.
    pub(crate) fn all_active(&self) -> Option<Vec<Value>> {
        let listed = self.cli_json(&["project", "list"]);
        let projects = listed["projects"].as_array().expect("a list");
        projects.iter().all(|project| project["status"] == "active").then(|| projects.clone())
    }

    /// GET with a key; status and body.
    pub(crate) fn get(&self, url: &str, key: &str) -> (u16, Value) {
        let answer = self.ask("GET", url, &[("apikey", key)], "");
        (answer.status, answer.body)
    }

    /// Any request; of two headers with one name the last counts. A GET has no body.
    pub(crate) fn ask(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0);
        let agent: ureq::Agent = config.build().into();
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        for (index, (name, value)) in headers.iter().enumerate() {
            if !headers[index + 1..].iter().any(|(later, _)| later == name) {
                request = request.header(*name, *value);
            }
        }
        let answer = if method == "GET" {
            agent.run(request.body(()).expect("a request"))
        } else {
            agent.run(request.body(body).expect("a request"))
        };
        let mut answer = answer.expect("the server answers");
        let text = answer.body_mut().read_to_string().expect("a body");
        let status = answer.status().as_u16();
        Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// Sends a signal to the server alone.
    pub(crate) fn signal(&self, name: &str) {
        assert!(test_support::signal(self.child.id(), name));
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The process id of the cluster's postmaster, when it runs.
    pub(crate) fn postmaster(&self) -> Option<u32> {
        postmaster(&self.data())
    }
}

/// The process id of the postmaster on a data folder, when it runs.
pub(crate) fn postmaster(data: &Path) -> Option<u32> {
    let text = postmaster_file(data)?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (comm.trim() == "postgres").then_some(pid)
}

fn postmaster_file(data: &Path) -> Option<String> {
    std::fs::read_to_string(data.join("postgres/data/postmaster.pid")).ok()
}

/// Lines of the log that a failed test shows.
const LOG_LINES: usize = 60;

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.stderr();
            let from = log.lines().count().saturating_sub(LOG_LINES);
            eprintln!("the end of the server's log:");
            log.lines().skip(from).for_each(|line| eprintln!("  {line}"));
        }
        if self.child.try_wait().ok().flatten().is_none() {
            test_support::signal(self.child.id(), "TERM");
            let start = Instant::now();
            while self.child.try_wait().ok().flatten().is_none() && start.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // A server that was started in the same folder since then has it now.
        if let Some(pid) = self.postmaster().filter(|_| !self.has_successor()) {
            test_support::signal(pid, "INT");
        }
    }
}

fn collect(pipe: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let writer = text.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut text = writer.lock().expect("no reader panicked");
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}
