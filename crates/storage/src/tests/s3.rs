//! The S3 protocol at the wire, signed by a client of our own; the published clients are in `e2e/`.

use axum::body::Body;
use base::digest::sha256_hex;
use base::jwt::sign_hs256;
use base::project::{S3AccessKey, S3Keys};
use base::{Secret, random};
use http::Request;
use serde_json::json;

use super::{Answer, SECRET, USER_A, USER_B, Who, World};
use crate::s3::sigv4::tests::Signer;

const ACCESS_KEY: &str = "0123456789abcdef0123456789abcdef";
const SECRET_KEY: &str = "a secret of an access key";
const ANON_KEY: &str = "the anon key of the project";

pub(super) async fn world() -> World {
    let world = World::start_with(|project, _| project.s3 = keys()).await;
    world.add_buckets().await;
    world
}

/// What [`service`] and [`user`] sign with.
pub(super) fn keys() -> S3Keys {
    S3Keys {
        anon_key: Some(Secret::new(ANON_KEY.into())),
        access_keys: vec![S3AccessKey { access_key_id: ACCESS_KEY.into(), secret: Secret::new(SECRET_KEY.into()) }],
    }
}

/// A client with an access key, which acts as the service role.
pub(super) fn service(world: &World) -> Signer {
    Signer {
        access_key: ACCESS_KEY.into(),
        secret: SECRET_KEY.into(),
        session_token: None,
        now: world.clock.unix_seconds(),
    }
}

/// A client with a user's token.
pub(super) fn user(world: &World, id: &str) -> Signer {
    let now = world.clock.unix_seconds();
    let claims = json!({"role": "authenticated", "sub": id, "aud": "authenticated", "exp": now + 600});
    Signer {
        access_key: world.project.project_ref.as_str().into(),
        secret: ANON_KEY.into(),
        session_token: Some(sign_hs256(SECRET, &claims)),
        now,
    }
}

/// What S3 says of an answer: `200`, or `404 NoSuchKey`.
pub(super) fn outcome(answer: &Answer) -> String {
    let text = answer.text();
    let code = element(&text, "Code");
    format!("{} {}", answer.status.as_u16(), code).trim_end().to_owned()
}

/// The text of the first element of this name.
pub(super) fn element<'a>(text: &'a str, name: &str) -> &'a str {
    let rest = text.split_once(&format!("<{name}>")).map(|(_, rest)| rest).unwrap_or_default();
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner).unwrap_or_default()
}

/// The texts of all elements of this name.
pub(super) fn elements<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let open = format!("<{name}>");
    text.split(&*open)
        .skip(1)
        .filter_map(|rest| rest.split_once(&format!("</{name}>")))
        .map(|(inner, _)| inner)
        .collect()
}

/// `METHOD /s3/...`, signed, with the SHA-256 of its body.
pub(super) async fn ask(
    world: &World,
    signer: &Signer,
    line: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Answer {
    let body = body.into();
    let (method, uri) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(uri).header("content-length", body.len());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let digest = sha256_hex(&body);
    let mut request = request.body(Body::from(body)).unwrap();
    signer.sign(&mut request, &digest);
    world.send(Who::Nobody, request).await
}

#[tokio::test]
async fn only_who_signed_gets_in() {
    let world = world().await;
    let good = service(&world);
    let check = async |signer: &Signer, expected: &str| {
        let answer = ask(&world, signer, "GET /s3/", &[], "").await;
        assert_eq!(outcome(&answer), expected, "{}", answer.text());
    };
    check(&good, "200").await;
    check(&user(&world, USER_A), "200").await;
    check(&Signer { secret: "another".into(), ..service(&world) }, "403 SignatureDoesNotMatch").await;
    check(&Signer { access_key: "nobody".into(), ..service(&world) }, "403 InvalidAccessKeyId").await;
    check(&Signer { now: good.now - 1_000, ..service(&world) }, "403 RequestTimeTooSkewed").await;
    check(&Signer { session_token: Some("x.y.z".into()), ..user(&world, USER_A) }, "400 InvalidToken").await;
    check(&Signer { session_token: None, ..user(&world, USER_A) }, "403 InvalidAccessKeyId").await;
    check(&Signer { session_token: user(&world, USER_A).session_token, ..service(&world) }, "403 InvalidAccessKeyId")
        .await;
    check(&Signer { access_key: "proj_other".into(), ..user(&world, USER_A) }, "403 InvalidAccessKeyId").await;
    let expired = json!({"role": "authenticated", "sub": USER_A, "exp": good.now - 600});
    let forged = json!({"role": "service_role", "exp": good.now + 600});
    for (token, secret) in [(expired, SECRET), (forged, &b"a secret of somebody else that is as long"[..])] {
        let token = Some(sign_hs256(secret, &token));
        check(&Signer { session_token: token, ..user(&world, USER_A) }, "400 InvalidToken").await;
    }
    let unsigned = world.get(Who::Service, "/s3/").await;
    assert_eq!(outcome(&unsigned), "403 AccessDenied", "a key of another protocol proves nothing here");
    // What was not signed may not say what to do.
    let mut request = Request::builder().method("PUT").uri("/s3/open/a").body(Body::from("x")).unwrap();
    good.sign(&mut request, "UNSIGNED-PAYLOAD");
    request.headers_mut().insert("x-amz-copy-source", "private/secret".parse().unwrap());
    assert_eq!(outcome(&world.send(Who::Nobody, request).await), "403 AccessDenied");
}

#[tokio::test]
async fn an_object_goes_in_and_out() {
    let world = world().await;
    let s3 = service(&world);
    let ask = async |line: &str, headers: &[(&str, &str)], body: &str| ask(&world, &s3, line, headers, body).await;
    let headers = [("content-type", "text/plain"), ("cache-control", "max-age=9"), ("x-amz-meta-color", "red")];
    let put = ask("PUT /s3/private/a/b%20c.txt", &headers, "hello").await;
    assert_eq!(outcome(&put), "200", "{}", put.text());
    assert_eq!(put.header("etag"), "\"5d41402abc4b2a76b9719d911017c592\"");
    let got = ask("GET /s3/private/a/b%20c.txt", &[], "").await;
    assert_eq!(
        (&*got.text(), got.header("content-type"), got.header("x-amz-meta-color")),
        ("hello", "text/plain", "red")
    );
    assert_eq!((got.header("cache-control"), got.header("content-length")), ("max-age=9", "5"));
    let part = ask("GET /s3/private/a/b%20c.txt", &[("range", "bytes=1-2")], "").await;
    assert_eq!((part.status.as_u16(), &*part.text(), part.header("content-range")), (206, "el", "bytes 1-2/5"));
    let head = ask("HEAD /s3/private/a/b%20c.txt", &[], "").await;
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.body.len()), (200, "5", 0));
    let check = async |line: &str, headers: &[(&str, &str)], expected: &str| {
        let answer = ask(line, headers, "").await;
        assert_eq!(outcome(&answer), expected, "{line} {headers:?}");
    };
    check("GET /s3/private/a/b%20c.txt", &[("range", "bytes=9-")], "416 InvalidRange").await;
    check("GET /s3/private/a/b%20c.txt", &[("if-none-match", put.header("etag"))], "304").await;
    check("GET /s3/private/a/b%20c.txt", &[("if-match", "\"x\"")], "412 PreconditionFailed").await;
    check("GET /s3/private/none", &[], "404 NoSuchKey").await;
    check("GET /s3/none/none", &[], "404 NoSuchBucket").await;
    check("PUT /s3/none/a", &[], "404 NoSuchBucket").await;
    check("PUT /s3/private/a/b%20c.txt", &[("if-none-match", "*")], "412 PreconditionFailed").await;
    check("PUT /s3/private/..", &[], "400 InvalidKey").await;
    check("PUT /s3/private/a/b%20c.txt?acl", &[], "501 NotImplemented").await;
    check("PUT /s3/private/a", &[("x-amz-tagging", "a=b")], "501 NotImplemented").await;
    check("GET /s3/private?cors", &[], "404 NoSuchCORSConfiguration").await;
    check("GET /s3/private?policy", &[], "404 NoSuchBucketPolicy").await;
    check("GET /s3/private?logging", &[], "200").await;
    check("GET /s3/none?acl", &[], "404 NoSuchBucket").await;
    check("DELETE /s3/private?cors", &[], "501 NotImplemented").await;
    for target in ["/s3/private?acl", "/s3/private/a/b%20c.txt?acl"] {
        let list = ask(&format!("GET {target}"), &[], "").await;
        assert_eq!(element(&list.text(), "Permission"), "FULL_CONTROL", "{}", list.text());
    }

    let copy = [("x-amz-copy-source", "/private/a/b%20c.txt")];
    let copied = ask("PUT /s3/open/copy", &copy, "").await;
    assert_eq!(element(&copied.text(), "ETag"), "\"5d41402abc4b2a76b9719d911017c592\"", "{}", copied.text());
    assert_eq!(ask("GET /s3/open/copy", &[], "").await.header("x-amz-meta-color"), "red");
    check("PUT /s3/private/a/b%20c.txt", &copy, "400 InvalidRequest").await;
    let replace = [copy[0], ("x-amz-metadata-directive", "REPLACE"), ("content-type", "text/x")];
    check("PUT /s3/private/a/b%20c.txt", &replace, "200").await;
    let replaced = ask("HEAD /s3/private/a/b%20c.txt", &[], "").await;
    assert_eq!((replaced.header("content-type"), replaced.header("x-amz-meta-color")), ("text/x", ""));
    let other = [copy[0], ("x-amz-copy-source-if-match", "\"x\"")];
    check("PUT /s3/open/copy", &other, "412 PreconditionFailed").await;

    check("DELETE /s3/open/copy", &[], "204").await;
    check("DELETE /s3/open/copy", &[], "204").await;
    check("DELETE /s3/none/copy", &[], "404 NoSuchBucket").await;
    let many = "<Delete><Object><Key>a/b c.txt</Key></Object><Object><Key>never/there</Key></Object></Delete>";
    let deleted = ask("POST /s3/private?delete", &[], many).await;
    assert_eq!(elements(&deleted.text(), "Key"), ["a/b c.txt", "never/there"], "{}", deleted.text());
    assert_eq!(outcome(&ask("POST /s3/private?delete", &[], "<Delete>").await), "400 MalformedXML");
    world.settled().await;
    assert_eq!(world.files(), [""; 0]);
}

#[tokio::test]
async fn a_body_has_to_be_what_was_announced() {
    let world = world().await;
    let s3 = service(&world);
    let check = async |payload: &str, headers: &[(&str, &str)], body: &str, expected: &str| {
        let mut request = Request::builder().method("PUT").uri("/s3/private/a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        s3.sign(&mut request, payload);
        let answer = world.send(Who::Nobody, request).await;
        assert_eq!(outcome(&answer), expected, "{payload} {headers:?} {body:?}: {}", answer.text());
    };
    let length = ("content-length", "5");
    let digest = sha256_hex(b"hello");
    check(&digest, &[length], "hello", "200").await;
    check(&digest, &[length], "hellO", "400 XAmzContentSHA256Mismatch").await;
    check("UNSIGNED-PAYLOAD", &[length], "hello", "200").await;
    check("UNSIGNED-PAYLOAD", &[], "hello", "411 MissingContentLength").await;
    check("UNSIGNED-PAYLOAD", &[length], "hell", "400 IncompleteBody").await;
    check("nonsense", &[length], "hello", "400 InvalidArgument").await;
    check("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", &[length], "hello", "501 NotImplemented").await;
    check("UNSIGNED-PAYLOAD", &[length, ("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")], "hello", "200").await;
    check("UNSIGNED-PAYLOAD", &[length, ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")], "hello", "400 BadDigest").await;
    check("UNSIGNED-PAYLOAD", &[length, ("content-md5", "x")], "hello", "400 InvalidDigest").await;
    check("UNSIGNED-PAYLOAD", &[length, ("x-amz-checksum-crc32", "NhCmhg==")], "hello", "200").await;
    check("UNSIGNED-PAYLOAD", &[length, ("x-amz-checksum-crc32", "AAAAAA==")], "hello", "400 BadDigest").await;
    // In pieces, with the checksum behind them, as the SDKs send by default.
    let trailing = [
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "5"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let unsigned = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    check(unsigned, &trailing, "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", "200").await;
    check(unsigned, &trailing, "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "400 BadDigest").await;
    check(unsigned, &trailing, "5\r\nhello\r\n0\r\n\r\n", "400 IncompleteBody").await;
    check(unsigned, &trailing, "4\r\nhell\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", "400 IncompleteBody").await;
    check(unsigned, &trailing, "5\r\nhello", "400 IncompleteBody").await;
    check(unsigned, &trailing, "hello", "400 IncompleteBody").await;
    check(unsigned, &trailing, "hello\r\n", "400 InvalidRequest").await;
    assert_eq!(world.value("select count(*) from storage.objects").await, "1", "only what was whole is there");
}

#[tokio::test]
async fn pieces_with_signatures() {
    let world = world().await;
    let s3 = service(&world);
    for (change, expected) in [(false, "200"), (true, "403 SignatureDoesNotMatch")] {
        let mut request = Request::builder()
            .method("PUT")
            .uri("/s3/private/signed")
            .header("x-amz-decoded-content-length", "11")
            .body(Body::empty())
            .unwrap();
        let mut chain = s3.sign(&mut request, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
        let mut wire = String::new();
        for piece in ["hello ", "world", ""] {
            let signature = chain.sign_chunk(&sha256_hex(piece.as_bytes()));
            wire.push_str(&format!("{:x};chunk-signature={signature}\r\n{piece}\r\n", piece.len()));
        }
        if change {
            wire = wire.replace("world", "World");
        }
        *request.body_mut() = Body::from(wire);
        assert_eq!(outcome(&world.send(Who::Nobody, request).await), expected);
    }
    assert_eq!(ask(&world, &s3, "GET /s3/private/signed", &[], "").await.text(), "hello world");
}

#[tokio::test]
async fn links_count_for_their_time_and_request_only() {
    let world = world().await;
    let s3 = service(&world);
    ask(&world, &s3, "PUT /s3/private/a.html", &[("content-type", "text/html")], "<p>").await;
    let link = s3.link("GET", "/s3/private/a.html", 60);
    let get = async |link: &str| world.ask(Who::Nobody, &format!("GET {link}"), &[], Body::empty()).await;
    let got = get(&link).await;
    assert_eq!(
        (&*got.text(), got.header("content-type")),
        ("<p>", "text/plain"),
        "a browser opens no page of a bucket"
    );
    let named = s3.link("GET", "/s3/private/a.html?response-content-disposition=attachment%3B%20filename%3Dx", 60);
    assert_eq!(get(&named).await.header("content-disposition"), "attachment; filename=x");
    for other in [link.replace("a.html", "b.html"), link.replace("Expires=60", "Expires=61"), format!("{link}&x=1")] {
        assert_eq!(outcome(&get(&other).await), "403 SignatureDoesNotMatch", "{other}");
    }
    let put = s3.link("PUT", "/s3/private/b", 60);
    let sent = world.ask(Who::Nobody, &format!("PUT {put}"), &[("content-length", "1")], "b").await;
    assert_eq!(outcome(&sent), "200", "{}", sent.text());
    world.clock.advance(61);
    assert_eq!(outcome(&get(&link).await), "403 AccessDenied");
}

/// Requests by somebody on an object of A and one of B, each after the other.
#[tokio::test]
async fn a_session_token_gives_the_rights_of_its_user() {
    let world = world().await;
    let (a, b, service) = (user(&world, USER_A), user(&world, USER_B), service(&world));
    let check = async |signer: &Signer, line: &str, headers: &[(&str, &str)], expected: &str| {
        let answer = ask(&world, signer, line, headers, "").await;
        assert_eq!(outcome(&answer), expected, "{line}: {}", answer.text());
    };
    check(&a, "PUT /s3/private/of-a", &[], "200").await;
    check(&b, "PUT /s3/private/of-b", &[], "200").await;
    check(&a, "GET /s3/private/of-a", &[], "200").await;
    check(&b, "GET /s3/private/of-a", &[], "404 NoSuchKey").await;
    check(&service, "GET /s3/private/of-a", &[], "200").await;
    check(&b, "PUT /s3/private/of-a", &[], "403 AccessDenied").await;
    // As if there were nothing: what policies do not show is not there.
    check(&b, "DELETE /s3/private/of-a", &[], "204").await;
    check(&a, "GET /s3/private/of-a", &[], "200").await;
    check(&b, "PUT /s3/private/stolen", &[("x-amz-copy-source", "private/of-a")], "404 NoSuchKey").await;
    check(&b, "PUT /s3/mine", &[], "403 AccessDenied").await;
    check(&b, "DELETE /s3/private", &[], "404 NoSuchBucket").await;
    check(&service, "DELETE /s3/private", &[], "409 BucketNotEmpty").await;
    let listed = async |signer: &Signer| {
        let answer = ask(&world, signer, "GET /s3/private?list-type=2", &[], "").await;
        elements(&answer.text(), "Key").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed(&a).await, ["of-a"]);
    assert_eq!(listed(&b).await, ["of-b"]);
    assert_eq!(listed(&service).await, ["of-a", "of-b"]);
    let many = "<Delete><Object><Key>of-a</Key></Object><Object><Key>of-b</Key></Object></Delete>";
    let answer = ask(&world, &b, "POST /s3/private?delete", &[], many).await;
    let text = answer.text();
    assert_eq!((elements(&text, "Key"), element(&text, "Code")), (vec!["of-a", "of-b"], ""), "{text}");
    assert_eq!(listed(&service).await, ["of-a"]);
    // Who sees what is not theirs is told that they may not.
    world.sql("create policy see_all on storage.objects for select to authenticated using (true)").await;
    check(&b, "DELETE /s3/private/of-a", &[], "403 AccessDenied").await;
    let text = ask(&world, &b, "POST /s3/private?delete", &[], many).await.text();
    assert_eq!(elements(element(&text, "Deleted"), "Key"), ["of-b"], "{text}");
    assert_eq!((elements(element(&text, "Error"), "Key"), element(&text, "Code")), (vec!["of-a"], "AccessDenied"));
    assert_eq!(listed(&service).await, ["of-a"]);
}

#[tokio::test]
async fn buckets() {
    let world = world().await;
    let s3 = service(&world);
    let check = async |line: &str, body: &str, expected: &str| -> String {
        let answer = ask(&world, &s3, line, &[], body).await;
        assert_eq!(outcome(&answer), expected, "{line}: {}", answer.text());
        answer.text()
    };
    let configuration =
        "<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>";
    check("PUT /s3/fresh", configuration, "200").await;
    check("PUT /s3/fresh", "", "409 BucketAlreadyExists").await;
    check("PUT /s3/other", "<no xml", "400 MalformedXML").await;
    check("HEAD /s3/fresh", "", "200").await;
    check("HEAD /s3/none", "", "404 NoSuchBucket").await;
    assert!(check("GET /s3/fresh?location", "", "200").await.contains("LocationConstraint xmlns="));
    assert!(check("GET /s3/fresh?versioning", "", "200").await.contains("VersioningConfiguration xmlns="));
    assert_eq!(elements(&check("GET /s3/", "", "200").await, "Name"), ["fresh", "open", "private"]);
    let page = check("GET /s3/?max-buckets=2", "", "200").await;
    assert_eq!((elements(&page, "Name"), element(&page, "ContinuationToken")), (vec!["fresh", "open"], "open"));
    let page = check("GET /s3/?max-buckets=2&continuation-token=open", "", "200").await;
    assert_eq!((elements(&page, "Name"), element(&page, "ContinuationToken")), (vec!["private"], ""));
    check("DELETE /s3/fresh", "", "204").await;
    check("DELETE /s3/fresh", "", "404 NoSuchBucket").await;
    let name = random::hex::<60>();
    check(&format!("PUT /s3/{name}"), "", "400 InvalidBucketName").await;
}

#[tokio::test]
async fn lists_fold_and_page() {
    let world = world().await;
    let s3 = service(&world);
    let keys = ["a", "a/1", "a/2", "a/b/3", "a0", "b/x", "c", "d/"];
    for key in keys {
        assert_eq!(outcome(&ask(&world, &s3, &format!("PUT /s3/private/{key}"), &[], "x").await), "200");
    }
    // Every way to page through gives the same, whatever the size of the pages.
    let check = async |query: &str, expected: &[&str]| {
        for size in 1..=4 {
            let (mut found, mut token, mut pages) = (Vec::new(), String::new(), 0);
            loop {
                let line = format!("GET /s3/private?list-type=2&max-keys={size}&{query}{token}");
                let text = ask(&world, &s3, &line, &[], "").await.text();
                let mut page: Vec<String> =
                    elements(&text, "Contents").iter().map(|c| element(c, "Key").into()).collect();
                page.extend(elements(&text, "CommonPrefixes").iter().map(|c| format!("{}*", element(c, "Prefix"))));
                assert!(page.len() <= size && element(&text, "KeyCount") == page.len().to_string(), "{text}");
                found.extend(page);
                pages += 1;
                assert!(pages < 20, "{query} ends");
                match element(&text, "NextContinuationToken") {
                    "" => break,
                    next => token = format!("&continuation-token={next}"),
                }
            }
            found.sort();
            let mut expected: Vec<&str> = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected, "{query} in pages of {size}");
        }
    };
    check("", &keys).await;
    check("prefix=a", &["a", "a/1", "a/2", "a/b/3", "a0"]).await;
    check("prefix=a/", &["a/1", "a/2", "a/b/3"]).await;
    check("delimiter=/", &["a", "a/*", "a0", "b/*", "c", "d/*"]).await;
    check("delimiter=/&prefix=a/", &["a/1", "a/2", "a/b/*"]).await;
    check("delimiter=/&prefix=a", &["a", "a/*", "a0"]).await;
    check("delimiter=b", &["a", "a/1", "a/2", "a/b*", "a0", "b*", "c", "d/"]).await;
    check("start-after=a/1", &["a/2", "a/b/3", "a0", "b/x", "c", "d/"]).await;
    check("delimiter=/&start-after=a/", &["a0", "b/*", "c", "d/*"]).await;
    check("prefix=none", &[]).await;
    let first = ask(&world, &s3, "GET /s3/private?delimiter=/&max-keys=2&encoding-type=url", &[], "").await.text();
    assert_eq!((element(&first, "NextMarker"), element(&first, "IsTruncated")), ("a/", "true"), "{first}");
    let second = ask(&world, &s3, "GET /s3/private?delimiter=/&max-keys=2&marker=a/", &[], "").await.text();
    assert_eq!(elements(&second, "Key"), ["a0"], "{second}");
    for bad in ["max-keys=x", "encoding-type=x", "list-type=2&continuation-token=%21"] {
        let answer = ask(&world, &s3, &format!("GET /s3/private?{bad}"), &[], "").await;
        assert_eq!(outcome(&answer), "400 InvalidArgument", "{bad}");
    }
}

#[tokio::test]
async fn the_protocol_can_be_switched_off() {
    let world = World::start_with(|project, _| {
        project.storage.features.s3_protocol = Some(base::settings::StorageFeature { enabled: false });
    })
    .await;
    assert_eq!(outcome(&ask(&world, &service(&world), "GET /s3/", &[], "").await), "403 AccessDenied");
}

#[tokio::test]
async fn headers_of_a_content_come_back() {
    let world = world().await;
    let s3 = service(&world);
    let ask = async |line: &str, headers: &[(&str, &str)], body: &str| ask(&world, &s3, line, headers, body).await;
    let sent = [
        ("content-type", "text/css"),
        ("content-encoding", "aws-chunked,gzip"),
        ("content-disposition", "inline; filename=\"a.css\""),
        ("content-language", "de"),
        ("expires", "Wed, 21 Oct 2065 07:28:00 GMT"),
    ];
    assert_eq!(outcome(&ask("PUT /s3/open/a", &sent, "x").await), "200");
    let check = |answer: &Answer, expected: [&str; 4]| {
        let names = ["content-encoding", "content-disposition", "content-language", "expires"];
        assert_eq!(names.map(|name| answer.header(name)), expected);
    };
    let all = ["gzip", sent[2].1, "de", sent[4].1];
    check(&ask("GET /s3/open/a", &[], "").await, all);
    check(&ask("HEAD /s3/open/a", &[], "").await, all);
    // Browsers get them as well.
    check(&world.get(Who::Nobody, "/object/public/open/a").await, all);
    assert_eq!(outcome(&ask("PUT /s3/open/b", &[("x-amz-copy-source", "open/a")], "").await), "200");
    check(&ask("GET /s3/open/b", &[], "").await, all);
    let replace =
        [("x-amz-copy-source", "open/a"), ("x-amz-metadata-directive", "REPLACE"), ("content-language", "fr")];
    assert_eq!(outcome(&ask("PUT /s3/open/b", &replace, "").await), "200");
    check(&ask("GET /s3/open/b", &[], "").await, ["", "", "fr", ""]);
    let named = ask("GET /s3/open/a?response-content-encoding=br&response-content-language=it", &[], "").await;
    check(&named, ["br", sent[2].1, "it", sent[4].1]);
    // What a browser would run is saved, whatever was put there or is asked for.
    let svg = [("content-type", "image/svg+xml"), ("content-disposition", "inline")];
    assert_eq!(outcome(&ask("PUT /s3/open/svg", &svg, "<svg/>").await), "200");
    assert_eq!(ask("GET /s3/open/svg", &[], "").await.header("content-disposition"), "inline");
    assert_eq!(world.get(Who::Nobody, "/object/public/open/svg").await.header("content-disposition"), "attachment");
    for more in ["", "?response-content-disposition=inline", "?response-content-type=image/svg%2Bxml"] {
        let link = s3.link("GET", &format!("/s3/open/svg{more}"), 60);
        let got = world.ask(Who::Nobody, &format!("GET {link}"), &[], Body::empty()).await;
        assert_eq!((got.status.as_u16(), got.header("content-disposition")), (200, "attachment"), "{more}");
    }

    let attributes = [("x-amz-object-attributes", "ETag,ObjectSize, StorageClass,Checksum,ObjectParts")];
    let got = ask("GET /s3/open/a?attributes", &attributes, "").await.text();
    let told = ["ETag", "ObjectSize", "StorageClass", "ObjectParts"].map(|name| element(&got, name));
    assert_eq!(told, ["9dd4e461268c8034f5c8564e155c67a6", "1", "STANDARD", ""], "{got}");
    assert_eq!(outcome(&ask("GET /s3/open/a?attributes", &[], "").await), "400 InvalidArgument");
    assert_eq!(outcome(&ask("GET /s3/open/none?attributes", &attributes, "").await), "404 NoSuchKey");
}

#[tokio::test]
async fn changes_under_a_condition() {
    let world = world().await;
    let s3 = service(&world);
    let check = async |line: &str, headers: &[(&str, &str)], body: &str, expected: &str| {
        let answer = ask(&world, &s3, line, headers, body).await;
        assert_eq!(outcome(&answer), expected, "{line} {headers:?}");
    };
    let (one, two) = ("\"f97c5d29941bfb1b2fdab0874906ab82\"", "\"b8a9f715dbb64fd5c56e7783c6820a61\"");
    check("PUT /s3/private/a", &[("if-match", one)], "one", "404 NoSuchKey").await;
    check("PUT /s3/private/a", &[("if-match", "*")], "one", "404 NoSuchKey").await;
    check("PUT /s3/private/a", &[("if-none-match", "*")], "one", "200").await;
    check("PUT /s3/private/a", &[("if-match", two)], "two", "412 PreconditionFailed").await;
    check("PUT /s3/private/a", &[("if-match", one), ("if-none-match", "*")], "two", "400 InvalidRequest").await;
    check("PUT /s3/private/a", &[("if-none-match", one)], "two", "501 NotImplemented").await;
    check("PUT /s3/private/a", &[("if-match", "\"a\", \"b\"")], "two", "400 InvalidArgument").await;
    check("PUT /s3/private/a", &[("if-match", one)], "two", "200").await;
    check("PUT /s3/private/a", &[("if-match", &two[1..33])], "two", "200").await;
    check("PUT /s3/private/a", &[("if-match", "*")], "two", "200").await;
    // Large contents are asked for before they come.
    let large = "x".repeat(100_000);
    check("PUT /s3/private/a", &[("if-match", one)], &large, "412 PreconditionFailed").await;
    let copy = ("x-amz-copy-source", "private/a");
    check("PUT /s3/private/b", &[copy, ("if-match", two)], "", "404 NoSuchKey").await;
    check("PUT /s3/private/b", &[copy], "", "200").await;
    check("PUT /s3/private/b", &[copy, ("if-match", one)], "", "412 PreconditionFailed").await;
    check("PUT /s3/private/b", &[copy, ("if-match", two)], "", "200").await;
    check("DELETE /s3/private/a", &[("if-match", one)], "", "412 PreconditionFailed").await;
    check("DELETE /s3/private/a", &[("if-match", two)], "", "204").await;
    check("DELETE /s3/private/a", &[("if-match", two)], "", "204").await;
    check("DELETE /s3/private/a", &[("if-match", "*")], "", "412 PreconditionFailed").await;
    let list = "<Delete><Object><Key>b</Key><ETag>x</ETag></Object></Delete>";
    check("POST /s3/private?delete", &[], list, "501 NotImplemented").await;
    // Of many that expect the same, one succeeds.
    let expected = ("if-match", two);
    let tries = (0..8).map(|n| {
        let (world, s3) = (&world, &s3);
        async move { ask(world, s3, "PUT /s3/private/b", &[expected], format!("try {n}")).await.status.as_u16() }
    });
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
}
