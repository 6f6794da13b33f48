use base::jwt::{JwtKey, JwtKeys, sign_hs256};
use base::project::{ApiKey, DatabaseTarget};
use base::{ProjectStatus, Secret};
use serde_json::Value;

use super::*;

const NOW: i64 = 1_700_000_000;
const SECRET: &[u8] = b"the secret of the first project!";

fn project(publishable: &str, secret: &str) -> Project {
    let key = |id, kind, text: &str| ApiKey { id, kind, hash: api_key::hash(text) };
    Project {
        project_ref: ProjectRef::parse("proj_abc123").unwrap(),
        status: ProjectStatus::Active,
        revision: 1,
        database: DatabaseTarget {
            host: "127.0.0.1".into(),
            port: 5432,
            database: "proj_abc123".into(),
            user: "proj_abc123_authenticator".into(),
            password: Secret::new("x".into()),
        },
        jwt_keys: JwtKeys::new(vec![JwtKey::secret(SECRET)]),
        api_keys: vec![key(1, ApiKeyKind::Publishable, publishable), key(2, ApiKeyKind::Secret, secret)],
        signing: base::signing::SigningKeys::default(),
        auth: std::sync::Arc::default(),
        legacy_keys_enabled: true,
        data_api: base::settings::DataApiSettings {
            jwt_roles: vec!["editor".into(), "supabase_auth_admin".into()],
            ..Default::default()
        },
        limits: Default::default(),
        storage: base::settings::StorageSettings::default(),
        s3: base::project::S3Keys::default(),
        custom_domains: Vec::new(),
    }
}

struct Fixture {
    check: ApiKeyCheck,
    project: Project,
    publishable: String,
    secret: String,
}

fn fixture() -> Fixture {
    let publishable = api_key::generate(ApiKeyKind::Publishable).expose().clone();
    let secret = api_key::generate(ApiKeyKind::Secret).expose().clone();
    Fixture { check: ApiKeyCheck::new(), project: project(&publishable, &secret), publishable, secret }
}

fn jwt(claims: Value) -> String {
    sign_hs256(SECRET, &claims)
}

fn headers(api_key: Option<&str>, bearer: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(key) = api_key {
        headers.insert("apikey", key.parse().unwrap());
    }
    if let Some(token) = bearer {
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    }
    headers
}

impl Fixture {
    /// Role and credential, asked twice: the second answer comes from the cache.
    fn ask(&self, api_key: Option<&str>, bearer: Option<&str>) -> Result<(String, Credential), KeyError> {
        let ask = || {
            let caller = self.check.authenticate(&self.project, &headers(api_key, bearer), None, NOW)?;
            let claims: Value = serde_json::from_str(&caller.claims).unwrap();
            assert_eq!(claims["role"], caller.role.as_str());
            Ok((caller.role.to_string(), caller.credential))
        };
        let first = ask();
        assert_eq!(first, ask());
        first
    }
}

#[test]
fn keys_and_tokens_decide_the_role() {
    let f = fixture();
    let anon = jwt(json!({"role": "anon", "ref": "proj_abc123", "exp": NOW + 10}));
    let service = jwt(json!({"role": "service_role", "ref": "proj_abc123"}));
    let user = jwt(json!({"role": "authenticated", "sub": "u", "project_id": "proj_abc123", "exp": NOW + 10}));
    let editor = jwt(json!({"role": "editor", "sub": "u"}));
    let (p, s) = (f.publishable.as_str(), f.secret.as_str());
    let ok = |role: &str, credential| Ok((role.to_owned(), credential));
    use Credential::{PublishableKey, SecretKey, UserToken};
    assert_eq!(f.ask(Some(p), None), ok("anon", PublishableKey));
    assert_eq!(f.ask(Some(p), Some(p)), ok("anon", PublishableKey));
    assert_eq!(f.ask(None, Some(p)), ok("anon", PublishableKey));
    assert_eq!(f.ask(Some(s), None), ok("service_role", SecretKey));
    assert_eq!(f.ask(Some(&anon), Some(&anon)), ok("anon", PublishableKey));
    assert_eq!(f.ask(Some(&service), Some(&service)), ok("service_role", SecretKey));
    assert_eq!(f.ask(None, Some(&service)), ok("service_role", SecretKey));
    assert_eq!(f.ask(Some(p), Some(&user)), ok("authenticated", UserToken));
    assert_eq!(f.ask(Some(s), Some(&user)), ok("authenticated", UserToken));
    assert_eq!(f.ask(Some(&anon), Some(&editor)), ok("editor", UserToken));
    assert_eq!(f.ask(None, None), Err(KeyError::Missing));
    assert_eq!(f.ask(Some(""), None), Err(KeyError::Missing));
    assert_eq!(f.ask(Some(p), Some("")), Err(KeyError::Empty));
    assert_eq!(f.ask(None, Some(&user)), Err(KeyError::UserTokenAlone));
    assert_eq!(f.ask(Some(&user), Some(&user)), Err(KeyError::Unknown));
    assert_eq!(f.ask(Some("sb_secret_nonsense"), None), Err(KeyError::Unknown));
    assert_eq!(f.ask(Some("sb_secret_nonsense"), Some(&user)), Err(KeyError::Unknown));
    assert_eq!(f.ask(Some("nonsense"), None), Err(KeyError::Jwt(JwtError::Parts(1))));
}

#[test]
fn bad_tokens_are_refused() {
    let f = fixture();
    let check = |claims: Value, expected: KeyError| {
        let token = jwt(claims.clone());
        assert_eq!(f.ask(Some(&f.publishable), Some(&token)), Err(expected), "{claims}");
    };
    check(json!({"role": "authenticated", "exp": NOW - 31}), KeyError::Jwt(JwtError::Expired));
    check(json!({"role": "authenticated", "nbf": NOW + 31}), KeyError::Jwt(JwtError::NotYetValid));
    check(json!({"role": "authenticated", "project_id": "proj_other1"}), KeyError::WrongProject);
    check(json!({"role": "authenticated", "ref": "proj_other1"}), KeyError::WrongProject);
    check(json!({"role": "authenticated", "ref": 7}), KeyError::WrongProject);
    check(json!({"sub": "u"}), KeyError::Role);
    check(json!({"role": 1}), KeyError::Role);
    check(json!({"role": "postgres"}), KeyError::Role);
    check(json!({"role": "proj_abc123"}), KeyError::Role);
    // Listed by the project's owner, and refused all the same.
    check(json!({"role": "supabase_auth_admin"}), KeyError::Role);
    let foreign = sign_hs256(b"the secret of the other project!", &json!({"role": "service_role"}));
    assert_eq!(f.ask(Some(&foreign), Some(&foreign)), Err(KeyError::Jwt(JwtError::Signature)));
    assert_eq!(f.ask(Some(&f.publishable), Some(&foreign)), Err(KeyError::Jwt(JwtError::Signature)));
    let none = "eyJhbGciOiJub25lIn0.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.";
    assert_eq!(f.ask(Some(none), None), Err(KeyError::Jwt(JwtError::Unsecured)));
    assert_eq!(f.ask(Some(&f.publishable), Some(none)), Err(KeyError::Jwt(JwtError::Unsecured)));
}

#[test]
fn a_remembered_token_still_expires() {
    let f = fixture();
    let token = jwt(json!({"role": "anon", "exp": NOW + 10}));
    let at = |now| f.check.authenticate(&f.project, &headers(Some(&token), None), None, now).map(|c| c.credential);
    assert_eq!(at(NOW), Ok(Credential::PublishableKey));
    assert_eq!(at(NOW + 40), Ok(Credential::PublishableKey));
    assert_eq!(at(NOW + 41), Err(KeyError::Jwt(JwtError::Expired)));
}

#[test]
fn a_revoked_key_is_not_remembered() {
    let mut f = fixture();
    let key = f.publishable.clone();
    assert!(f.ask(Some(&key), None).is_ok());
    f.project.api_keys.clear();
    f.project.revision = 2;
    assert_eq!(f.ask(Some(&key), None), Err(KeyError::Unknown));
    let legacy = jwt(json!({"role": "anon"}));
    assert!(f.ask(Some(&legacy), None).is_ok());
    f.project.legacy_keys_enabled = false;
    f.project.revision = 3;
    assert_eq!(f.ask(Some(&legacy), None), Err(KeyError::LegacyKeysDisabled));
}

#[test]
fn a_token_of_one_project_is_nothing_in_another() {
    let f = fixture();
    let legacy = jwt(json!({"role": "service_role", "ref": "proj_abc123"}));
    assert!(f.ask(Some(&legacy), None).is_ok());
    let mut other = project("sb_publishable_other", "sb_secret_other");
    other.project_ref = ProjectRef::parse("proj_other1").unwrap();
    let ask = |key: &str| f.check.authenticate(&other, &headers(Some(key), None), None, NOW).map(|c| c.credential);
    // Even with the same secret, which never happens.
    assert_eq!(ask(&legacy), Err(KeyError::WrongProject));
    assert_eq!(ask(&f.secret), Err(KeyError::Unknown));
}

#[test]
fn the_key_may_come_in_the_query() {
    let f = fixture();
    let query = format!("vsn=2.0.0&apikey={}", f.publishable);
    let caller = f.check.authenticate(&f.project, &HeaderMap::new(), Some(&query), NOW).unwrap();
    assert_eq!(caller.credential, Credential::PublishableKey);
    assert_eq!(query_without_api_key(&query), "vsn=2.0.0");
    assert_eq!(query_without_api_key("a=1&b=apikey=2"), "a=1&b=apikey=2");
    assert_eq!(query_without_api_key("apikey=1"), "");
}

#[test]
fn last_uses_are_told_once() {
    let f = fixture();
    f.ask(Some(&f.secret), None).unwrap();
    assert_eq!(f.check.take_last_uses(), [(2, NOW)]);
    assert_eq!(f.check.take_last_uses(), []);
    f.check.authenticate(&f.project, &headers(Some(&f.secret), None), None, NOW + 5).unwrap();
    assert_eq!(f.check.take_last_uses(), [(2, NOW + 5)]);
}

#[test]
fn other_schemes_of_authorization_are_ignored() {
    let f = fixture();
    let mut sent = headers(Some(&f.publishable), None);
    sent.insert(header::AUTHORIZATION, "Basic dTpw".parse().unwrap());
    assert!(f.check.authenticate(&f.project, &sent, None, NOW).is_ok());
    sent.insert(header::AUTHORIZATION, "bearer  ".parse().unwrap());
    assert_eq!(f.check.authenticate(&f.project, &sent, None, NOW).map(|c| c.role), Err(KeyError::Empty));
}
