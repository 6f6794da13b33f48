use super::*;

/// What was not written is never said to be there, however often somebody asks.
#[tokio::test]
async fn a_lost_piece_stays_lost() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("upload");
    std::fs::write(&path, b"").unwrap();
    // Which cannot be written to.
    let file = File::open(&path).unwrap();
    let state = Hasher::new(HashAlgorithm::Md5).state();
    let mut staged = Staging::new(root.path()).adopt(path.clone(), file, &state, 0).unwrap();
    let mut written = Ok(());
    while written.is_ok() && staged.size() < 100 * PIECE as u64 {
        written = staged.write(Bytes::from(vec![7; PIECE])).await;
    }
    for _ in 0..2 {
        staged.sync().await.unwrap_err();
        staged.digest_state().await.unwrap_err();
        staged.write(Bytes::from(vec![7; PIECE])).await.unwrap_err();
    }
}

/// Of clients that leave nothing stays, whatever of theirs is in work.
#[tokio::test]
async fn what_is_dropped_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let (staging, project) = (Staging::new(root.path()), ProjectRef::parse("proj_abc").unwrap());
    for pieces in 0..40 {
        let mut staged = staging.begin(&project, HashAlgorithm::Blake3);
        for _ in 0..pieces % 8 {
            staged.write(Bytes::from(vec![7; PIECE])).await.unwrap();
        }
        if pieces % 3 == 0 {
            // Given up before its end, or not.
            let _ = tokio::time::timeout(std::time::Duration::from_micros(pieces * 10), staged.sync()).await;
        }
    }
    let folder = staging.folder(&project);
    let empty = async || (std::fs::read_dir(&folder).unwrap().count() == 0).then_some(());
    test_support::eventually("nothing is left", empty).await;
}
