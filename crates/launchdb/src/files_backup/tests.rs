//! Backups of files against the storage service's own disk.

use std::sync::atomic::Ordering;

use storage::backend::{Backend as _, FsBackend, HashAlgorithm, Location, Staging};
use storage::{BucketId, ObjectKey, Version};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;

const DAY: i64 = 86_400;

struct World {
    _dir: TempDir,
    files: FsBackend,
    staging: Staging,
    backup: FilesBackup,
    folder: PathBuf,
    project: ProjectRef,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = FsBackend::open(&dir.path().join("storage")).unwrap();
        let folder = dir.path().join("backups");
        let backup = FilesBackup::new(&folder, Secret::new("the tests' own passphrase".to_owned()), 0);
        let project = ProjectRef::parse("proj_abc").unwrap();
        let staging = Staging::new(files.root());
        Self { _dir: dir, files, staging, backup, folder, project }
    }

    async fn put(&self, key: &str, content: &[u8]) -> Location {
        let at = Location {
            project: self.project.clone(),
            bucket: BucketId::parse("b").unwrap(),
            key: ObjectKey::parse(key).unwrap(),
            version: Version::generate(),
        };
        let mut staged = self.staging.begin(&self.project, HashAlgorithm::Blake3);
        staged.write(content.to_vec().into()).await.unwrap();
        self.files.put(staged, &at).await.unwrap();
        at
    }

    async fn run(&self, now: i64, checksum: bool) -> (Result<FilesDone, FilesError>, u64) {
        let (progress, cancel) = (platform::backup::Progress::default(), CancellationToken::new());
        let (backend, project) = (&self.files, &self.project);
        let run = FilesRun { backend, project, checksum, now, progress: &progress, cancel: &cancel };
        let done = self.backup.run(&run).await;
        (done, progress.load(Ordering::Relaxed))
    }

    async fn restore(&self, backup: &FilesBackup, to: &FsBackend) -> Result<RestoredFiles, FilesError> {
        let (progress, cancel) = (platform::backup::Progress::default(), CancellationToken::new());
        let staging = Staging::new(to.root());
        let (backend, staging, project) = (to, &staging, &self.project);
        let restore =
            RestoreFiles { backend, staging, project, into: None, list: None, progress: &progress, cancel: &cancel };
        backup.restore(&restore).await
    }

    /// Every content of the backup.
    fn contents(&self) -> Vec<PathBuf> {
        let folder = self.folder.join("storage/proj_abc/content");
        let below: Vec<PathBuf> = names(&folder).unwrap().iter().map(|digits| folder.join(digits)).collect();
        let of = |folder: &PathBuf| names(folder).unwrap().iter().map(|name| folder.join(name)).collect::<Vec<_>>();
        below.iter().flat_map(of).collect()
    }
}

async fn content(backend: &FsBackend, at: &Location, size: u64) -> Vec<u8> {
    use http_body_util::BodyExt as _;
    backend.open(at, 0..size).await.unwrap().collect().await.unwrap().to_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_new_is_read_and_all_of_it_comes_back() {
    let world = World::new();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let first = world.put("a/large", &large).await;
    let second = world.put("a/copy of it", &large).await;
    let empty = world.put("a", b"").await;
    let (done, read) = world.run(DAY, false).await;
    assert_eq!(done.unwrap(), FilesDone { files: 3, bytes: 6_000_000, new: 2, new_bytes: 3_000_000 });
    assert_eq!(read, 6_000_000);
    let third = world.put("b", b"third").await;
    let (done, read) = world.run(2 * DAY, false).await;
    assert_eq!(done.unwrap(), FilesDone { files: 4, bytes: 6_000_005, new: 1, new_bytes: 5 });
    assert_eq!(read, 5, "versions never change");
    let (done, read) = world.run(3 * DAY, true).await;
    assert_eq!((done.unwrap().new, read), (0, 6_000_005));

    let empty_disk = tempfile::tempdir().unwrap();
    let to = FsBackend::open(empty_disk.path()).unwrap();
    let restored = world.restore(&world.backup, &to).await.unwrap();
    assert_eq!((restored.files, restored.present, restored.taken_at), (4, 0, 3 * DAY));
    assert_eq!(restored.failures, [""; 0]);
    for (at, expected) in [(&first, large.as_slice()), (&second, &large), (&third, b"third")] {
        assert_eq!(content(&to, at, expected.len() as u64).await, expected);
    }
    assert_eq!(to.size(&empty).await.unwrap(), 0);
    assert_eq!(world.restore(&world.backup, &to).await.unwrap().present, 4, "it can be run again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_list_names_goes() {
    let world = World::new();
    let old = world.put("old", b"old").await;
    world.run(DAY, false).await.0.unwrap();
    world.files.remove(&old).await.unwrap();
    world.put("new", b"new").await;
    world.run(9 * DAY, false).await.0.unwrap();
    assert_eq!(world.backup.prune(9 * DAY, 8).unwrap(), 0, "the older list is young enough");
    assert_eq!(world.contents().len(), 2);
    assert_eq!(world.backup.prune(20 * DAY, 8).unwrap(), 2, "a list and a content");
    assert_eq!((world.contents().len(), world.backup.lists(&world.project).unwrap().len()), (1, 1));
    assert_eq!(world.backup.prune(99 * DAY, 8).unwrap(), 0, "the newest stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_named_and_nothing_is_half_done() {
    let world = World::new();
    let good = world.put("good", b"good content").await;
    world.put("damaged", b"another content").await;
    world.run(DAY, false).await.0.unwrap();

    let other = FilesBackup::new(&world.folder, Secret::new("another passphrase".to_owned()), 0);
    let empty_disk = tempfile::tempdir().unwrap();
    let to = FsBackend::open(empty_disk.path()).unwrap();
    assert!(matches!(world.restore(&other, &to).await, Err(FilesError::WrongKey { .. })));

    // Two at once.
    let alone = world.backup.alone().unwrap();
    assert!(matches!(world.run(2 * DAY, false).await.0, Err(FilesError::Busy { .. })));
    assert!(matches!(world.backup.prune(DAY, 1), Err(FilesError::Busy { .. })));
    drop(alone);

    // No room.
    let full = FilesBackup { least_free_bytes: u64::MAX, ..world.backup.clone() };
    let (progress, cancel) = (platform::backup::Progress::default(), CancellationToken::new());
    let (backend, project) = (&world.files, &world.project);
    let run = FilesRun { backend, project, checksum: false, now: 3 * DAY, progress: &progress, cancel: &cancel };
    assert!(matches!(full.run(&run).await, Err(FilesError::DiskFull { .. })));
    cancel.cancel();
    assert!(matches!(world.backup.run(&run).await, Err(FilesError::Cancelled)));
    let left = names(&world.folder.join("storage/proj_abc")).unwrap();
    assert_eq!((world.backup.lists(project).unwrap().len(), left.len()), (1, 2), "{left:?}");

    let hash = base::digest::sha256_hex(b"another content");
    let damaged = world.contents().into_iter().find(|path| path.display().to_string().contains(&hash)).unwrap();
    let whole = std::fs::read(&damaged).unwrap();
    // Where the salt is, where a wrong key is noticed, and in the content.
    for at in [6, 35, whole.len() / 2] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        let verified = world.backup.verify(project, &progress).await.unwrap();
        assert!(verified.files == 1 && verified.failures.len() == 1, "{at}: {verified:?}");
        let empty_disk = tempfile::tempdir().unwrap();
        let to = FsBackend::open(empty_disk.path()).unwrap();
        let restored = world.restore(&world.backup, &to).await.unwrap();
        assert!(restored.files == 1 && restored.failures[0].contains("b/damaged"), "{at}: {restored:?}");
        assert_eq!(content(&to, &good, 12).await, b"good content");
        // The next run writes what is damaged again, when it is told to read everything.
        assert_eq!(world.run(4 * DAY, true).await.0.unwrap().new, 1, "{at}");
        assert_eq!(world.backup.verify(project, &progress).await.unwrap().failures, [""; 0], "{at}");
    }
    // Also what is not there any more.
    std::fs::remove_file(&damaged).unwrap();
    assert_eq!(world.run(4 * DAY, false).await.0.unwrap().new, 1);
    assert_eq!(world.restore(&world.backup, &to).await.unwrap().failures, [""; 0]);

    // A list that is cut off is no list; the next run makes a whole one.
    let name = world.backup.lists(project).unwrap().pop().unwrap();
    let path = world.folder.join("storage/proj_abc").join(name.to_string());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 30]).unwrap();
    assert!(matches!(world.restore(&world.backup, &to).await, Err(FilesError::Damaged { .. })));
    assert!(matches!(world.backup.prune(99 * DAY, 1), Err(FilesError::Damaged { .. })), "nothing goes");
    assert_eq!(world.run(5 * DAY, false).await.0.unwrap().files, 2);
}
