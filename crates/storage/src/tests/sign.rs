use axum::body::Body;
use base::jwt::sign_hs256;
use base::signing::SigningKeys;
use serde_json::{Value, json};

use super::{SECRET, USER_A, USER_B, Who, World};
use crate::sign::PURPOSE;

async fn signed(world: &World, path: &str, body: Value) -> String {
    let answer = world.post(Who::User(USER_A), &format!("/object/sign/{path}"), body).await;
    assert_eq!(answer.outcome(), "200", "{}", answer.text());
    answer.json()["signedURL"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_link_reads_one_object_until_its_time() {
    let world = World::with_buckets().await;
    let a = Who::User(USER_A);
    world.put(a, "private/a/b.txt", "content").await;
    world.put(a, "private/other", "secret").await;
    let url = signed(&world, "private/a/b.txt", json!({"expiresIn": 60})).await;
    assert!(url.starts_with("/object/sign/private/a/b.txt?token="), "{url}");
    let read = world.get(Who::Nobody, &url).await;
    assert_eq!((&*read.text(), read.header("cache-control")), ("content", ""));
    assert!(read.header("expires").ends_with("GMT"));
    assert_eq!(
        world.get(Who::Nobody, &format!("{url}&download=x.txt")).await.header("content-disposition"),
        "attachment; filename=x.txt; filename*=UTF-8''x.txt"
    );
    let head = world.ask(Who::Nobody, &format!("HEAD {url}"), &[], Body::empty()).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));

    let token = url.split_once("token=").unwrap().1;
    let check = async |path: &str, token: &str, expected: &str| {
        let answer = world.get(Who::Nobody, &format!("/object/sign/{path}?token={token}")).await;
        assert_eq!(answer.outcome(), expected, "{path} {token}");
    };
    check("private/other", token, "400 400 InvalidSignature").await;
    check("open/a/b.txt", token, "400 400 InvalidSignature").await;
    check("private/a/b.txt", "", "400 400 InvalidJWT").await;
    check("private/a/b.txt", &token[1..], "400 400 InvalidJWT").await;
    check("private/a/b.txt", &format!("{}x", &token[..token.len() - 1]), "400 400 InvalidJWT").await;
    let claims = json!({"url": "private/a/b.txt", "scope": "download", "exp": 9_999_999_999_i64});
    check("private/a/b.txt", &sign_hs256(SECRET, &claims), "400 400 InvalidJWT").await;
    let key = |secret: &[u8]| SigningKeys::new(secret, &[]).unwrap().derive(PURPOSE);
    check("private/a/b.txt", &sign_hs256(&key(b"the old secret"), &claims), "400 400 InvalidJWT").await;
    let unsigned = "eyJhbGciOiJub25lIn0.eyJ1cmwiOiJwcml2YXRlL2EvYi50eHQiLCJzY29wZSI6ImRvd25sb2FkIn0.";
    check("private/a/b.txt", unsigned, "400 400 InvalidJWT").await;
    let own_key = key(SECRET);
    check("private/a/b.txt", &sign_hs256(&own_key, &claims), "200").await;
    let upload = json!({"url": "private/a/b.txt", "scope": "upload", "exp": 9_999_999_999_i64});
    check("private/a/b.txt", &sign_hs256(&own_key, &upload), "400 400 InvalidSignature").await;
    let endless = json!({"url": "private/a/b.txt", "scope": "download"});
    check("private/a/b.txt", &sign_hs256(&own_key, &endless), "400 400 InvalidJWT").await;
    assert_eq!(world.get(Who::Nobody, "/object/sign/private/a/b.txt").await.outcome(), "400 400 InvalidRequest");

    world.clock.advance(61);
    check("private/a/b.txt", token, "400 400 InvalidJWT").await;
}

#[tokio::test]
async fn only_who_may_read_makes_links() {
    let world = World::with_buckets().await;
    world.put(Who::User(USER_A), "private/x", "content").await;
    let sign = async |who: Who, body: Value| world.post(who, "/object/sign/private/x", body).await.outcome();
    for who in [Who::User(USER_B), Who::Anon, Who::Nobody] {
        assert_eq!(sign(who, json!({"expiresIn": 60})).await, "400 404 not_found", "{who:?}");
    }
    assert_eq!(sign(Who::User(USER_A), json!({"expiresIn": "60"})).await, "200", "Python sends a text");
    assert_eq!(sign(Who::User(USER_A), json!({})).await, "200", "the server's own time");
    for bad in [json!(0), json!(-1), json!("x"), json!(1e30), json!(null), json!([])] {
        let outcome = sign(Who::User(USER_A), json!({"expiresIn": bad})).await;
        assert!(outcome == "400 400 InvalidRequest" || bad.is_null(), "{bad}: {outcome}");
    }
    let many = json!({"expiresIn": 60, "paths": ["x", "missing", "../x"]});
    let list = world.post(Who::User(USER_A), "/object/sign/private", many.clone()).await.json();
    assert_eq!(list[0]["error"], json!(null));
    assert_eq!(world.get(Who::Nobody, list[0]["signedURL"].as_str().unwrap()).await.text(), "content");
    for at in [1, 2] {
        assert_eq!(list[at]["signedURL"], json!(null));
        assert!(list[at]["error"].is_string());
    }
    let list = world.post(Who::User(USER_B), "/object/sign/private", many).await.json();
    assert!(list.as_array().unwrap().iter().all(|entry| entry["signedURL"].is_null()));
}

#[tokio::test]
async fn links_for_uploads() {
    let world = World::with_buckets().await;
    let a = Who::User(USER_A);
    let make = async |who: Who, path: &str, upsert: bool| {
        let headers: &[(&str, &str)] = if upsert { &[("x-upsert", "true")] } else { &[] };
        world.ask(who, &format!("POST /object/upload/sign/{path}"), headers, "{}").await
    };
    assert_eq!(make(Who::Anon, "private/x", false).await.outcome(), "400 403 Unauthorized");
    assert_eq!(make(a, "nowhere/x", false).await.outcome(), "400 404 Bucket not found");
    let answer = make(a, "private/x", false).await.json();
    let url = answer["url"].as_str().unwrap();
    assert_eq!(url, format!("/object/upload/sign/private/x?token={}", answer["token"].as_str().unwrap()));
    let put = async |url: &str, body: &'static str| {
        world.ask(Who::Nobody, &format!("PUT {url}"), &[("content-type", "text/plain")], body).await
    };
    assert_eq!(put(&url.replace("private/x", "private/y"), "x").await.outcome(), "400 400 InvalidSignature");
    assert_eq!(put(&url.replace("/upload/sign/", "/upload/sign/open/../"), "x").await.outcome(), "400 400 InvalidKey");
    let stored = put(url, "by link").await;
    assert_eq!((stored.outcome(), stored.json()), ("200".to_owned(), json!({"Key": "private/x"})));
    assert_eq!(world.get(a, "/object/private/x").await.text(), "by link", "it is the maker's");
    assert_eq!(put(url, "again").await.outcome(), "400 409 Duplicate");
    assert_eq!(make(a, "private/x", false).await.outcome(), "400 409 Duplicate");
    let upsert = make(a, "private/x", true).await.json();
    assert_eq!(put(upsert["url"].as_str().unwrap(), "again").await.outcome(), "200");
    assert_eq!(world.get(a, "/object/private/x").await.text(), "again");
    let download = signed(&world, "private/x", json!({"expiresIn": 60})).await;
    let crossed = format!("/object/upload/sign/private/x?{}", download.split_once('?').unwrap().1);
    assert_eq!(put(&crossed, "crossed").await.outcome(), "400 400 InvalidSignature");
    world.clock.advance(2 * 3600 + 1);
    assert_eq!(put(upsert["url"].as_str().unwrap(), "late").await.outcome(), "400 400 InvalidJWT");
}
