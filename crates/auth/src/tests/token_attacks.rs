//! Access tokens that nobody here has issued (acceptance 4): each trick is a test of its own.

use base::jwt::sign_hs256;
use base::signing::{KeyStatus, StoredKey};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as B64};
use ring::hmac;

use super::server::SECRET;
use super::tokens::use_keys;
use super::*;

const NOBODY: &str = "00000000-0000-4000-8000-00000000000f";

fn signed(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", B64.encode(tag))
}

/// A user's session, and the claims of its token, which is good.
async fn session() -> (Server, Value) {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let claims = Value::Object(server.claims(session.text("access_token")));
    // What is changed below is all that is wrong: the same claims with the project's secret are a token.
    let good = signed(SECRET.as_bytes(), &json!({ "alg": "HS256" }), &claims);
    server.call("GET", "/user", Key::User(&good), Value::Null).await.expect(200);
    (server, claims)
}

/// Nothing is opened by a token, and nothing ends.
async fn check_closed(server: &Server, what: &str, token: &str) {
    for (method, path) in [
        ("GET", "/user"),
        ("PUT", "/user"),
        ("POST", "/logout"),
        ("GET", "/reauthenticate"),
        ("POST", "/factors"),
        ("GET", "/admin/users"),
        ("POST", "/admin/generate_link"),
    ] {
        let answer = server.call(method, path, Key::User(token), json!({ "data": { "x": 1 } })).await;
        assert!((400..404).contains(&answer.status), "{what}: {method} {path} {} {}", answer.status, answer.body);
    }
    assert_eq!(server.count("select count(*) from auth.sessions").await, 1, "{what}");
}

#[tokio::test]
async fn a_token_without_a_signature_opens_nothing() {
    let (server, claims) = session().await;
    let message =
        |alg: &str| format!("{}.{}", B64.encode(json!({ "alg": alg }).to_string()), B64.encode(claims.to_string()));
    for alg in ["none", "None", "nOnE", "NONE", "", "HS256"] {
        check_closed(&server, alg, &format!("{}.", message(alg))).await;
        check_closed(&server, alg, &format!("{}.AAAA", message(alg))).await;
        check_closed(&server, alg, &message(alg)).await;
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let (mut server, claims) = session().await;
    let key = StoredKey::generate(KeyStatus::InUse, 0);
    use_keys(&mut server, std::slice::from_ref(&key));
    let jwks = server.call("GET", "/.well-known/jwks.json", Key::Nothing, Value::Null).await.expect(200);
    let jwk = jwks.body["keys"][0].clone();
    let point = |name: &str| B64.decode(jwk[name].as_str().unwrap()).unwrap();
    let raw = [vec![4], point("x"), point("y")].concat();
    // SubjectPublicKeyInfo of a point of P-256.
    let der = [
        &[0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08][..],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00],
        &raw,
    ]
    .concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(&der));
    for (what, secret) in [
        ("point", raw.clone()),
        ("DER", der),
        ("PEM", pem.into_bytes()),
        ("JWK", jwk.to_string().into_bytes()),
        ("x", point("x")),
    ] {
        for header in [
            json!({ "alg": "HS256" }),
            json!({ "alg": "HS256", "kid": key.kid }),
            json!({ "alg": "ES256", "kid": key.kid }),
        ] {
            check_closed(&server, what, &signed(&secret, &header, &claims)).await;
        }
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_the_keys_opens_nothing() {
    let (server, claims) = session().await;
    for alg in ["ES256", "RS256", "PS256", "EdDSA", "HS384", "HS512", "hs256", "dir"] {
        check_closed(&server, alg, &signed(SECRET.as_bytes(), &json!({ "alg": alg }), &claims)).await;
    }
    let critical = signed(SECRET.as_bytes(), &json!({ "alg": "HS256", "crit": ["exp"] }), &claims);
    check_closed(&server, "critical extensions", &critical).await;
}

#[tokio::test]
async fn a_header_does_not_choose_the_key() {
    let (server, claims) = session().await;
    for (what, secret, header) in [
        ("a key of their own", &b"x"[..], json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": "eA" } })),
        ("a file that is empty", b"", json!({ "alg": "HS256", "kid": "../../../../dev/null" })),
        ("a query", b"x", json!({ "alg": "HS256", "kid": "' union select 'x" })),
        ("a number", b"x", json!({ "alg": "HS256", "kid": 0 })),
        ("somebody's list of keys", b"x", json!({ "alg": "HS256", "jku": "https://evil.example/jwks.json" })),
        ("somebody's certificate", b"x", json!({ "alg": "HS256", "x5u": "https://evil.example/a.pem" })),
        ("an empty secret", b"", json!({ "alg": "HS256" })),
    ] {
        check_closed(&server, what, &signed(secret, &header, &claims)).await;
    }
}

#[tokio::test]
async fn a_token_of_another_project_opens_nothing() {
    let (server, claims) = session().await;
    let foreign = sign_hs256(b"the secret of another project, long enough", &claims);
    check_closed(&server, "another secret", &foreign).await;
    for (name, value) in [
        // Two projects with one secret are still two.
        ("project_id", json!("proj_other")),
        ("project_id", json!(["proj_other", "proj_authtest"])),
        ("aud", json!("other")),
        ("aud", json!(["other"])),
    ] {
        let mut claims = claims.clone();
        claims[name] = value;
        check_closed(&server, name, &signed(SECRET.as_bytes(), &json!({ "alg": "HS256" }), &claims)).await;
    }
}

#[tokio::test]
async fn a_token_out_of_its_time_opens_nothing() {
    let (server, claims) = session().await;
    let now = server.clock.unix_seconds();
    for (name, value) in
        [("exp", json!(now - 100)), ("exp", json!("never")), ("exp", json!(0)), ("nbf", json!(now + 100))]
    {
        let mut claims = claims.clone();
        claims[name] = value;
        check_closed(&server, name, &signed(SECRET.as_bytes(), &json!({ "alg": "HS256" }), &claims)).await;
    }
}

#[tokio::test]
async fn a_token_about_somebody_or_something_else_opens_nothing() {
    let (server, claims) = session().await;
    for (name, value) in [
        ("role", json!("supabase_auth_admin")),
        ("role", json!("postgres")),
        ("sub", json!(NOBODY)),
        ("sub", json!("' or true --")),
        ("sub", json!(null)),
        ("session_id", json!(NOBODY)),
        ("session_id", json!("' or true --")),
    ] {
        let mut claims = claims.clone();
        claims[name] = value.clone();
        check_closed(
            &server,
            &format!("{name} {value}"),
            &signed(SECRET.as_bytes(), &json!({ "alg": "HS256" }), &claims),
        )
        .await;
    }
    for garbage in ["a.b.c", "..", "eyJ", "", "a.b.c.d.e"] {
        check_closed(&server, garbage, garbage).await;
    }
}

#[tokio::test]
async fn a_session_of_somebody_else_is_none() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let bob = server.user("bob@example.org", PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let mut claims = server.claims(session.text("access_token"));
    claims.insert("sub".to_owned(), bob["id"].clone());
    let mixed = sign_hs256(SECRET.as_bytes(), &Value::Object(claims));
    let answer = server.call("GET", "/user", Key::User(&mixed), Value::Null).await;
    assert_eq!((answer.status, answer.code()), (403, "session_not_found"));
}
