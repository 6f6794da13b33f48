//! From pg_dump into an encrypted file, as a stream: nothing of a database is ever on the disk in plain text.

use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use base::Secret;
use base::project::DatabaseTarget;
use pg::statements::{Piece, StatementScanner};
use procs::unprivileged::RunAs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::error::BackupError;
use super::file_name::BackupName;
use super::folder::{BackupFile, BackupFolder};
use super::manifest::{self, End, Header, LONGEST_STATEMENT, Tally};
use super::openpgp::Encryptor;

/// How long pg_dump waits for a table that somebody is changing, in milliseconds.
const LOCK_WAIT_MS: u32 = 60_000;
const CHUNK: usize = 256 * 1024;
/// Bytes that pg_dump may be ahead of us.
const PIPE: usize = 1024 * 1024;
/// The pipe takes what pg_dump prints meanwhile.
const GATHER: Duration = Duration::from_millis(2);
/// How long a chunk waits for more.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// How often a shutdown is looked for while pg_dump says nothing, and how long it may say nothing.
const LOOK: Duration = Duration::from_millis(200);
const LONGEST_SILENCE: Duration = Duration::from_secs(15 * 60);
/// The disk is looked at each time so many bytes of a dump were written.
const DISK_LOOK: u64 = 16 * 1024 * 1024;
/// Bytes kept of what pg_dump says.
const MOST_MESSAGE: u64 = 16 * 1024;

pub(super) const RESTRICTED: &str = "-c restrict_nonsystem_relation_kind=view,foreign-table";

/// One backup that is to be made.
pub(super) struct Dump {
    pub(super) pg_dump: PathBuf,
    /// Whom pg_dump runs as: it needs no more than a connection.
    pub(super) run_as: RunAs,
    pub(super) target: DatabaseTarget,
    pub(super) header: Header,
    pub(super) key: Secret<String>,
    pub(super) folder: BackupFolder,
    pub(super) room: Room,
    /// Whether PostgreSQL can be told to read no views.
    pub(super) restricts_relations: bool,
}

/// What of the folder's disk stays free.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) least_free_bytes: u64,
    /// An eighth of the disk stays free besides, but no more than this.
    pub(super) spared_bytes: u64,
}

impl Room {
    /// Blocks briefly.
    ///
    /// # Errors
    /// [`BackupError::DiskFull`] when less is free.
    pub(super) fn check(self, folder: &BackupFolder) -> Result<(), BackupError> {
        let path = folder.path();
        let stat = rustix::fs::statvfs(path).map_err(|error| BackupError::writing(path, error.into()))?;
        let spared = (stat.f_blocks.saturating_mul(stat.f_frsize) / 8).min(self.spared_bytes);
        match stat.f_bavail.saturating_mul(stat.f_frsize) < self.least_free_bytes.saturating_add(spared) {
            true => Err(BackupError::DiskFull { folder: path.to_owned() }),
            false => Ok(()),
        }
    }
}

/// Ends pg_dump when the work is given up.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Dump {
    /// Makes the backup; blocks. `progress` counts bytes of the dump.
    pub(super) fn run(self, progress: &AtomicU64, cancel: &CancellationToken) -> Result<BackupFile, BackupError> {
        let folder = self.folder.path().to_owned();
        let name = BackupName { database: self.header.database.clone(), taken_at: self.header.taken_at };
        let database = name.database.clone();
        let failed = |message: String| BackupError::PgDump { database: database.clone(), message };
        let writing = |error| BackupError::writing(&folder, error);
        let file = self.folder.begin(name).map_err(writing)?;
        let mut child = Running(self.start().map_err(|error| failed(format!("it does not start: {error}")))?);
        let stdout = child.0.stdout.take().ok_or_else(|| failed("it has no output".to_owned()))?;
        let chunks = read_along(stdout);
        let stderr = child.0.stderr.take().map(listen);
        let counting = Counting::begin();
        // Behind the start, because making a key of the passphrase takes as long as pg_dump takes for a small database.
        let mut out = Encryptor::new(BufWriter::with_capacity(CHUNK, file), &self.key).map_err(writing)?;
        write_header(&mut out, &self.header).map_err(writing)?;
        let mut looked_at = 0;
        let mut bytes = 0;
        let mut heard = Instant::now();
        loop {
            if bytes >= looked_at {
                looked_at += DISK_LOOK;
                self.room.check(&self.folder)?;
            }
            if cancel.is_cancelled() {
                return Err(BackupError::Cancelled);
            }
            let chunk = match chunks.recv_timeout(LOOK) {
                Ok(chunk) => chunk.map_err(|error| failed(error.to_string()))?,
                Err(RecvTimeoutError::Timeout) if heard.elapsed() < LONGEST_SILENCE => continue,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(failed("it said nothing for long and was ended".to_owned()));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            heard = Instant::now();
            let chunk = Arc::new(chunk);
            if !counting.give(chunk.clone()) {
                return Err(failed(counting.end().err().unwrap_or_default()));
            }
            out.write_all(&chunk.bytes).map_err(writing)?;
            bytes += chunk.bytes.len() as u64;
            progress.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        }
        let counted = counting.end();
        let status = child.0.wait().map_err(|error| failed(error.to_string()))?;
        let said = stderr.and_then(|thread| thread.join().ok()).unwrap_or_default();
        if !status.success() {
            return Err(failed(if said.is_empty() { status.to_string() } else { said }));
        }
        write_end(&mut out, &counted.map_err(failed)?).map_err(writing)?;
        let file = out.finish().and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error));
        file.and_then(super::folder::Unfinished::keep).map_err(writing)
    }

    fn start(&self) -> io::Result<Child> {
        self.run_as
            .command(&self.pg_dump)
            .args(["--no-password", "--no-tablespaces", "--exclude-schema=_launchdb", "--quote-all-identifiers"])
            .arg(format!("--lock-wait-timeout={LOCK_WAIT_MS}"))
            .arg("--dbname")
            // Connection strings are read from this argument, but a database's name has nothing that makes it one.
            .arg(&self.target.database)
            .current_dir("/")
            .env_clear()
            .envs([("PGHOST", self.target.host.as_str()), ("PGUSER", &self.target.user)])
            .envs([("PGPORT", self.target.port.to_string().as_str()), ("PGAPPNAME", "launchdb backup")])
            // Of this child only, and of a process that only its own user can look into.
            .env("PGPASSWORD", self.target.password.expose())
            .env("PGCONNECT_TIMEOUT", "10")
            // As newer programs ask for themselves: what was listed as a table is not read as a view.
            .envs(self.restricts_relations.then_some(("PGOPTIONS", RESTRICTED)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

/// Counts and hashes what is in a dump, beside the thread that compresses and encrypts it.
struct Counting {
    chunks: SyncSender<Arc<Chunk>>,
    thread: thread::JoinHandle<Result<End, String>>,
}

impl Counting {
    fn begin() -> Self {
        let (chunks, given) = sync_channel::<Arc<Chunk>>(2);
        let thread = thread::spawn(move || {
            let mut tally = Tally::of_format(manifest::FORMAT);
            let mut scanner = StatementScanner::with_longest(LONGEST_STATEMENT);
            let mut count = |piece: Piece<'_>| -> Result<(), std::convert::Infallible> {
                tally.count(&piece);
                Ok(())
            };
            for chunk in given {
                scanner.feed(&chunk.bytes, &mut count).map_err(|error| error.to_string())?;
            }
            scanner.finish(&mut count).map_err(|error| error.to_string())?;
            Ok(tally.finish())
        });
        Self { chunks, thread }
    }

    /// Waits until there is room; false when it has failed, which [`Self::end`] tells of.
    fn give(&self, chunk: Arc<Chunk>) -> bool {
        self.chunks.send(chunk).is_ok()
    }

    fn end(self) -> Result<End, String> {
        drop(self.chunks);
        self.thread.join().unwrap_or_else(|_| Err("counting what is in it failed".to_owned()))
    }
}

/// A part of a dump, whose memory is used again.
struct Chunk {
    bytes: Vec<u8>,
    spare: Sender<Vec<u8>>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Nobody takes it once all was read.
        let _ = self.spare.send(std::mem::take(&mut self.bytes));
    }
}

/// Reads what a child prints, a little ahead; ends with the child.
fn read_along(stdout: ChildStdout) -> Receiver<io::Result<Chunk>> {
    let (sender, receiver) = sync_channel(1);
    // So that it seldom waits for us; whoever may not have so much goes on with less.
    let gather = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE).map_or(Duration::ZERO, |_| GATHER);
    thread::spawn(move || {
        let (spare, spares) = channel::<Vec<u8>>();
        loop {
            let mut bytes = spares.try_recv().unwrap_or_default();
            bytes.clear();
            bytes.reserve_exact(CHUNK);
            let read = read_chunk(&stdout, &mut bytes, gather);
            let is_last = read.is_err();
            if bytes.is_empty() && !is_last {
                return;
            }
            let chunk = Chunk { bytes, spare: spare.clone() };
            if sender.send(read.map(|()| chunk)).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// What is there, up to a chunk; nothing at the end. Waits a moment for more when it is little: pg_dump writes 4 KiB at once,
/// and each of them would wake who waits for it.
fn read_chunk(stdout: &ChildStdout, chunk: &mut Vec<u8>, gather: Duration) -> io::Result<()> {
    loop {
        match rustix::io::read(stdout, rustix::buffer::spare_capacity(chunk)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if chunk.len() > CHUNK / 2 {
            return Ok(());
        }
        thread::sleep(gather);
        let mut ready = [PollFd::new(stdout, PollFlags::IN)];
        if !chunk.is_empty() && matches!(poll(&mut ready, Some(&MOMENT)), Ok(0)) {
            return Ok(());
        }
    }
}

/// Keeps the beginning of what a child says and lets it say the rest.
fn listen(mut stderr: ChildStderr) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.by_ref().take(MOST_MESSAGE).read_to_end(&mut said);
        let _ = io::copy(&mut stderr, &mut io::sink());
        String::from_utf8_lossy(&said).trim().to_owned()
    })
}

fn write_header(out: &mut impl Write, header: &Header) -> io::Result<()> {
    writeln!(out, "-- A backup of LaunchDB. Restore it with: launchdb restore FILE PROJECT")?;
    writeln!(out, "-- {}{}", manifest::HEADER, serde_json::to_string(header)?)
}

fn write_end(out: &mut impl Write, end: &End) -> io::Result<()> {
    writeln!(out, "-- {}{}", manifest::END, serde_json::to_string(end)?)
}
