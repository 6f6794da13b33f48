//! Access tokens signed with key pairs.

use base::jwt::{JwtKey, JwtKeys};
use base::signing::{KeyStatus, SigningKeys, StoredKey};

use super::server::SECRET;
use super::*;

pub(super) fn use_keys(server: &mut Server, stored: &[StoredKey]) {
    let mut project = base::Project::clone(&server.project);
    project.signing = SigningKeys::new(SECRET.as_bytes(), stored).unwrap();
    let public = project.signing.public_jwks().iter().map(|jwk| JwtKey::from_jwk(jwk).unwrap().unwrap());
    project.jwt_keys = JwtKeys::new(public.chain([JwtKey::secret(SECRET.as_bytes())]).collect());
    project.revision += 1;
    server.project = std::sync::Arc::new(project);
}

#[tokio::test]
async fn keys_follow_each_other_with_overlap() {
    let mut server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let before = server.sign_in(ANN, PASSWORD).await.expect(200);
    let mut key = StoredKey::generate(KeyStatus::Standby, 0);
    use_keys(&mut server, std::slice::from_ref(&key));
    let published = server.call("GET", "/.well-known/jwks.json", Key::Nothing, Value::Null).await.expect(200);
    assert_eq!(published.body["keys"][0]["kid"], key.kid.as_str());
    assert!(published.body["keys"][0].get("d").is_none());
    key.status = KeyStatus::InUse;
    use_keys(&mut server, std::slice::from_ref(&key));
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    for token in [before.text("access_token"), session.text("access_token")] {
        server.call("GET", "/user", Key::User(token), Value::Null).await.expect(200);
    }
    let header = session.text("access_token").split('.').next().unwrap().to_owned();
    let header: Value = {
        use base64::Engine as _;
        serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
    };
    assert_eq!(header, json!({ "alg": "ES256", "kid": key.kid, "typ": "JWT" }));
    key.status = KeyStatus::PreviouslyUsed;
    let next = StoredKey::generate(KeyStatus::InUse, 0);
    use_keys(&mut server, &[key, next.clone()]);
    server.call("GET", "/user", Key::User(session.text("access_token")), Value::Null).await.expect(200);
    use_keys(&mut server, &[next]);
    let ended = server.call("GET", "/user", Key::User(session.text("access_token")), Value::Null).await;
    assert_eq!((ended.status, ended.code()), (401, "bad_jwt"));
    // The session outlives the key.
    server.refresh(session.text("refresh_token")).await.expect(200);
}
