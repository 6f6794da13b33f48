//! Signatures: a request that a signer of our own signs is proved, and one that differs from it anywhere is not.
//!
//! The signer here works from names and values before they are encoded, and shares no code with the server.

use base::digest::sha256_hex;
use base::random::to_hex;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use storage::fuzz::{Refusal, S3Claim, SignedRequest};

use crate::Reached;
use crate::keys::refused;
use seeded::{Random, encode, is_unreserved};

pub(crate) const SECRET: &str = "a secret of an access key";
const ACCESS_KEY: &str = "0123456789abcdef0123456789abcdef";
/// 2013-05-24T00:00:00Z.
const THEN: i64 = 1_369_353_600;
const DATE: &str = "20130524";
const TIMESTAMP: &str = "20130524T000000Z";
const METHODS: [&str; 5] = ["GET", "HEAD", "PUT", "POST", "DELETE"];

/// A request before it is written down.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: &'static str,
    /// Decoded, with slashes.
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    host: String,
    payload: String,
    region: String,
    /// The signature is in the query and counts for so many seconds.
    link: Option<i64>,
}

/// A request on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    host: String,
    now: i64,
    secret: String,
}

impl Wire {
    fn prove(&self) -> Result<S3Claim, Refusal> {
        let claim = S3Claim::read(&self.headers, &self.query)?;
        // The key that is named says which secret counts.
        if claim.access_key() != ACCESS_KEY {
            return Err(Refusal { status: 403, message: "another access key".to_owned() });
        }
        let request = SignedRequest {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            host: &self.host,
        };
        claim.prove(&self.secret, &request, self.now)?;
        Ok(claim)
    }
}

/// # Errors
/// What is wrong with what became of the request of this seed.
pub fn check(seed: u64) -> Result<Reached, String> {
    let mut random = Random::new(seed);
    let request = request(&mut random);
    let wire = sign(&request, &mut random);
    let claim = wire.prove().map_err(|refusal| format!("a good signature: {refusal:?}\n{request:?}\n{wire:?}"))?;
    if claim.payload() != request.payload {
        return Err(format!("the claim is {claim:?}\n{wire:?}"));
    }
    if random.chance(50) { different(&request, &wire, &mut random) } else { damaged(&claim, &wire, &mut random) }
}

pub(crate) fn request(random: &mut Random) -> Request {
    let characters: Vec<char> = "aZ0-_.~ /+&=%?:;,*'()!$@äß\u{1f600}".chars().collect();
    let text = |random: &mut Random, most: usize| random.text(&characters, most);
    let mut query = Vec::new();
    for _ in 0..random.below(5) {
        let name = random.pick(&["prefix", "delimiter", "max-keys", "uploads", "b", "a", "A", "list-type", "ä"]);
        query.push((name.to_owned(), text(random, 12)));
    }
    let mut headers = Vec::new();
    for name in ["content-type", "x-amz-meta-color", "range", "x-amz-acl", "cache-control", "content-md5"] {
        if random.chance(30) {
            headers.push((name, random.joined(&["a", "b", "=", "  ", " ", "\"", ",", ";", "/"], 8)));
        }
    }
    let digest = sha256_hex(&random.number().to_be_bytes());
    let payload = random.pick(&["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", &digest]).to_owned();
    let link = random.chance(30).then(|| 1 + random.below(604_800) as i64);
    Request {
        method: random.pick(&METHODS),
        path: format!("/{}", text(random, 24)),
        query,
        headers,
        host: random.pick(&["db.example.org", "127.0.0.1:8003", "[::1]:80"]).to_owned(),
        payload,
        region: random.pick(&["us-east-1", "eu-central-1", "auto"]).to_owned(),
        link,
    }
}

fn key(region: &str) -> hmac::Key {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{SECRET}").as_bytes());
    for text in [DATE, region, "s3", "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, text.as_bytes()).as_ref());
    }
    key
}

/// The signature over a text that begins with the kind of what is signed.
pub(crate) fn signature(request: &Request, kind: &str, rest: &str) -> String {
    let text = format!("{kind}\n{TIMESTAMP}\n{DATE}/{}/s3/aws4_request\n{rest}", request.region);
    to_hex(hmac::sign(&key(&request.region), text.as_bytes()).as_ref())
}

/// Signs a request and writes it down, with those freedoms of encoding that clients take.
pub(crate) fn sign(request: &Request, random: &mut Random) -> Wire {
    let credential = format!("{ACCESS_KEY}/{DATE}/{}/s3/aws4_request", request.region);
    let mut headers = request.headers.clone();
    let mut query = request.query.clone();
    headers.push(("host", request.host.clone()));
    if request.link.is_none() {
        headers.push(("x-amz-date", TIMESTAMP.to_owned()));
        headers.push(("x-amz-content-sha256", request.payload.clone()));
    }
    headers.sort();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    if let Some(expires) = request.link {
        for (name, value) in [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", TIMESTAMP),
            ("X-Amz-Expires", &expires.to_string()),
            ("X-Amz-SignedHeaders", &names),
        ] {
            query.push((name.to_owned(), value.to_owned()));
        }
        if request.payload != "UNSIGNED-PAYLOAD" {
            query.push(("X-Amz-Content-Sha256".to_owned(), request.payload.clone()));
        }
    }
    let encoded = |text: &str| encode(text, is_unreserved);
    let mut canonical: Vec<(String, String)> = query.iter().map(|(n, v)| (encoded(n), encoded(v))).collect();
    canonical.sort();
    let canonical: Vec<String> = canonical.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut text = format!(
        "{}\n{}\n{}\n",
        request.method,
        encode(&request.path, |byte| byte == b'/' || is_unreserved(byte)),
        canonical.join("&")
    );
    for (name, value) in &headers {
        let value: Vec<&str> = value.split(' ').filter(|part| !part.is_empty()).collect();
        text.push_str(&format!("{name}:{}\n", value.join(" ")));
    }
    text.push_str(&format!("\n{names}\n{}", request.payload));
    let signature = signature(request, "AWS4-HMAC-SHA256", &sha256_hex(text.as_bytes()));

    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            map.append(HeaderName::from_static(name), value);
        }
    }
    match request.link {
        Some(_) => query.push(("X-Amz-Signature".to_owned(), signature)),
        None => {
            let comma = random.pick(&[",", ", "]);
            let text = format!(
                "AWS4-HMAC-SHA256 Credential={credential}{comma}SignedHeaders={names}{comma}Signature={signature}"
            );
            if let Ok(value) = HeaderValue::from_str(&text) {
                map.insert(http::header::AUTHORIZATION, value);
            }
        }
    }
    // The order on the wire is the client's, and some characters may stay as they are.
    for at in (1..query.len()).rev() {
        query.swap(at, random.below(at + 1));
    }
    let loose = random.chance(50);
    let plain = move |byte: u8| is_unreserved(byte) || (loose && b":@!$'()*,;".contains(&byte));
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| match value.is_empty() && random.chance(50) {
            true => encode(name, plain),
            false => {
                format!("{}={}", encode(name, plain), encode(value, |byte| plain(byte) || (loose && byte == b'/')))
            }
        })
        .collect();
    Wire {
        method: request.method.to_owned(),
        path: encode(&request.path, |byte| plain(byte) || byte == b'/' || (loose && b"+&=".contains(&byte))),
        query: query.join("&"),
        headers: map,
        host: request.host.clone(),
        now: THEN,
        secret: SECRET.to_owned(),
    }
}

/// One thing is another: then nothing is proved.
fn different(request: &Request, wire: &Wire, random: &mut Random) -> Result<Reached, String> {
    let mut other = wire.clone();
    let (what, expected) = match random.below(11) {
        0 => {
            other.method = if wire.method == "GET" { "DELETE".to_owned() } else { "GET".to_owned() };
            ("method", 403)
        }
        1 => {
            other.path.push(random.pick(&['x', '/', '.']));
            ("path", 403)
        }
        2 => {
            let separator = if other.query.is_empty() { "" } else { "&" };
            other.query.push_str(&format!("{separator}{}", random.pick(&["zz=1", "acl", "prefix=", "A=b&c"])));
            ("a parameter more", 403)
        }
        3 => {
            other.host.push('1');
            ("host", 403)
        }
        4 => {
            other.secret.push('x');
            ("secret", 403)
        }
        5 => {
            other.now = match request.link {
                None => THEN + random.pick(&[-1, 1]) * (901 + random.below(100_000) as i64),
                Some(expires) => random.pick(&[THEN + expires, THEN + expires + 1, THEN - 901]),
            };
            ("time", 403)
        }
        6 => {
            let name = HeaderName::from_static(random.pick(&["x-amz-copy-source", "x-amz-security-token", "x-amz-x"]));
            other.headers.insert(name, HeaderValue::from_static("private/secret"));
            // A token in a header is not even read where the signature is in the query.
            ("a header that is not signed", 403)
        }
        7 | 8 => {
            let Some((name, value)) = request.headers.first() else { return Ok(Reached::Accepted) };
            let Ok(value) = HeaderValue::from_str(&format!("{value}x")) else { return Ok(Reached::Accepted) };
            if random.chance(50) {
                other.headers.insert(HeaderName::from_static(name), value);
            } else {
                other.headers.append(HeaderName::from_static(name), value);
            }
            ("a header", 403)
        }
        9 => {
            // One without a value and none are the same to the signature.
            if !request.headers.iter().any(|(name, value)| *name == "range" && !value.trim().is_empty()) {
                return Ok(Reached::Accepted);
            }
            other.headers.remove("range");
            ("a header less", 403)
        }
        _ => match request.link {
            None => {
                other.headers.insert("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD-"));
                ("payload", 403)
            }
            Some(expires) => {
                let (old, new) = (format!("X-Amz-Expires={expires}"), format!("X-Amz-Expires={}", expires + 1));
                other.query = other.query.replace(&old, &new);
                ("expiry", if expires == 604_800 { 400 } else { 403 })
            }
        },
    };
    match other.prove() {
        Err(refusal) if refusal.status == expected => Ok(Reached::Refused),
        outcome => Err(format!("another {what}: {outcome:?}\n{other:?}\nsigned: {wire:?}")),
    }
}

/// Random damage: what is still proved claims the same.
fn damaged(claim: &S3Claim, wire: &Wire, random: &mut Random) -> Result<Reached, String> {
    let mut other = wire.clone();
    match other.headers.get(http::header::AUTHORIZATION).cloned() {
        Some(value) if random.chance(70) => {
            let mut bytes = value.as_bytes().to_vec();
            random.damage(&mut bytes);
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(Reached::Refused) };
            other.headers.insert(http::header::AUTHORIZATION, value);
            if random.chance(5) {
                other.headers.append(http::header::AUTHORIZATION, HeaderValue::from_static("AWS4-HMAC-SHA256 x=y"));
            }
        }
        _ if random.chance(60) => other.query = random.damaged(&other.query),
        _ => {
            let name = random.pick(&["x-amz-date", "x-amz-content-sha256", "host", "content-type"]);
            let mut bytes = other.headers.get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default();
            random.damage(&mut bytes);
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(Reached::Refused) };
            other.headers.insert(HeaderName::from_static(name), value);
        }
    }
    match other.prove() {
        Err(refusal) => refused(&refusal).map(|()| Reached::Refused),
        Ok(proved) if proved == *claim => Ok(Reached::Accepted),
        Ok(proved) => Err(format!("{proved:?} was proved\n{other:?}\nby the signature of {wire:?}")),
    }
}

/// The claim of a signed request whose body is signed in pieces, and the signature that the first piece follows.
pub(crate) fn streaming(request: &mut Request, random: &mut Random, payload: &str) -> Option<(S3Claim, String)> {
    request.link = None;
    payload.clone_into(&mut request.payload);
    let wire = sign(request, random);
    let claim = wire.prove().ok()?;
    let text = wire.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let signature = text.rsplit_once("Signature=")?.1.to_owned();
    Some((claim, signature))
}
