//! Names of buckets and objects: whatever is in a path, it becomes a place below the bucket's folder or nothing, and a name
//! that is allowed is read as what it is, however it is encoded.

use base::ProjectRef;
use http::{HeaderMap, HeaderValue, Method};
use storage::backend::layout::{key_of_folders, version_of_file};
use storage::fuzz::{self, Named, Refusal};
use storage::{BucketId, ObjectKey, Version, backend::Location};

use crate::Reached;
use seeded::{Random, encode};

const PROJECT: &str = "proj_fuzz";
const LONGEST_NAME: usize = 201;

/// What names are made of: allowed, forbidden and special.
const PIECES: [&str; 52] = [
    "a", "b", "Z", "9", "_", "!", ".", "*", "'", "(", ")", " ", "&", "$", "@", "=", ";", ":", "+", ",", "?", "-", "/",
    "/", "//", "..", "../", "/..", "./", "...", "%2e", "%2E%2e", "%2f", "%5c", "\\", "%00", "\0", "%", "%25", "%252e",
    "%ff", "%c0%ae", "ä", "\u{202e}", "\u{ff0e}", "#", "~", "[", "^", "\r\n", "%staging", "CON",
];
const ALLOWED: &str = "abcXYZ0189_!.*'() &$=@;:+,?-";
/// What a path may be before bucket and key.
const ROUTES: [(&str, &str); 14] = [
    ("GET", "/object/"),
    ("GET", "/object/public/"),
    ("HEAD", "/object/authenticated/"),
    ("GET", "/object/sign/"),
    ("GET", "/object/info/"),
    ("POST", "/object/"),
    ("PUT", "/object/"),
    ("DELETE", "/object/"),
    ("POST", "/object/sign/"),
    ("POST", "/object/upload/sign/"),
    ("PUT", "/object/upload/sign/"),
    ("GET", "/render/image/public/"),
    ("GET", "/"),
    ("POST", "/"),
];

/// # Errors
/// What is wrong with what became of the names of this seed.
pub fn check(seed: u64) -> Result<Reached, String> {
    let mut random = Random::new(seed);
    if random.chance(40) { allowed(&mut random) } else { hostile(&mut random) }
}

/// A name that is allowed has to be read as itself.
fn allowed(random: &mut Random) -> Result<Reached, String> {
    let characters: Vec<char> = ALLOWED.chars().collect();
    let name = |random: &mut Random, most: usize| {
        let mut name = random.text(&characters, most);
        if matches!(name.as_str(), "" | "." | "..") {
            name.push('x');
        }
        name
    };
    let bucket = name(random, 99);
    let mut segments: Vec<String> = Vec::new();
    for _ in 0..=random.below(5) {
        segments.push(if random.chance(10) { String::new() } else { name(random, 160) });
    }
    if random.chance(5) {
        segments = vec!["l".repeat(1 + random.below(1024))];
    }
    let mut key = segments.join("/");
    if key.is_empty() {
        key.push('k');
    }
    if key.len() > 1024 {
        return Ok(Reached::Refused);
    }
    let encoded = |random: &mut Random, text: &str| {
        let mut path = String::new();
        for character in text.chars() {
            let byte = u8::try_from(character).unwrap_or(b'x');
            match random.below(4) {
                0 => path.push_str(&format!("%{byte:02x}")),
                1 => path.push_str(&format!("%{byte:02X}")),
                _ if b" ?".contains(&byte) => path.push_str(&format!("%{byte:02X}")),
                _ => path.push(character),
            }
        }
        path
    };
    let (bucket_path, key_path) = (encoded(random, &bucket), encoded(random, &key));
    let named = fuzz::s3_operation(&Method::GET, &format!("/{bucket_path}/{key_path}"), "", &HeaderMap::new());
    expect(&bucket, &key, named.map(|(_, named)| named))?;
    let source = encode(&format!("{bucket}/{key}"), |byte| byte.is_ascii_alphanumeric() || byte == b'/');
    expect(&bucket, &key, fuzz::copy_source(&source_header(&source)).map(Some))?;
    let named = fuzz::rest_path(&Method::GET, &format!("/object/public/{bucket_path}/{key_path}"));
    expect(&bucket, &key, named)?;
    Ok(Reached::Accepted)
}

fn expect(bucket: &str, key: &str, named: Result<Option<Named>, Refusal>) -> Result<(), String> {
    match named {
        Ok(Some(named)) if named.0.as_str() == bucket && named.1.as_str() == key => below_its_bucket(&named),
        other => Err(format!("{bucket:?} and {key:?} were read as {other:?}")),
    }
}

fn hostile(random: &mut Random) -> Result<Reached, String> {
    let bucket = if random.chance(70) { "bucket".to_owned() } else { random.joined(&PIECES, 4) };
    let mut key = random.joined(&PIECES, 12);
    if random.chance(3) {
        let times = random.below(2_000);
        key = key.repeat(1 + times / (1 + key.len()));
    }
    if random.chance(30) {
        key = random.damaged(&key);
    }
    let encoded = match random.below(3) {
        0 => key.clone(),
        1 => encode(&key, |byte| byte.is_ascii_alphanumeric() || byte == b'/'),
        _ => encode(&key, |byte| !byte.is_ascii_control() && byte.is_ascii() && byte != b'?' && byte != b'#'),
    };
    let mut reached = Reached::Refused;
    let (method, route) = random.pick(&ROUTES);
    let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
    let path = format!("{bucket}/{encoded}");
    let mut accepted = |named: Result<Option<Named>, Refusal>, what: &str| match named {
        Ok(None) => Ok(()),
        Ok(Some(named)) => {
            reached = Reached::Accepted;
            decoded_once(&path, &named).and_then(|()| below_its_bucket(&named)).map_err(|e| format!("{what}: {e}"))
        }
        Err(refusal) => refused(&refusal).map_err(|error| format!("{what}: {error}")),
    };
    // Only the last route names bucket and key where others have their own words before.
    let plain = matches!(route, "/" | "/object/");
    let taken = ["public", "authenticated", "sign", "info", "upload", "list", "move", "copy", "list-v2"];
    let own =
        ["bucket", "object", "upload", "render", "cdn", "s3", "health", "status", "vector", "iceberg", "_launchdb"];
    let first = bucket.split('/').next().unwrap_or_default();
    let ambiguous = (plain && taken.contains(&first)) || (route == "/" && own.contains(&first)) || bucket.contains('/');
    if !ambiguous {
        accepted(fuzz::rest_path(&method, &format!("{route}{path}")), "rest")?;
        let operation = fuzz::s3_operation(&method, &format!("/{path}"), "", &HeaderMap::new());
        accepted(operation.map(|(_, named)| named), "s3")?;
    }
    if let Some((bucket, key)) = BucketId::parse(&bucket).zip(ObjectKey::parse(&key)) {
        below_its_bucket(&(bucket, key))?;
        reached = Reached::Accepted;
    }
    if let Some(key) = key_of_folders(key.split('/')) {
        key_is_clean(key.as_str())?;
    }
    Ok(reached)
}

fn source_header(text: &str) -> HeaderMap {
    let value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    HeaderMap::from_iter([(http::HeaderName::from_static("x-amz-copy-source"), value)])
}

/// What was read is what the path says when it is decoded once.
fn decoded_once(path: &str, named: &Named) -> Result<(), String> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let hex = hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    let text = format!("{}/{}", named.0, named.1);
    if bytes == text.as_bytes() { Ok(()) } else { Err(format!("{path:?} was read as {text:?}")) }
}

fn key_is_clean(key: &str) -> Result<(), String> {
    let clean = !key.is_empty()
        && key.len() <= 1024
        && key.bytes().all(|byte| byte == b'/' || ALLOWED.as_bytes().contains(&byte) || byte.is_ascii_alphanumeric())
        && key.split('/').all(|segment| segment != "." && segment != "..");
    if clean { Ok(()) } else { Err(format!("{key:?} is no key")) }
}

/// The place of an object lies in its bucket's folder, and tells the object.
pub fn below_its_bucket((bucket, key): &Named) -> Result<(), String> {
    key_is_clean(key.as_str())?;
    if bucket.as_str().contains('/') || bucket.as_str().len() > 100 {
        return Err(format!("{bucket:?} is no bucket"));
    }
    key_is_clean(bucket.as_str())?;
    let (Ok(project), Some(version)) = (ProjectRef::parse(PROJECT), Version::parse("v-1")) else {
        return Err("the project or the version is none".to_owned());
    };
    let at = Location { project, bucket: bucket.clone(), key: key.clone(), version };
    let path = at.path();
    let names: Vec<&str> = path.split('/').collect();
    let wrong = |name: &&str| {
        matches!(*name, "" | "." | "..") || name.len() > LONGEST_NAME || name.bytes().any(|b| b == 0 || b == b'\\')
    };
    if names[..2] != [PROJECT, bucket.as_str()] || names.len() < 4 || names.iter().any(wrong) {
        return Err(format!("{key:?} lies at {path:?}"));
    }
    let (last, folders) = names.split_last().unwrap_or((&"", &[]));
    let told = key_of_folders(folders[2..].iter().copied());
    if told.as_ref() != Some(key) || version_of_file(last) != Some(at.version) {
        return Err(format!("{path:?} tells {told:?} and not {key:?}"));
    }
    Ok(())
}

/// What is refused is the client's mistake, and told as one.
pub fn refused(refusal: &Refusal) -> Result<(), String> {
    let fits = (400..500).contains(&refusal.status) || refusal.status == 501;
    if fits && !refusal.message.is_empty() { Ok(()) } else { Err(format!("refused with {refusal:?}")) }
}
