//! Where a version of an object lies below the root: `<project>/<bucket>/<path>/%<version>`. Pure.
//!
//! The object's path is a folder and its versions are the files in it. So an upload never touches what readers have open,
//! a crash leaves either the old version or the new one, `a` and `a/b` can both exist, and a file system that ignores
//! case mixes nothing up: versions are unique.
//!
//! No name of a bucket or object has a `%`, so what begins with one is ours:
//!
//! | name | what |
//! |---|---|
//! | `%<version>` | a version of the object whose folder it is in |
//! | `%` | an empty segment (`a//b`, or `a/`) |
//! | `<200 bytes>%` | the beginning of a longer segment, which goes on in the folder below |
//! | `%staging`, `%tus`, `%s3` | in a project's folder: uploads on the way |
//! | `%restored` | in a project's folder, or in the root: when its database was put back |

use base::ProjectRef;

use crate::key::{BucketId, ObjectKey, Version};

/// Longest name of a folder that a segment becomes, in bytes; file systems take 255.
const LONGEST_NAME: usize = 200;
const MARK: char = '%';

/// Folder of a project's uploads that are under way.
pub const STAGING: &str = "%staging";
/// Folder of a project's resumable uploads.
pub const RESUMABLE: &str = "%tus";
/// Folder of a project's uploads in parts, of the S3 protocol.
pub const PARTS: &str = "%s3";
/// File whose time says when the project's database was put back, in a project's folder or, for all of them, in the root.
pub const RESTORED: &str = "%restored";

/// Whether a name in a project's folder is that of one for uploads on the way.
pub(super) fn is_way_in(name: &str) -> bool {
    matches!(name, STAGING | RESUMABLE | PARTS)
}

/// One version of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub project: ProjectRef,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub version: Version,
}

impl Location {
    /// The folders from the project's own down to the object's.
    pub fn folders(&self) -> Vec<String> {
        let mut folders = vec![self.project.as_str().to_owned(), self.bucket.as_str().to_owned()];
        for segment in self.key.segments() {
            push_segment(&mut folders, segment);
        }
        folders
    }

    /// The name of the file in its folder.
    pub fn file_name(&self) -> String {
        format!("{MARK}{}", self.version.as_str())
    }

    /// The whole path below the root.
    pub fn path(&self) -> String {
        let mut path = self.folders().join("/");
        path.push('/');
        path.push_str(&self.file_name());
        path
    }
}

fn push_segment(folders: &mut Vec<String>, mut segment: &str) {
    if segment.is_empty() {
        folders.push(MARK.to_string());
        return;
    }
    // Keys are ASCII, so that every byte is a place to cut.
    while segment.len() > LONGEST_NAME {
        // What is left must not be a name of the file system's own, `.` or `..`.
        let short = segment.len() - LONGEST_NAME <= 2 && segment[LONGEST_NAME..].bytes().all(|byte| byte == b'.');
        let (head, tail) = segment.split_at(if short { LONGEST_NAME - 2 } else { LONGEST_NAME });
        folders.push(format!("{head}{MARK}"));
        segment = tail;
    }
    folders.push(segment.to_owned());
}

/// The key whose folder these names are, from the one below the bucket on; None for what is not ours.
pub fn key_of_folders<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<ObjectKey> {
    let mut key = String::new();
    let mut goes_on = true;
    for (at, name) in names.into_iter().enumerate() {
        if at > 0 && !goes_on {
            key.push('/');
        }
        goes_on = false;
        if name == "%" {
            continue;
        }
        match name.strip_suffix(MARK) {
            Some(head) if !head.is_empty() => {
                key.push_str(head);
                goes_on = true;
            }
            _ => key.push_str(name),
        }
    }
    if goes_on { None } else { ObjectKey::parse(&key) }
}

/// The version whose file has this name.
pub fn version_of_file(name: &str) -> Option<Version> {
    Version::parse(name.strip_prefix(MARK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(bucket: &str, key: &str) -> Location {
        Location {
            project: ProjectRef::parse("proj_abc").unwrap(),
            bucket: BucketId::parse(bucket).unwrap(),
            key: ObjectKey::parse(key).unwrap(),
            version: Version::parse("v-1").unwrap(),
        }
    }

    #[test]
    fn the_path_is_the_specifications_with_the_version_below() {
        let check = |key: &str, path: &str| assert_eq!(location("b", key).path(), path);
        check("a", "proj_abc/b/a/%v-1");
        check("a/b.png", "proj_abc/b/a/b.png/%v-1");
        check("a//b", "proj_abc/b/a/%/b/%v-1");
        check("/a", "proj_abc/b/%/a/%v-1");
        check("a/", "proj_abc/b/a/%/%v-1");
        check("/", "proj_abc/b/%/%/%v-1");
        let long = "x".repeat(450);
        let (x200, x50) = ("x".repeat(200), "x".repeat(50));
        check(&format!("{long}/y"), &format!("proj_abc/b/{x200}%/{x200}%/{x50}/y/%v-1"));
        check(&"x".repeat(200), &format!("proj_abc/b/{x200}/%v-1"));
        // A long name whose end is `.` or `..` is cut elsewhere.
        let x198 = "x".repeat(198);
        check(&format!("{x200}.."), &format!("proj_abc/b/{x198}%/xx../%v-1"));
        check(&format!("{x200}."), &format!("proj_abc/b/{x198}%/xx./%v-1"));
        check(&format!("{x200}..."), &format!("proj_abc/b/{x200}%/.../%v-1"));
    }

    #[test]
    fn folders_tell_the_key() {
        for key in [
            "a",
            "a/b",
            "a//b",
            "/a",
            "a/",
            "/",
            "//",
            &"x".repeat(1024),
            &format!("{}/b", "y".repeat(401)),
            &".".repeat(402),
            &format!("{}../b", "y".repeat(400)),
        ] {
            let location = location("b", key);
            let folders = location.folders();
            let names = folders.iter().skip(2).map(String::as_str);
            assert_eq!(key_of_folders(names), Some(location.key.clone()), "{key}");
            assert!(folders.iter().all(|name| name.len() <= 201 && !matches!(name.as_str(), "." | ".." | "")));
        }
        assert_eq!(key_of_folders(["abc%"]), None, "the rest is missing");
        assert_eq!(key_of_folders(["a", ".."]), None);
        assert_eq!(version_of_file("%v-1"), Version::parse("v-1"));
        assert_eq!(version_of_file("v-1"), None);
        assert_eq!(version_of_file("%"), None);
    }
}
