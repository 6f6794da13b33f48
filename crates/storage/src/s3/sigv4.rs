//! AWS Signature Version 4 as S3 has it: what a request claims, and whether the signature proves it. Pure.
//!
//! A request names an access key and a scope (date, region, service) and signs its method, path, query, some headers
//! and a word about its body with a key derived from the secret. The signature is in the `Authorization` header or, for
//! links, in the query.

use std::borrow::Cow;
use std::fmt::Write as _;

use base::digest::sha256_hex;
use http::{HeaderMap, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::hmac;

use super::error::S3Error;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a client's clock may be off, in seconds.
const MOST_SKEW: i64 = 15 * 60;
/// Longest a signed link counts, in seconds.
const LONGEST_LINK: i64 = 7 * 24 * 3600;
/// Most headers that one signature may cover.
const MOST_HEADERS: usize = 100;

/// What `encodeURIComponent` of the SDKs leaves as it is: the unreserved characters of RFC 3986.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same for paths, whose slashes stay.
const PATH: AsciiSet = UNRESERVED.remove(b'/');

/// Date, region and service that a signature is for: the part of a credential behind the access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// `YYYYMMDD`.
    pub(crate) date: String,
    pub(crate) region: String,
}

impl Scope {
    fn text(&self) -> String {
        format!("{}/{}/s3/aws4_request", self.date, self.region)
    }
}

/// How a request proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Header,
    /// A signed link, which counts for some time.
    Query {
        expires: i64,
    },
}

/// What a request says of its signature; nothing of it is proved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) access_key: String,
    pub(crate) scope: Scope,
    pub(crate) placement: Placement,
    /// `YYYYMMDDTHHMMSSZ`.
    pub(crate) timestamp: String,
    /// Names in lower case, sorted.
    pub(crate) signed_headers: Vec<String>,
    /// Lower-case hex.
    pub(crate) signature: String,
    /// What the request says of its body: a SHA-256 in hex, or a name.
    pub(crate) payload: String,
    pub(crate) session_token: Option<String>,
}

/// The parts of a request that a signature covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    /// As the client sent it, from the server's root on.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// Stands in for the `Host` header where a proxy changed it.
    pub(crate) host: &'a str,
}

impl Claim {
    /// Reads what a request claims: the `Authorization` header counts before the query.
    pub(crate) fn read(headers: &HeaderMap, query: &str) -> Result<Self, S3Error> {
        let mut authorization = headers.get_all(http::header::AUTHORIZATION).iter();
        let header = authorization.next().map(|value| value.to_str().map_err(|_| malformed("no text"))).transpose()?;
        if authorization.next().is_some() {
            return Err(malformed("more than one Authorization header"));
        }
        match header.and_then(|text| text.strip_prefix(ALGORITHM)) {
            Some(fields) => Self::from_header(fields, headers),
            None => Self::from_query(query),
        }
    }

    fn from_header(fields: &str, headers: &HeaderMap) -> Result<Self, S3Error> {
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let Some((name, value)) = field.trim().split_once('=') else {
                return Err(malformed("a field without a value"));
            };
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return Err(malformed("an unknown field")),
            };
            if slot.replace(value).is_some() {
                return Err(malformed("a field twice"));
            }
        }
        let (Some(credential), Some(signed), Some(signature)) = (credential, signed, signature) else {
            return Err(malformed("Credential, SignedHeaders and Signature are required"));
        };
        let (access_key, scope) = read_credential(credential)?;
        let text = |name: &str| one_header(headers, name);
        let timestamp = match text("x-amz-date")? {
            Some(timestamp) => timestamp.to_owned(),
            None => return Err(S3Error::AccessDenied("AWS authentication requires a valid Date or x-amz-date header")),
        };
        let payload = text("x-amz-content-sha256")?
            .ok_or(S3Error::InvalidRequest("Missing required header for this request: x-amz-content-sha256"))?;
        Self {
            access_key,
            scope,
            placement: Placement::Header,
            timestamp,
            signed_headers: read_signed_headers(signed)?,
            signature: read_signature(signature)?,
            payload: payload.to_owned(),
            session_token: text("x-amz-security-token")?.map(str::to_owned),
        }
        .checked()
    }

    fn from_query(query: &str) -> Result<Self, S3Error> {
        let value = |name: &str| one_parameter(query, name);
        match value("X-Amz-Algorithm")?.as_deref() {
            Some(ALGORITHM) => {}
            Some(_) => return Err(bad_query("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")),
            None => return Err(S3Error::AccessDenied("Access Denied")),
        }
        const MISSING: &str = "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
            X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.";
        let needed = |name: &str| value(name)?.ok_or_else(|| bad_query(MISSING));
        let (access_key, scope) = read_credential(&needed("X-Amz-Credential")?)?;
        let expires = needed("X-Amz-Expires")?;
        let plain = !expires.is_empty() && expires.len() <= 9 && expires.bytes().all(|b| b.is_ascii_digit());
        let expires = expires.parse::<i64>().ok().filter(|_| plain);
        let expires = expires.ok_or_else(|| bad_query("X-Amz-Expires should be a number"))?;
        if expires > LONGEST_LINK {
            return Err(bad_query("X-Amz-Expires must be less than a week (in seconds)"));
        }
        Self {
            access_key,
            scope,
            placement: Placement::Query { expires },
            timestamp: needed("X-Amz-Date")?,
            signed_headers: read_signed_headers(&needed("X-Amz-SignedHeaders")?)?,
            signature: read_signature(&needed("X-Amz-Signature")?)?,
            payload: value("X-Amz-Content-Sha256")?.unwrap_or_else(|| "UNSIGNED-PAYLOAD".to_owned()),
            session_token: value("X-Amz-Security-Token")?,
        }
        .checked()
    }

    fn checked(self) -> Result<Self, S3Error> {
        if unix_seconds(&self.timestamp).is_none() {
            return Err(S3Error::AccessDenied("AWS authentication requires a valid Date or x-amz-date header"));
        }
        if !self.timestamp.starts_with(&self.scope.date) {
            return Err(malformed("the date of the credential is not the request's"));
        }
        if !self.signed_headers.iter().any(|name| name == "host") {
            return Err(S3Error::AccessDenied("The Host header must be signed"));
        }
        Ok(self)
    }

    /// Whether the signature counts at `now` (Unix seconds).
    pub(crate) fn check_time(&self, now: i64) -> Result<(), S3Error> {
        let signed_at = unix_seconds(&self.timestamp).unwrap_or_default();
        match self.placement {
            Placement::Header if (now - signed_at).abs() > MOST_SKEW => Err(S3Error::RequestTimeTooSkewed),
            Placement::Query { .. } if signed_at - now > MOST_SKEW => {
                Err(S3Error::AccessDenied("Request is not valid yet"))
            }
            Placement::Query { expires } if now >= signed_at + expires => {
                Err(S3Error::AccessDenied("Request has expired"))
            }
            _ => Ok(()),
        }
    }

    /// Every `x-amz-` header says what the request does, so that all of them have to be signed.
    pub(crate) fn check_headers(&self, headers: &HeaderMap) -> Result<(), S3Error> {
        let unsigned = |name: &HeaderName| {
            name.as_str().starts_with("x-amz-") && !self.signed_headers.iter().any(|signed| signed == name.as_str())
        };
        match headers.keys().any(unsigned) {
            true => Err(S3Error::AccessDenied("There were headers present in the request which were not signed")),
            false => Ok(()),
        }
    }

    /// Whether the signature was made with this key over this request. Compared in constant time.
    pub(crate) fn is_proved_by(&self, key: &SigningKey, request: &Signed<'_>) -> bool {
        let canonical = self.canonical_request(request);
        let text =
            format!("{ALGORITHM}\n{}\n{}\n{}", self.timestamp, self.scope.text(), sha256_hex(canonical.as_bytes()));
        key.verifies(&text, &self.signature)
    }

    /// The request in the one form that both sides sign.
    fn canonical_request(&self, request: &Signed<'_>) -> String {
        let mut text = String::with_capacity(512);
        let path = percent_decode_str(request.path).collect::<Vec<u8>>();
        let path = percent_encoding::percent_encode(&path, &PATH);
        let _ = writeln!(text, "{}\n{path}\n{}", request.method, canonical_query(request.query));
        for name in &self.signed_headers {
            let _ = write!(text, "{name}:");
            if name == "host" {
                text.push_str(request.host);
            } else {
                let values: Vec<_> = request.headers.get_all(name).iter().map(|v| trimmed(v.as_bytes())).collect();
                text.push_str(&values.join(","));
            }
            text.push('\n');
        }
        let _ = write!(text, "\n{}\n{}", self.signed_headers.join(";"), self.payload);
        text
    }

    /// What pieces of the body are signed with; see [`super::chunked`].
    pub(crate) fn chain(&self, key: SigningKey) -> ChunkChain {
        ChunkChain {
            key,
            timestamp: self.timestamp.clone(),
            scope: self.scope.text(),
            previous: self.signature.clone(),
        }
    }
}

/// The key of a secret and a scope.
#[derive(Clone, Debug)]
pub(crate) struct SigningKey(hmac::Key);

impl SigningKey {
    pub(crate) fn derive(secret: &str, scope: &Scope) -> Self {
        let step = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        let date = step(format!("AWS4{secret}").as_bytes(), &scope.date);
        let region = step(date.as_ref(), &scope.region);
        let service = step(region.as_ref(), "s3");
        let key = step(service.as_ref(), "aws4_request");
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    fn verifies(&self, text: &str, signature: &str) -> bool {
        from_hex(signature).is_some_and(|tag| hmac::verify(&self.0, text.as_bytes(), &tag).is_ok())
    }

    #[cfg(test)]
    pub(crate) fn sign(&self, text: &str) -> String {
        base::random::to_hex(hmac::sign(&self.0, text.as_bytes()).as_ref())
    }
}

/// Signatures of the pieces of a body, each of which covers the one before.
#[derive(Clone, Debug)]
pub(crate) struct ChunkChain {
    key: SigningKey,
    timestamp: String,
    scope: String,
    previous: String,
}

/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl ChunkChain {
    /// Whether `signature` is that of the next piece, whose SHA-256 is `digest` (hex).
    pub(crate) fn accepts_chunk(&mut self, digest: &str, signature: &str) -> bool {
        self.accepts("AWS4-HMAC-SHA256-PAYLOAD", &format!("{EMPTY}\n{digest}"), signature)
    }

    /// Whether `signature` is that of the trailers, whose SHA-256 is `digest` (hex).
    pub(crate) fn accepts_trailers(&mut self, digest: &str, signature: &str) -> bool {
        self.accepts("AWS4-HMAC-SHA256-TRAILER", digest, signature)
    }

    fn accepts(&mut self, kind: &str, digests: &str, signature: &str) -> bool {
        let accepted = self.key.verifies(&self.text(kind, digests), signature);
        signature.clone_into(&mut self.previous);
        accepted
    }

    fn text(&self, kind: &str, digests: &str) -> String {
        format!("{kind}\n{}\n{}\n{}\n{digests}", self.timestamp, self.scope, self.previous)
    }

    /// The signature of the next piece, for tests that play the client.
    #[cfg(test)]
    pub(crate) fn sign_chunk(&mut self, digest: &str) -> String {
        let signature = self.key.sign(&self.text("AWS4-HMAC-SHA256-PAYLOAD", &format!("{EMPTY}\n{digest}")));
        self.previous.clone_from(&signature);
        signature
    }

    #[cfg(test)]
    pub(crate) fn sign_trailers(&mut self, digest: &str) -> String {
        self.key.sign(&self.text("AWS4-HMAC-SHA256-TRAILER", digest))
    }
}

fn malformed(what: &'static str) -> S3Error {
    S3Error::AuthorizationHeaderMalformed(what)
}

fn bad_query(what: &'static str) -> S3Error {
    S3Error::AuthorizationQueryParametersError(what)
}

/// `<access key>/<date>/<region>/s3/aws4_request`; an access key may have slashes.
fn read_credential(text: &str) -> Result<(String, Scope), S3Error> {
    let mut parts = text.rsplitn(5, '/');
    let (terminator, service, region, date, access_key) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
    let (Some("aws4_request"), Some("s3"), Some(region), Some(date), Some(access_key)) =
        (terminator, service, region, date, access_key)
    else {
        return Err(malformed("the credential must be <access key>/<date>/<region>/s3/aws4_request"));
    };
    let plain =
        |text: &str, most: usize| !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic());
    if date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()) || !plain(region, 64) || !plain(access_key, 128) {
        return Err(malformed("the credential must be <access key>/<date>/<region>/s3/aws4_request"));
    }
    Ok((access_key.to_owned(), Scope { date: date.to_owned(), region: region.to_owned() }))
}

fn read_signed_headers(text: &str) -> Result<Vec<String>, S3Error> {
    let names: Vec<String> = text.split(';').map(str::to_owned).collect();
    let is_name = |name: &String| {
        !name.is_empty() && HeaderName::from_bytes(name.as_bytes()).is_ok_and(|parsed| parsed.as_str() == name)
    };
    if names.len() > MOST_HEADERS || !names.iter().all(is_name) || !names.is_sorted() {
        return Err(malformed("SignedHeaders must be names in lower case, sorted, between semicolons"));
    }
    Ok(names)
}

fn read_signature(text: &str) -> Result<String, S3Error> {
    match is_lower_hex(text, 64) {
        true => Ok(text.to_owned()),
        false => Err(malformed("the signature must be 64 characters of lower-case hex")),
    }
}

/// Whether a text is lower-case hex of this length.
pub(crate) fn is_lower_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn one_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, S3Error> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().map_err(|_| malformed("a header that is no text")));
    match values.next() {
        None => value.transpose().map(|value| value.map(str::trim)),
        Some(_) => Err(malformed("a header twice")),
    }
}

fn one_parameter(query: &str, name: &str) -> Result<Option<String>, S3Error> {
    let mut values = pairs(query).filter(|(key, _)| key == name);
    let value = values.next().map(|(_, value)| value.into_owned());
    match values.next() {
        None => Ok(value),
        Some(_) => Err(bad_query("a parameter of the signature twice")),
    }
}

/// The parameters of a query, decoded.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return percent_decode_str(&spaced).decode_utf8_lossy().into_owned().into();
    }
    percent_decode_str(text).decode_utf8_lossy()
}

fn canonical_query(query: &str) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, &UNRESERVED).to_string();
    let mut list: Vec<_> = pairs(query)
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| (encoded(&name), encoded(&value)))
        .collect();
    list.sort_unstable();
    list.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// A header's value without blanks around it, and with one blank for several within.
fn trimmed(value: &[u8]) -> String {
    let text: String = value.iter().map(|b| char::from(*b)).collect();
    text.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Unix seconds of `YYYYMMDDTHHMMSSZ`.
fn unix_seconds(timestamp: &str) -> Option<i64> {
    let bytes = timestamp.as_bytes();
    let digits = |from: usize, to: usize| {
        let part = timestamp.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
    };
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(4, 6)?, digits(6, 8)?);
    let (hour, minute, second) = (digits(9, 11)?, digits(11, 13)?, digits(13, 15)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 || year < 1970
    {
        return None;
    }
    // Days since the epoch of the civil calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
#[path = "sigv4_tests.rs"]
pub(crate) mod tests;
