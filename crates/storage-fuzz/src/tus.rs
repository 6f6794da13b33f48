//! Headers of TUS: `Upload-Metadata` is read as what it says or refused, and numbers are digits within 64 bits.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use storage::fuzz;

use crate::Reached;
use crate::keys::{below_its_bucket, refused};
use seeded::Random;

const NAMES: [&str; 8] =
    ["bucketName", "objectName", "contentType", "cacheControl", "metadata", "filename", "x", "bucketname"];
const VALUES: [&str; 22] = [
    "bucket",
    "a/b.png",
    "../x",
    "..",
    "",
    "60",
    "-1",
    "max-age=1",
    "text/plain",
    "text/html\r\nx: y",
    "{\"a\":1}",
    "{\"a\":",
    "[1]",
    "null",
    "\0",
    "ä",
    "a//b",
    "/",
    "%2e%2e",
    "18446744073709551616",
    "x",
    " ",
];

/// # Errors
/// What is wrong with what became of the headers of this seed.
pub fn check(seed: u64) -> Result<Reached, String> {
    let mut random = Random::new(seed);
    match random.below(4) {
        0 => numbers(&mut random),
        1 => meant(&mut random),
        _ => hostile(&mut random),
    }
}

fn encoded(pairs: &[(&str, &str)], random: &mut Random) -> String {
    let mut header = String::new();
    for (name, value) in pairs {
        if !header.is_empty() {
            header.push_str(random.pick(&[",", ", ", " , "]));
        }
        header.push_str(name);
        if !value.is_empty() || random.chance(50) {
            header.push(' ');
            header.push_str(&BASE64_STANDARD.encode(value));
        }
    }
    header
}

/// What clients send is read as what they mean.
fn meant(random: &mut Random) -> Result<Reached, String> {
    let characters: Vec<char> = "abc09_-. /".chars().collect();
    let mut key = random.text(&characters, 40);
    if key.split('/').any(|segment| matches!(segment, "." | "..")) || key.is_empty() {
        key = "key".to_owned();
    }
    let seconds = (random.number() >> random.below(64)).to_string();
    let (mime, json) = (random.pick(&["image/png", "text/plain;charset=utf-8"]), random.pick(&["{}", "{\"a\":[1]}"]));
    let pairs = [
        ("bucketName", "bucket"),
        ("objectName", &*key),
        ("contentType", mime),
        ("cacheControl", &*seconds),
        ("metadata", json),
    ];
    let header = encoded(&pairs, random);
    let read = fuzz::tus_metadata(&header).map_err(|refusal| format!("{header:?}: {refusal:?}"))?;
    let same = read.at.0.as_str() == "bucket"
        && read.at.1.as_str() == key
        && read.mime_type == mime
        && read.cache_control == format!("max-age={seconds}")
        && read.user_metadata.as_ref().is_some_and(|value| format!("{value}") == json);
    if same { Ok(Reached::Accepted) } else { Err(format!("{header:?} was read as {read:?}")) }
}

fn hostile(random: &mut Random) -> Result<Reached, String> {
    let mut pairs: Vec<(&str, &str)> = vec![("bucketName", "bucket"), ("objectName", "key")];
    for _ in 0..random.below(5) {
        pairs.push((random.pick(&NAMES), random.pick(&VALUES)));
    }
    if random.chance(50) {
        pairs.drain(..random.below(3));
    }
    let mut header = encoded(&pairs, random);
    if random.chance(60) {
        header = random.damaged(&header);
    }
    if random.chance(2) {
        header = header.repeat(1 + random.below(400));
    }
    match fuzz::tus_metadata(&header) {
        Err(refusal) => refused(&refusal).map(|()| Reached::Refused),
        Ok(read) => {
            below_its_bucket(&read.at)?;
            let seconds = read.cache_control.strip_prefix("max-age=");
            let cached = seconds.is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
            if !cached && read.cache_control != "no-cache" {
                return Err(format!("{header:?} becomes the header {:?}", read.cache_control));
            }
            if read.user_metadata.as_ref().is_some_and(|value| !value.is_object()) || read.mime_type.is_empty() {
                return Err(format!("{header:?} was read as {read:?}"));
            }
            Ok(Reached::Accepted)
        }
    }
}

/// Digits of a number that fits, and nothing else.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() < 1_000 && text.bytes().all(|byte| byte.is_ascii_digit());
    let significant = text.trim_start_matches('0');
    let value = if significant.is_empty() { Some(0) } else { significant.parse::<u128>().ok() };
    value.filter(|_| digits).and_then(|value| u64::try_from(value).ok())
}

fn numbers(random: &mut Random) -> Result<Reached, String> {
    const PIECES: [&str; 14] =
        ["0", "1", "9", "00", "42", "18446744073709551615", "-", "+", " ", ".", "e", "x", "٣", "\t"];
    let text = |random: &mut Random| match random.below(3) {
        0 => random.any_number().to_string(),
        1 => (u128::from(random.number()) << random.below(40)).to_string(),
        _ => random.joined(&PIECES, 5),
    };
    let (length, offset) = (text(random), text(random));
    let defer = random.pick(&[None, None, Some("1"), Some("0"), Some(""), Some("true")]);
    let given = random.chance(80).then_some(length.as_str());
    let expected = match (given, defer) {
        (Some(text), None) => number(text).map(Some),
        (None, Some("1")) => Some(None),
        _ => None,
    };
    let read = fuzz::tus_length(given, defer);
    if read.as_ref().ok() != expected.as_ref() {
        return Err(format!("Upload-Length {given:?}, Upload-Defer-Length {defer:?} were read as {read:?}"));
    }
    read.as_ref().err().map_or(Ok(()), refused)?;
    let at = fuzz::tus_offset(Some(&offset));
    if at.as_ref().ok() != number(&offset).as_ref() {
        return Err(format!("Upload-Offset {offset:?} was read as {at:?}"));
    }
    at.as_ref().err().map_or(Ok(()), refused)?;
    Ok(if at.is_ok() { Reached::Accepted } else { Reached::Refused })
}
