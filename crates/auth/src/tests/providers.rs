//! Sign-in at providers, against a real OpenID provider on loopback.

use base::auth_settings::ProviderSettings;
use base::{AuthSettings, Secret};
use serde_json::{Value, json};
use test_support::{CLIENT_ID, CLIENT_SECRET, OidcProvider};

use super::server::{Answer, Key, Server};

pub(super) const VERIFIER: &str = "a verifier of a client that is at least forty-three characters long";

pub(super) fn challenge() -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(base::digest::sha256(VERIFIER.as_bytes()))
}

/// A service with `keycloak` at a provider of the test's own.
pub(super) async fn server(change: impl FnOnce(&mut AuthSettings)) -> (Server, OidcProvider) {
    let provider = OidcProvider::start().await;
    let url = provider.issuer();
    let server = Server::with(move |settings| {
        let own = ProviderSettings {
            enabled: true,
            client_id: Some(CLIENT_ID.to_owned()),
            secret: Some(Secret::new(CLIENT_SECRET.to_owned())),
            url: Some(url),
            ..ProviderSettings::default()
        };
        settings.providers.insert("keycloak".to_owned(), own);
        settings.security_manual_linking_enabled = true;
        change(settings);
    })
    .await;
    (server, provider)
}

/// What a browser keeps between two requests.
#[derive(Default)]
pub(super) struct Browser {
    pub(super) cookies: String,
}

impl Browser {
    /// Begins at `/authorize` and comes back from the provider: the path and query of the callback.
    pub(super) async fn go(&mut self, server: &Server, provider: &OidcProvider, more: &str) -> String {
        let path = format!("/authorize?provider=keycloak&redirect_to=https://app.example.org/in{more}");
        let answer = server.call("GET", &path, Key::Nothing, Value::Null).await.expect(303);
        self.keep(&answer);
        let back = provider.visit(answer.location()).await;
        back.strip_prefix("https://base.example/p/proj_authtest/auth/v1").unwrap().to_owned()
    }

    fn keep(&mut self, answer: &Answer) {
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(
                cookie.contains("HttpOnly") && cookie.contains("Secure") && cookie.contains("SameSite=Lax"),
                "{cookie}"
            );
            self.cookies = cookie.split(';').next().unwrap().to_owned();
        }
    }

    /// Follows the callback; the URL of the application.
    pub(super) async fn callback(&self, server: &Server, path: &str) -> String {
        let headers = [("cookie", self.cookies.as_str())];
        let answer = server.call_with("GET", path, Key::Nothing, &headers, Value::Null).await.expect(303);
        answer.location().to_owned()
    }
}

/// The parameters of a URL's fragment or query.
pub(super) fn param(url: &str, name: &str) -> Option<String> {
    let pairs = url.split(['#', '?', '&']).skip(1).filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    url::form_urlencoded::parse(format!("x={value}").as_bytes()).next().map(|(_, value)| value.into_owned())
}

pub(super) async fn user_of(server: &Server, access_token: &str) -> Value {
    server.call("GET", "/user", Key::User(access_token), Value::Null).await.expect(200).body
}

#[tokio::test]
async fn the_implicit_flow_ends_with_a_session_in_the_fragment() {
    let (server, provider) = server(|_| {}).await;
    let mut browser = Browser::default();
    let callback = browser.go(&server, &provider, "&prompt=consent&scopes=offline_access").await;
    let url = browser.callback(&server, &callback).await;
    assert!(url.starts_with("https://app.example.org/in#"), "{url}");
    let token = param(&url, "access_token").unwrap();
    assert_eq!(param(&url, "provider_token").unwrap(), "access");
    assert_eq!(param(&url, "provider_refresh_token").unwrap(), "refresh");
    let user = user_of(&server, &token).await;
    assert_eq!((&user["email"], &user["user_metadata"]["full_name"]), (&json!("ann@example.org"), &json!("Ann")));
    assert!(user["email_confirmed_at"].is_string());
    assert_eq!(user["app_metadata"]["providers"], json!(["keycloak"]));
    assert_eq!(user["identities"][0]["identity_data"]["sub"], "1");
    assert_eq!(server.claims(&token)["amr"][0]["method"], "oauth");
    // The next sign-in is the same user's, with what the provider says now.
    provider.set_user(json!({"sub": "1", "email": "ann@example.org", "email_verified": true, "name": "Ann Lee"}));
    let callback = browser.go(&server, &provider, "").await;
    let url = browser.callback(&server, &callback).await;
    let again = user_of(&server, &param(&url, "access_token").unwrap()).await;
    assert_eq!((&again["id"], &again["user_metadata"]["name"]), (&user["id"], &json!("Ann Lee")));
    assert_eq!(server.count("select count(*) from auth.users").await, 1);
    assert_eq!(server.count("select count(*) from auth.flow_state").await, 0);
}

#[tokio::test]
async fn the_pkce_flow_ends_with_a_code_that_only_the_verifier_opens() {
    let (server, provider) = server(|_| {}).await;
    let mut browser = Browser::default();
    let more = format!("&code_challenge={}&code_challenge_method=s256", challenge());
    let callback = browser.go(&server, &provider, &more).await;
    assert_eq!(browser.cookies, "", "a flow with a verifier needs no cookie");
    let url = browser.callback(&server, &callback).await;
    let code = param(&url, "code").unwrap();
    assert!(!url.contains('#') && param(&url, "access_token").is_none());
    let exchange = async |verifier: &str| {
        let body = json!({ "auth_code": code, "code_verifier": verifier });
        server.call("POST", "/token?grant_type=pkce", Key::Anon, body).await
    };
    assert_eq!(exchange(&VERIFIER.replace('a', "b")).await.expect(400).code(), "bad_code_verifier");
    let session = exchange(VERIFIER).await.expect(200);
    assert_eq!((session.text("provider_token"), session.text("provider_refresh_token")), ("access", "refresh"));
    assert_eq!(session.body["user"]["email"], "ann@example.org");
    assert_eq!(exchange(VERIFIER).await.expect(404).code(), "flow_state_not_found");
}

#[tokio::test]
async fn a_url_instead_of_a_redirect() {
    let (server, _provider) = server(|_| {}).await;
    let answer =
        server.call("GET", "/authorize?provider=keycloak&skip_http_redirect=true", Key::Nothing, Value::Null).await;
    let url = answer.expect(200).text("url").to_owned();
    for expected in ["code_challenge_method=S256", "nonce=", "scope=openid+email+profile", "response_type=code"] {
        assert!(url.contains(expected), "{url}");
    }
}

#[tokio::test]
async fn id_tokens_are_signed_in_with() {
    let (server, provider) = server(|settings| {
        let own = settings.providers.get_mut("keycloak").unwrap();
        own.additional_client_ids = Some("ios-app, android-app".to_owned());
    })
    .await;
    let nonce = base::digest::sha256_hex(b"a nonce");
    let claims = |more: Value| {
        let mut claims = json!({"sub": "7", "email": "bob@example.org", "email_verified": true, "nonce": nonce});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let sign_in = async |token: String, nonce: &str| {
        let body = json!({ "provider": "keycloak", "id_token": token, "nonce": nonce });
        server.call("POST", "/token?grant_type=id_token", Key::Anon, body).await
    };
    let session = sign_in(provider.id_token(claims(json!({}))), "a nonce").await.expect(200);
    assert_eq!(session.body["user"]["email"], "bob@example.org");
    sign_in(provider.id_token(claims(json!({"aud": "android-app"}))), "a nonce").await.expect(200);
    let by_issuer = json!({
        "issuer": provider.issuer(), "client_id": CLIENT_ID, "id_token": provider.id_token(claims(json!({}))), "nonce": "a nonce",
    });
    server.call("POST", "/token?grant_type=id_token", Key::Anon, by_issuer).await.expect(200);
    // A key that came after the keys were fetched is found, once the old ones are a minute old.
    provider.rotate_key();
    server.clock.advance(61);
    sign_in(provider.id_token(claims(json!({"iat": 1, "exp": 9_999_999_999u64}))), "a nonce").await.expect(200);
    assert_eq!(server.count("select count(*) from auth.users").await, 1);
}

#[tokio::test]
async fn identities_are_linked_and_unlinked() {
    let (server, provider) = server(|_| {}).await;
    server.user("own@example.org", "a password of ours").await;
    let session = server.sign_in("own@example.org", "a password of ours").await.expect(200);
    let token = session.text("access_token").to_owned();
    let path =
        "/user/identities/authorize?provider=keycloak&skip_http_redirect=true&redirect_to=https://app.example.org/in";
    let link = async |server: &Server| {
        let url = server.call("GET", path, Key::User(&token), Value::Null).await.expect(200).text("url").to_owned();
        let back = provider.visit(&url).await;
        let callback = back.strip_prefix("https://base.example/p/proj_authtest/auth/v1").unwrap().to_owned();
        Browser::default().callback(server, &callback).await
    };
    let url = link(&server).await;
    assert!(param(&url, "access_token").is_some(), "{url}");
    let user = user_of(&server, &token).await;
    assert_eq!(user["email"], "own@example.org");
    assert_eq!(user["app_metadata"]["providers"], json!(["email", "keycloak"]));
    assert_eq!(param(&link(&server).await, "error_code").unwrap(), "identity_already_exists");
    // Somebody else cannot have it too.
    server.user("other@example.org", "a password of theirs").await;
    let other = server.sign_in("other@example.org", "a password of theirs").await.expect(200);
    let id_token = provider.id_token(json!({"sub": "1", "email": "ann@example.org", "email_verified": true}));
    let body = json!({"provider": "keycloak", "id_token": id_token, "link_identity": true});
    let answer = server.call("POST", "/token?grant_type=id_token", Key::User(other.text("access_token")), body).await;
    assert_eq!(answer.expect(422).code(), "identity_already_exists");

    let identity = user["identities"].as_array().unwrap().iter().find(|i| i["provider"] == "keycloak").unwrap();
    let path = format!("/user/identities/{}", identity["identity_id"].as_str().unwrap());
    let stranger = server.call("DELETE", &path, Key::User(other.text("access_token")), Value::Null).await;
    assert_eq!(stranger.expect(422).code(), "single_identity_not_deletable");
    server.call("DELETE", &path, Key::User(&token), Value::Null).await.expect(200);
    let user = user_of(&server, &token).await;
    assert_eq!((user["identities"].as_array().unwrap().len(), &user["email"]), (1, &json!("own@example.org")));
    let last = format!("/user/identities/{}", user["identities"][0]["identity_id"].as_str().unwrap());
    let answer = server.call("DELETE", &last, Key::User(&token), Value::Null).await;
    assert_eq!(answer.expect(422).code(), "single_identity_not_deletable");
}

#[tokio::test]
async fn what_is_wrong_is_said_in_gotrues_codes() {
    let (mut server, provider) = server(|settings| {
        settings.providers.insert("google".into(), ProviderSettings::default());
        let unsupported =
            ProviderSettings { enabled: true, client_id: Some("x".into()), ..ProviderSettings::default() };
        settings.providers.insert("twitter".into(), unsupported);
    })
    .await;
    let cases = [
        ("/authorize", 400, "validation_failed"),
        ("/authorize?provider=google", 400, "validation_failed"),
        ("/authorize?provider=nobody", 400, "validation_failed"),
        ("/authorize?provider=twitter", 400, "oauth_provider_not_supported"),
        ("/authorize?provider=keycloak&code_challenge=short&code_challenge_method=s256", 400, "validation_failed"),
        ("/authorize?provider=keycloak&code_challenge=x", 400, "validation_failed"),
        ("/user/identities/authorize?provider=keycloak", 401, "no_authorization"),
    ];
    for (path, status, code) in cases {
        let key = if path.starts_with("/user") { Key::Nothing } else { Key::Anon };
        let answer = server.call("GET", path, key, Value::Null).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{path}: {}", answer.body);
    }
    for (path, code) in [
        ("/callback", "bad_oauth_callback"),
        ("/callback?state=x&code=y", "bad_oauth_state"),
        ("/callback?state=00000000-0000-4000-8000-000000000000&code=y", "bad_oauth_state"),
    ] {
        let answer = server.call("GET", path, Key::Nothing, Value::Null).await.expect(303);
        assert!(answer.location().starts_with("https://app.example.org#"), "{}", answer.location());
        assert_eq!(param(answer.location(), "error_code").unwrap(), code);
    }
    let mut browser = Browser::default();
    let callback = browser.go(&server, &provider, "").await;
    let refused = callback.replace("code=", "error=access_denied&error_description=No%0D%0Away&x=");
    let url = browser.callback(&server, &refused).await;
    assert_eq!(param(&url, "error").unwrap(), "access_denied");
    assert_eq!(param(&url, "error_description").unwrap(), "Noway");
    // The code was not the provider's.
    let callback = browser.go(&server, &provider, "").await;
    let url = browser.callback(&server, &callback.replace("code=", "code=not")).await;
    assert_eq!(param(&url, "error_description").unwrap(), "Unable to exchange external code");
    for (body, code) in [
        (json!({}), "validation_failed"),
        (json!({"id_token": "x"}), "validation_failed"),
        (json!({"id_token": "x", "provider": "keycloak"}), "bad_jwt"),
        (json!({"id_token": 7, "provider": "keycloak"}), "bad_json"),
        (json!({"id_token": "x", "issuer": "https://nobody.example", "client_id": "y"}), "validation_failed"),
    ] {
        let answer = server.call("POST", "/token?grant_type=id_token", Key::Anon, body.clone()).await.expect(400);
        assert_eq!(answer.code(), code, "{body}");
    }
    server.set(|settings| settings.disable_signup = true);
    let callback = browser.go(&server, &provider, "").await;
    assert_eq!(param(&browser.callback(&server, &callback).await, "error_code").unwrap(), "signup_disabled");
}
