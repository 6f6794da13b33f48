//! The signature against the examples that AWS publishes for S3, and against everything that is wrong.

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 2013-05-24T00:00:00Z, the time of the published examples.
const THEN: i64 = 1_369_353_600;

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        map.append(*name, value.parse().unwrap());
    }
    map
}

fn authorization(signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
         SignedHeaders={signed},Signature={signature}"
    )
}

/// One of the published examples.
fn check(method: &str, path: &str, query: &str, own: &[(&'static str, &str)], signed: &str, signature: &str) {
    let mut list = own.to_vec();
    let authorization = authorization(signed, signature);
    list.push(("authorization", &authorization));
    list.push(("x-amz-date", "20130524T000000Z"));
    let headers = headers(&list);
    let claim = Claim::read(&headers, query).unwrap();
    let host = "examplebucket.s3.amazonaws.com";
    let key = SigningKey::derive(SECRET, &claim.scope);
    let request = Signed { method, path, query, headers: &headers, host };
    assert!(claim.is_proved_by(&key, &request), "{method} {path}?{query}: {}", claim.canonical_request(&request));
    claim.check_time(THEN).unwrap();
    claim.check_headers(&headers).unwrap();
    // Whatever is different is refused.
    let wrong_key = SigningKey::derive("another", &claim.scope);
    assert!(!claim.is_proved_by(&wrong_key, &request));
    assert!(!claim.is_proved_by(&key, &Signed { method: "PATCH", ..request }));
    assert!(!claim.is_proved_by(&key, &Signed { path: "/other", ..request }));
    assert!(!claim.is_proved_by(&key, &Signed { query: "a=b", ..request }));
    assert!(!claim.is_proved_by(&key, &Signed { host: "other", ..request }));
}

#[test]
fn published_examples() {
    let empty = ("x-amz-content-sha256", EMPTY);
    check(
        "GET",
        "/test.txt",
        "",
        &[("range", "bytes=0-9"), empty],
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    check(
        "PUT",
        "/test$file.text",
        "",
        &[
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
        ],
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    check(
        "GET",
        "/",
        "lifecycle",
        &[empty],
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    );
    check(
        "GET",
        "/",
        "max-keys=2&prefix=J",
        &[empty],
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    );
}

const LINK: &str = "X-Amz-Algorithm=AWS4-HMAC-SHA256\
    &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
    &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
    &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";

#[test]
fn published_example_of_a_link() {
    let headers = HeaderMap::new();
    let claim = Claim::read(&headers, LINK).unwrap();
    assert_eq!(claim.placement, Placement::Query { expires: 86_400 });
    let key = SigningKey::derive(SECRET, &claim.scope);
    let request = Signed {
        method: "GET",
        path: "/test.txt",
        query: LINK,
        headers: &headers,
        host: "examplebucket.s3.amazonaws.com",
    };
    assert!(claim.is_proved_by(&key, &request));
    let longer = LINK.replace("86400", "86401");
    assert!(!Claim::read(&headers, &longer).unwrap().is_proved_by(&key, &Signed { query: &longer, ..request }));
    let time = |now: i64| claim.check_time(now).is_ok();
    assert!(time(THEN) && time(THEN + 86_399) && time(THEN - MOST_SKEW));
    assert!(!time(THEN + 86_400) && !time(THEN - MOST_SKEW - 1));
}

/// The chain of the published example of a body in chunks, at its beginning.
pub(crate) fn chain() -> ChunkChain {
    let scope = Scope { date: "20130524".into(), region: "us-east-1".into() };
    ChunkChain {
        key: SigningKey::derive(SECRET, &scope),
        timestamp: "20130524T000000Z".into(),
        scope: scope.text(),
        previous: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".into(),
    }
}

#[test]
fn published_example_of_chunks() {
    let mut chain = chain();
    let digest = |length: usize| sha256_hex(&vec![b'a'; length]);
    let first = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648";
    let second = "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497";
    let last = "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9";
    assert!(!chain.clone().accepts_chunk(&digest(1_024), first));
    assert!(chain.accepts_chunk(&digest(65_536), first));
    assert!(!chain.clone().accepts_chunk(EMPTY, last), "out of order");
    assert!(chain.accepts_chunk(&digest(1_024), second));
    assert!(chain.accepts_chunk(EMPTY, last));
}

#[test]
fn clocks_may_be_off_a_quarter_of_an_hour() {
    let authorization = authorization("host", &"0".repeat(64));
    let headers = headers(&[
        ("authorization", &authorization),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ]);
    let claim = Claim::read(&headers, "").unwrap();
    assert!(claim.check_time(THEN + MOST_SKEW).is_ok() && claim.check_time(THEN - MOST_SKEW).is_ok());
    assert!(matches!(claim.check_time(THEN + MOST_SKEW + 1), Err(S3Error::RequestTimeTooSkewed)));
    assert!(matches!(claim.check_time(THEN - MOST_SKEW - 1), Err(S3Error::RequestTimeTooSkewed)));
    assert!(claim.check_headers(&headers).is_err(), "x-amz-date is not signed");
}

#[test]
fn malformed_claims_are_refused() {
    let good = authorization("host;x-amz-date", &"0".repeat(64));
    let read = |authorization: &str, date: &str| {
        let headers = headers(&[
            ("authorization", authorization),
            ("x-amz-date", date),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ]);
        Claim::read(&headers, "")
    };
    assert!(read(&good, "20130524T000000Z").is_ok());
    for date in [
        "",
        "20130524",
        "20130524T000000",
        "20130524T240000Z",
        "20131324T000000Z",
        "2013052èT000000Z",
        "20140524T000000Z",
    ] {
        assert!(read(&good, date).is_err(), "{date}");
    }
    for (from, to) in [
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=x-amz-date;host"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=Host"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=x-amz-date"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders="),
        ("SignedHeaders=host;x-amz-date,", ""),
        ("/s3/", "/ec2/"),
        ("aws4_request", "aws4"),
        ("20130524/", ""),
        ("20130524", "2013052x"),
        ("Credential=AKIAIOSFODNN7EXAMPLE", "Credential="),
        ("Signature=0", "Signature=G"),
        ("Signature=0", "Signature="),
        ("Signature=0", "Signature=00"),
        ("Signature", "Other=1,Signature"),
        ("Signature=", "Signature=1,Signature="),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        assert!(read(&bad, "20130524T000000Z").is_err(), "{bad}");
    }
    let query = |from: &str, to: &str| Claim::read(&HeaderMap::new(), &LINK.replacen(from, to, 1));
    assert!(query("", "").is_ok());
    for (from, to) in [
        ("86400", "604801"),
        ("86400", "-1"),
        ("86400", ""),
        ("86400", "1e3"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=1&X-Amz-Expires=2"),
        ("X-Amz-Date=20130524T000000Z&", ""),
        ("HMAC-SHA256", "ECDSA-P256-SHA256"),
        ("X-Amz-Algorithm", "Y"),
    ] {
        assert!(query(from, to).is_err(), "{from} {to}");
    }
}

/// Reading never panics and never takes what was not written as a signature is, whatever comes.
#[test]
fn nothing_that_comes_makes_the_reader_fall() {
    let mut seed = 11_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    const PARTS: [&str; 22] = [
        "AWS4-HMAC-SHA256",
        " ",
        "Credential=",
        "a/20130524/r/s3/aws4_request",
        ",",
        "SignedHeaders=",
        "host",
        ";",
        "x-amz-date",
        "Signature=",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "=",
        "/",
        "%2F",
        "%",
        "&",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X-Amz-Date=20130524T000000Z",
        "X-Amz-Expires=1",
        "X-Amz-Credential=",
        "\u{e9}",
        "X-Amz-SignedHeaders=host",
    ];
    for _ in 0..20_000 {
        let mut text = || (0..next(14)).map(|_| PARTS[next(PARTS.len())]).collect::<String>();
        let (header, query) = (text(), text());
        let mut map = HeaderMap::new();
        if let Ok(value) = http::HeaderValue::from_bytes(header.as_bytes()) {
            map.insert("authorization", value);
        }
        map.insert("x-amz-date", "20130524T000000Z".parse().unwrap());
        map.insert("x-amz-content-sha256", "UNSIGNED-PAYLOAD".parse().unwrap());
        if let Ok(claim) = Claim::read(&map, &query) {
            assert!(is_lower_hex(&claim.signature, 64) && claim.signed_headers.iter().any(|name| name == "host"));
            let key = SigningKey::derive("secret", &claim.scope);
            let request = Signed { method: "GET", path: &header, query: &query, headers: &map, host: "h" };
            assert!(!claim.is_proved_by(&key, &request), "nobody signed this");
        }
    }
}

#[test]
fn a_changed_byte_of_a_signed_request_is_refused() {
    let headers =
        headers(&[("x-amz-date", "20130524T000000Z"), ("x-amz-content-sha256", EMPTY), ("x-amz-meta-a", "1  2 ")]);
    let mut claim = Claim {
        access_key: "a".into(),
        scope: Scope { date: "20130524".into(), region: "r".into() },
        placement: Placement::Header,
        timestamp: "20130524T000000Z".into(),
        signed_headers: ["host", "x-amz-content-sha256", "x-amz-date", "x-amz-meta-a"].map(str::to_owned).into(),
        signature: String::new(),
        payload: EMPTY.into(),
        session_token: None,
    };
    let key = SigningKey::derive("secret", &claim.scope);
    let request =
        Signed { method: "PUT", path: "/b/a%20b/c", query: "uploadId=1&partNumber=2", headers: &headers, host: "h:1" };
    let canonical = claim.canonical_request(&request);
    assert!(
        canonical.contains("/b/a%20b/c\npartNumber=2&uploadId=1\nhost:h:1\n")
            && canonical.contains("x-amz-meta-a:1 2\n")
    );
    let text =
        format!("{ALGORITHM}\n{}\n{}\n{}", claim.timestamp, claim.scope.text(), sha256_hex(canonical.as_bytes()));
    claim.signature = key.sign(&text);
    assert!(claim.is_proved_by(&key, &request));
    assert!(
        claim.is_proved_by(&key, &Signed { query: "partNumber=2&uploadId=1", ..request }),
        "the order does not count"
    );
    let path = request.path.as_bytes();
    for at in 0..path.len() {
        let mut other = path.to_vec();
        other[at] ^= 1;
        let Ok(other) = String::from_utf8(other) else { continue };
        assert!(!claim.is_proved_by(&key, &Signed { path: &other, ..request }), "{other}");
    }
}

/// Signs requests as a client does.
pub(crate) struct Signer {
    pub(crate) access_key: String,
    pub(crate) secret: String,
    pub(crate) session_token: Option<String>,
    /// Unix seconds.
    pub(crate) now: i64,
}

impl Signer {
    fn claim(&self, placement: Placement, signed_headers: Vec<String>, payload: &str) -> Claim {
        let timestamp = crate::content::iso_8601(self.now).replace(['-', ':'], "").replace(".000", "");
        Claim {
            access_key: self.access_key.clone(),
            scope: Scope { date: timestamp[..8].into(), region: "eu-central-1".into() },
            placement,
            timestamp,
            signed_headers,
            signature: String::new(),
            payload: payload.into(),
            session_token: self.session_token.clone(),
        }
    }

    fn finish(&self, claim: &mut Claim, method: &str, uri: &http::Uri, headers: &HeaderMap) -> ChunkChain {
        let key = SigningKey::derive(&self.secret, &claim.scope);
        let query = uri.query().unwrap_or_default();
        let canonical =
            claim.canonical_request(&Signed { method, path: uri.path(), query, headers, host: "base.example" });
        let text =
            format!("{ALGORITHM}\n{}\n{}\n{}", claim.timestamp, claim.scope.text(), sha256_hex(canonical.as_bytes()));
        claim.signature = key.sign(&text);
        claim.chain(key)
    }

    /// Signs in the `Authorization` header; gives what pieces of the body are signed with.
    pub(crate) fn sign<B>(&self, request: &mut http::Request<B>, payload: &str) -> ChunkChain {
        request.headers_mut().insert("host", "base.example".parse().unwrap());
        request.headers_mut().insert("x-amz-content-sha256", payload.parse().unwrap());
        if let Some(token) = &self.session_token {
            request.headers_mut().insert("x-amz-security-token", token.parse().unwrap());
        }
        let stamp = self.claim(Placement::Header, Vec::new(), payload).timestamp;
        request.headers_mut().insert("x-amz-date", stamp.parse().unwrap());
        let mut names: Vec<String> = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        let mut claim = self.claim(Placement::Header, names, payload);
        let (method, uri) = (request.method().to_string(), request.uri().clone());
        let chain = self.finish(&mut claim, &method, &uri, request.headers());
        let value = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={}",
            claim.access_key,
            claim.scope.text(),
            claim.signed_headers.join(";"),
            claim.signature
        );
        request.headers_mut().insert("authorization", value.parse().unwrap());
        chain
    }

    /// A signed link: the path with its query.
    pub(crate) fn link(&self, method: &str, path: &str, expires: i64) -> String {
        let mut claim = self.claim(Placement::Query { expires }, vec!["host".into()], "UNSIGNED-PAYLOAD");
        let credential = format!("{}/{}", claim.access_key, claim.scope.text()).replace('/', "%2F");
        let (path, own) = path.split_once('?').unwrap_or((path, ""));
        let mut query = format!(
            "{own}&X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date={}&X-Amz-Expires={expires}\
             &X-Amz-SignedHeaders=host",
            claim.timestamp
        );
        if let Some(token) = &self.session_token {
            query.push_str(&format!("&X-Amz-Security-Token={token}"));
        }
        let uri: http::Uri = format!("{path}?{query}").parse().unwrap();
        self.finish(&mut claim, method, &uri, &HeaderMap::new());
        format!("{path}?{query}&X-Amz-Signature={}", claim.signature)
    }
}
