//! PostgreSQL's own log, bounded in size and in pace.
//!
//! Whoever writes SQL decides how much the server has to say, and not all of it can be switched off: the list of memory
//! contexts that it prints when memory is out, or what a session that is not logged in yet asked for. So it writes into a
//! pipe, and LaunchDB takes from there to the file what is within the bounds.
//!
//! The server holds the pipe for reading as well as writing, and never waits for it: when nobody reads, or not as fast,
//! PostgreSQL drops what it had to say (`write_console` looks at no result). The pipe has a name, so that a server which
//! outlived its LaunchDB is heard by the next one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

use super::ClusterError;

/// Bytes of a line that are kept.
const LINE: usize = 1024;
/// Bytes a second that are taken from the server, in the long run.
const RATE: u32 = 64 * 1024;
/// Bytes that are taken at once after a quiet time: what a start with its recovery says is much less.
const BURST: u32 = 256 * 1024;
/// Bytes that are taken from the pipe in one piece.
const CHUNK: usize = 16 * 1024;
/// How long the server is not listened to when it said too much.
const PAUSE: Duration = Duration::from_millis(250);
/// At most so often the log says that something is missing.
const NOTE_INTERVAL: Duration = Duration::from_secs(60);
/// How much of the log an error shows, bytes.
const SHOWN: u64 = 2_000;

/// The server's log: a pipe, and two files that together never take more than they may.
#[derive(Debug)]
pub(super) struct ServerLog {
    path: PathBuf,
    pipe_path: PathBuf,
    pipe: File,
    /// Whether the pipe was there before: a server without it writes where nobody bounds it.
    pub(super) was_there: bool,
    /// The most that each of the two files may take.
    file_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Option<File>,
    lines: Lines,
    allowance: Allowance,
    /// Bytes for which the disk had no room.
    unwritten: usize,
    noted: Option<Instant>,
}

impl ServerLog {
    /// Makes or finds the pipe in the cluster's folder. Files there that are larger than they may be go.
    pub(super) fn open(dir: &Path, bytes: u64) -> Result<Self, ClusterError> {
        let (path, pipe_path) = (dir.join("postgresql.log"), dir.join("postgresql.log.pipe"));
        let file_bytes = bytes / 2;
        for file in [&path, &older(&path)] {
            if fs::metadata(file).is_ok_and(|meta| meta.len() > file_bytes) {
                let _ = fs::remove_file(file);
            }
        }
        let was_there = fs::symlink_metadata(&pipe_path).is_ok_and(|meta| meta.file_type().is_fifo());
        let make = || {
            if !was_there {
                let _ = fs::remove_file(&pipe_path);
                mkfifoat(CWD, &pipe_path, Mode::RUSR | Mode::WUSR)?;
            }
            open_pipe(&pipe_path)
        };
        let pipe = make().map_err(|e| ClusterError::io(&pipe_path, e))?;
        let state = State {
            file: None,
            lines: Lines::default(),
            allowance: Allowance { left: BURST, since: Instant::now() },
            unwritten: 0,
            noted: None,
        };
        Ok(Self { path, pipe_path, pipe, was_there, file_bytes, state: Mutex::new(state) })
    }

    /// What a new server gets as its standard output and error.
    pub(super) fn servers_end(&self) -> Result<File, ClusterError> {
        open_pipe(&self.pipe_path).map_err(|e| ClusterError::io(&self.pipe_path, e))
    }

    /// Takes what the server said until `stop`, and what it said by then.
    pub(super) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let pipe = match self.pipe.try_clone().and_then(Receiver::from_file) {
            Ok(pipe) => pipe,
            Err(error) => {
                tracing::error!(cause = %error, "PostgreSQL's log cannot be read");
                return;
            }
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = pipe.readable() => {}
            }
            let mut first = vec![0; CHUNK];
            match pipe.try_read(&mut first) {
                Ok(taken) => first.truncate(taken),
                Err(_) => continue,
            }
            let mut pause = self.take_apart(first).await;
            while let Some(wait) = pause {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(wait) => {}
                }
                pause = self.take_apart(Vec::new()).await;
            }
        }
        let _ = tokio::task::spawn_blocking(move || self.take_rest()).await;
    }

    /// As [`ServerLog::take_on`]; a disk that does not answer must not hold the runtime up.
    async fn take_apart(self: &Arc<Self>, first: Vec<u8>) -> Option<Duration> {
        let log = Arc::clone(self);
        tokio::task::spawn_blocking(move || log.take_on(&first)).await.ok().flatten()
    }

    /// Takes what the server said by now, however much it said before: why it ended is in there.
    fn take_rest(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).allowance.left = BURST;
        self.take_on(&[]);
    }

    /// Takes what the server said after `first`, as far as it may have said so much; how long to wait when there may be
    /// more.
    fn take_on(&self, first: &[u8]) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut chunk, mut text) = ([0; CHUNK], Vec::new());
        state.allowance.spend(first.len());
        state.lines.shape(first, &mut text);
        loop {
            let allowed = state.allowance.left(Instant::now());
            if allowed == 0 {
                state.note_gap(&mut text);
                self.put(&mut state, &text);
                return Some(PAUSE);
            }
            match (&self.pipe).read(&mut chunk[..allowed.min(CHUNK)]) {
                Ok(taken) if taken > 0 => {
                    state.allowance.spend(taken);
                    state.lines.shape(&chunk[..taken], &mut text);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    state.lines.end_torn(&mut text);
                    self.put(&mut state, &text);
                    return None;
                }
            }
            self.put(&mut state, &text);
            text.clear();
        }
    }

    /// Writes to the file, and changes files before the one in use grows too long. What finds no room is dropped.
    fn put(&self, state: &mut State, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let mut lost = String::new();
        if state.unwritten > 0 {
            lost = format!("LaunchDB: {} bytes are missing here: the disk had no room for them\n", state.unwritten);
        }
        let written = self.file(state, (lost.len() + text.len()) as u64).and_then(|mut file| {
            file.write_all(lost.as_bytes())?;
            file.write_all(text)
        });
        match written {
            Ok(()) => state.unwritten = 0,
            Err(_) => state.unwritten += text.len(),
        }
    }

    fn file<'a>(&self, state: &'a mut State, more: u64) -> io::Result<&'a File> {
        let keeps = state.file.as_ref().and_then(|file| file.metadata().ok()).is_some_and(|meta| meta.nlink() > 0);
        if !keeps {
            state.file = Some(open_file(&self.path)?);
        }
        let length = state.file.as_ref().map_or(Ok(0), |file| file.metadata().map(|meta| meta.len()))?;
        if length + more > self.file_bytes {
            state.file = None;
            fs::rename(&self.path, older(&self.path))?;
            state.file = Some(open_file(&self.path)?);
        }
        state.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Where the log ends now, for [`ServerLog::since`].
    pub(super) fn end(&self) -> u64 {
        self.take_rest();
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    /// The last of what the server said after `start`.
    pub(super) fn since(&self, start: u64) -> String {
        self.take_rest();
        let read = || {
            let mut file = File::open(&self.path)?;
            let end = file.metadata()?.len();
            let start = if start > end { 0 } else { start };
            file.seek(SeekFrom::Start(start.max(end.saturating_sub(SHOWN))))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_default()
    }
}

impl State {
    fn note_gap(&mut self, text: &mut Vec<u8>) {
        if self.noted.is_some_and(|noted| noted.elapsed() < NOTE_INTERVAL) {
            return;
        }
        self.noted = Some(Instant::now());
        self.lines.end(text);
        text.extend_from_slice(b"LaunchDB: the server says too much; from here on parts are missing for a while\n");
        tracing::warn!("PostgreSQL writes more to its log than is kept");
    }
}

/// Bytes that may be taken: those of a burst, which come back at [`RATE`].
#[derive(Debug)]
struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    fn left(&mut self, now: Instant) -> usize {
        let earned = now.duration_since(self.since).as_millis() * u128::from(RATE) / 1000;
        if earned > 0 {
            self.left = u32::try_from(earned).unwrap_or(BURST).saturating_add(self.left).min(BURST);
            self.since = now;
        }
        self.left as usize
    }

    fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

/// Shortens lines, whatever the pieces in which they come.
#[derive(Debug, Default)]
struct Lines {
    /// Bytes of the present line that were kept.
    kept: usize,
    /// Bytes of it that were not.
    skipped: usize,
}

impl Lines {
    fn shape(&mut self, bytes: &[u8], text: &mut Vec<u8>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (line, ends) = match part.split_last() {
                Some((b'\n', line)) => (line, true),
                _ => (part, false),
            };
            let (keep, skip) = line.split_at(line.len().min(LINE - self.kept));
            text.extend_from_slice(keep);
            self.kept += keep.len();
            self.skipped += skip.len();
            if ends {
                self.finish(text);
            }
        }
    }

    /// With the pipe empty, a line that is too long has no end: the server found no room for it.
    fn end_torn(&mut self, text: &mut Vec<u8>) {
        if self.skipped > 0 {
            self.finish(text);
        }
    }

    /// Ends the present line, if one has begun.
    fn end(&mut self, text: &mut Vec<u8>) {
        if self.kept > 0 {
            self.finish(text);
        }
    }

    fn finish(&mut self, text: &mut Vec<u8>) {
        if self.skipped > 0 {
            text.extend_from_slice(format!(" [and {} bytes or more]", self.skipped).as_bytes());
        }
        text.push(b'\n');
        *self = Self::default();
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Both ends in one: neither opening nor using it waits for anybody, and it is never at its end.
fn open_pipe(path: &Path) -> io::Result<File> {
    let pipe = File::from(rustix::fs::open(
        path,
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    if pipe.metadata()?.file_type().is_fifo() { Ok(pipe) } else { Err(Errno::NOTSUP.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(log: &ServerLog) -> String {
        log.since(0)
    }

    #[test]
    fn long_lines_are_cut_however_they_come() {
        let check = |pieces: &[&str], expected: &str| {
            let (mut lines, mut text) = (Lines::default(), Vec::new());
            pieces.iter().for_each(|piece| lines.shape(piece.as_bytes(), &mut text));
            lines.end_torn(&mut text);
            assert_eq!(String::from_utf8(text).unwrap(), expected, "{pieces:?}");
        };
        let (full, long) = ("x".repeat(LINE), "x".repeat(LINE + 5));
        check(&["a\nb\n\nc"], "a\nb\n\nc");
        check(&["a", "b\n", "\n"], "ab\n\n");
        check(&[&format!("{full}\nb\n")], &format!("{full}\nb\n"));
        check(&[&format!("{long}\nb\n")], &format!("{full} [and 5 bytes or more]\nb\n"));
        check(&[&long, &long, "\nb\n"], &format!("{full} [and {} bytes or more]\nb\n", LINE + 10));
        check(&["a\n", &long], &format!("a\n{full} [and 5 bytes or more]\n"));
    }

    #[test]
    fn an_allowance_comes_back_in_time() {
        let start = Instant::now();
        let mut allowance = Allowance { left: BURST, since: start };
        allowance.spend(BURST as usize);
        assert_eq!(allowance.left(start), 0);
        assert_eq!(allowance.left(start + Duration::from_millis(250)), RATE as usize / 4);
        assert_eq!(allowance.left(start + Duration::from_secs(1)), RATE as usize);
        assert_eq!(allowance.left(start + Duration::from_secs(100)), BURST as usize);
    }

    #[test]
    fn two_files_never_take_more_than_they_may() {
        let dir = tempfile::tempdir().unwrap();
        let (path, bytes) = (dir.path().join("postgresql.log"), 64 * 1024);
        // Of an earlier version, or of a larger bound.
        for file in [path.clone(), older(&path)] {
            File::create(file).unwrap().set_len(1 << 40).unwrap();
        }
        let log = ServerLog::open(dir.path(), bytes).unwrap();
        let taken = || [path.clone(), older(&path)].iter().map(|f| fs::metadata(f).map_or(0, |m| m.len())).sum::<u64>();
        assert_eq!(taken(), 0);
        let mut server = log.servers_end().unwrap();
        for number in 0..500 {
            let line = format!("{number} {}\n", "x".repeat(400));
            server.write_all(line.as_bytes()).unwrap();
            assert_eq!(log.take_on(&[]), None);
            assert!(taken() <= bytes, "{}", taken());
        }
        assert!(taken() > bytes / 2 && older(&path).exists());
        // More than a pipe holds, and more than may be taken: nobody waits.
        let mut refused = 0;
        while log.take_on(&[]).is_none() && refused < 1_000 {
            refused += usize::from(server.write(&[b'y'; 1 << 20]).is_err());
        }
        while server.write(&[b'y'; 4096]).is_ok() {}
        assert!(tail(&log).contains("says too much"), "{}", tail(&log));
        assert!(taken() <= bytes, "{}", taken());
        // Whoever cleans up by hand does no harm.
        let again = ServerLog::open(dir.path(), bytes).unwrap();
        assert!(!log.was_there && again.was_there);
        again.take_on(&[]);
        fs::remove_file(&path).unwrap();
        assert_eq!(again.end(), 0);
        server.write_all(b"still here\n").unwrap();
        again.take_on(&[]);
        assert!(tail(&again).ends_with("still here"), "{}", tail(&again));
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postgresql.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let log = ServerLog::open(dir.path(), 64 * 1024).unwrap();
        let mut server = log.servers_end().unwrap();
        server.write_all(b"lost\n").unwrap();
        log.take_on(&[]);
        log.state.lock().unwrap().file = None;
        fs::remove_file(&path).unwrap();
        server.write_all(b"found\n").unwrap();
        let expected = "LaunchDB: 5 bytes are missing here: the disk had no room for them\nfound";
        assert_eq!(tail(&log), expected);
    }
}
