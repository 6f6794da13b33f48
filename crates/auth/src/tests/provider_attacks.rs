//! What attackers try around sign-in at providers (acceptance 4 of the auth service).

use serde_json::{Value, json};

use super::providers::{Browser, challenge, param, server, user_of};
use super::server::{Key, Server};

async fn error_code(browser: &Browser, server: &Server, callback: &str) -> String {
    let url = browser.callback(server, callback).await;
    assert!(param(&url, "access_token").is_none() && param(&url, "code").is_none(), "{url}");
    param(&url, "error_code").unwrap_or_else(|| panic!("no error in {url}"))
}

#[tokio::test]
async fn a_state_is_good_for_one_callback_in_one_browser_for_a_while() {
    let (server, provider) = server(|_| {}).await;
    let mut browser = Browser::default();
    // Login CSRF: the attacker's callback in the victim's browser.
    let callback = browser.go(&server, &provider, "").await;
    assert_eq!(error_code(&Browser::default(), &server, &callback).await, "bad_oauth_state");
    // It is used up by that, also for who began it.
    assert_eq!(error_code(&browser, &server, &callback).await, "bad_oauth_state");
    // Replay.
    let callback = browser.go(&server, &provider, "").await;
    assert!(param(&browser.callback(&server, &callback).await, "access_token").is_some());
    assert_eq!(error_code(&browser, &server, &callback).await, "bad_oauth_state");
    // Of many at once, one gets through.
    let callback = browser.go(&server, &provider, "").await;
    let all = (0..20).map(|_| browser.callback(&server, &callback));
    let urls = futures_util::future::join_all(all).await;
    assert_eq!(urls.iter().filter(|url| param(url, "access_token").is_some()).count(), 1);
    assert_eq!(server.count("select count(*) from auth.sessions").await, 2);
    // Too late.
    let callback = browser.go(&server, &provider, "").await;
    server.clock.advance(901);
    assert_eq!(error_code(&browser, &server, &callback).await, "bad_oauth_state");
}

#[tokio::test]
async fn a_flow_with_a_verifier_cannot_be_turned_into_one_without() {
    let (server, provider) = server(|_| {}).await;
    let mut browser = Browser::default();
    let more = format!("&code_challenge={}&code_challenge_method=s256", challenge());
    let callback = browser.go(&server, &provider, &more).await;
    let url = browser.callback(&server, &format!("{callback}&code_challenge=&response_type=token")).await;
    assert!(param(&url, "access_token").is_none());
    let code = param(&url, "code").unwrap();
    for body in [json!({"auth_code": code}), json!({"auth_code": code, "code_verifier": ""})] {
        let answer = server.call("POST", "/token?grant_type=pkce", Key::Anon, body).await;
        assert_eq!(answer.expect(400).code(), "validation_failed");
    }
    let answer = server
        .call("POST", "/token?grant_type=pkce", Key::Anon, json!({"auth_code": code, "code_verifier": challenge()}))
        .await;
    assert_eq!(answer.expect(400).code(), "bad_code_verifier");
}

#[tokio::test]
async fn redirects_lead_to_allowed_places_only() {
    let (mut server, provider) = server(|_| {}).await;
    let mut browser = Browser::default();
    for evil in
        ["https://evil.example/", "//evil.example", "https://app.example.org@evil.example", "javascript:alert(1)"]
    {
        let path = format!("/authorize?provider=keycloak&redirect_to={}", evil.replace(':', "%3A"));
        let answer = server.call("GET", &path, Key::Nothing, Value::Null).await.expect(303);
        let cookie = answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let back = provider.visit(answer.location()).await;
        let callback = back.strip_prefix("https://base.example/p/proj_authtest/auth/v1").unwrap().to_owned();
        let url = Browser { cookies: cookie }.callback(&server, &callback).await;
        assert!(url.starts_with("https://app.example.org#"), "{evil}: {url}");
    }
    // What was allowed at the beginning is not any more.
    let callback = browser.go(&server, &provider, "").await;
    server.set(|settings| {
        settings.uri_allow_list = String::new();
        settings.site_url = "https://new.example.org".to_owned();
    });
    assert!(browser.callback(&server, &callback).await.starts_with("https://new.example.org#"));
}

#[tokio::test]
async fn id_tokens_of_others_are_refused() {
    let (server, provider) = server(|_| {}).await;
    let other = test_support::OidcProvider::start().await;
    let sign_in = async |token: String| {
        let body = json!({ "provider": "keycloak", "id_token": token });
        server.call("POST", "/token?grant_type=id_token", Key::Anon, body).await
    };
    let claims = |more: Value| {
        let mut claims = json!({"sub": "1", "email": "ann@example.org", "email_verified": true});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    sign_in(provider.id_token(claims(json!({})))).await.expect(200);
    for (claims, code) in [
        (claims(json!({"iss": other.issuer()})), "bad_jwt"),
        (claims(json!({"iss": ""})), "bad_jwt"),
        (claims(json!({"aud": "another client"})), "unexpected_audience"),
        (claims(json!({"aud": []})), "unexpected_audience"),
        (claims(json!({"aud": ["x", test_support::CLIENT_ID], "azp": "x"})), "unexpected_audience"),
        (claims(json!({"exp": 1})), "bad_jwt"),
        (claims(json!({"exp": null})), "bad_jwt"),
        (claims(json!({"nbf": 9_999_999_999u64})), "bad_jwt"),
        (claims(json!({"sub": ""})), "bad_jwt"),
        (claims(json!({"nonce": "n"})), "validation_failed"),
    ] {
        let answer = sign_in(provider.id_token(claims.clone())).await.expect(400);
        assert_eq!(answer.code(), code, "{claims}");
    }
    // Another issuer's signature, in the name of this one.
    let forged = other.id_token(claims(json!({"iss": provider.issuer()})));
    assert_eq!(sign_in(forged).await.expect(400).code(), "bad_jwt");
    // The keys of the issuer have one that anybody knows.
    let known = base::jwt::sign_hs256(
        b"public",
        &claims(json!({"iss": provider.issuer(), "aud": test_support::CLIENT_ID, "exp": 9_999_999_999u64})),
    );
    assert_eq!(sign_in(known).await.expect(400).code(), "bad_jwt");
    // A token of the project itself is none of the provider's.
    let session = sign_in(provider.id_token(claims(json!({})))).await.expect(200);
    assert_eq!(sign_in(session.text("access_token").to_owned()).await.expect(400).code(), "bad_jwt");
    // In a flow the nonce is that of the flow.
    provider.forge(json!({"nonce": "of another flow"}));
    let mut browser = Browser::default();
    let callback = browser.go(&server, &provider, "").await;
    let url = browser.callback(&server, &callback).await;
    assert_eq!(param(&url, "error_description").unwrap(), "Nonces mismatch");
}

#[tokio::test]
async fn no_account_is_reached_through_an_address_that_nobody_verified() {
    let (server, provider) = server(|_| {}).await;
    let victim = server.user("victim@example.org", "the victim's password").await;
    for unverified in [json!(false), json!(null), json!("no"), json!(0)] {
        provider.set_user(json!({"sub": "evil", "email": "victim@example.org", "email_verified": unverified}));
        let mut browser = Browser::default();
        let callback = browser.go(&server, &provider, "").await;
        assert_eq!(error_code(&browser, &server, &callback).await, "provider_email_needs_verification");
    }
    // Nobody has this address, and whoever says to have it does not get it either.
    provider.set_user(json!({"sub": "evil", "email": "nobody@example.org", "email_verified": false}));
    let mut browser = Browser::default();
    let callback = browser.go(&server, &provider, "").await;
    assert_eq!(error_code(&browser, &server, &callback).await, "provider_email_needs_verification");
    assert_eq!(server.count("select count(*) from auth.users").await, 1);
    assert_eq!(server.count("select count(*) from auth.identities where provider = 'keycloak'").await, 0);
    // With a verified address it is the same user.
    provider.set_user(json!({"sub": "good", "email": "Victim@example.org", "email_verified": true}));
    let callback = browser.go(&server, &provider, "").await;
    let url = browser.callback(&server, &callback).await;
    assert_eq!(user_of(&server, &param(&url, "access_token").unwrap()).await["id"], victim["id"]);
}

#[tokio::test]
async fn what_an_attacker_laid_out_for_an_address_is_gone_when_its_owner_comes() {
    let (server, provider) = server(|_| {}).await;
    let body = json!({"email": "victim@example.org", "password": "the attacker's password", "data": {"role": "evil"}});
    server.call("POST", "/signup", Key::Anon, body).await.expect(200);
    let waiting = server.last_mail().await;
    provider.set_user(json!({"sub": "1", "email": "victim@example.org", "email_verified": true, "name": "V"}));
    let mut browser = Browser::default();
    let callback = browser.go(&server, &provider, "").await;
    let url = browser.callback(&server, &callback).await;
    let user = user_of(&server, &param(&url, "access_token").unwrap()).await;
    assert_eq!(user["app_metadata"]["providers"], json!(["keycloak"]));
    assert!(user["user_metadata"].get("role").is_none(), "{user}");
    let answer = server.sign_in("victim@example.org", "the attacker's password").await;
    assert_eq!(answer.expect(400).code(), "invalid_credentials");
    let answer = server.call("GET", waiting.link(), Key::Nothing, Value::Null).await.expect(303);
    assert_eq!(param(answer.location(), "error_code").unwrap(), "otp_expired");
}

#[tokio::test]
async fn an_identity_of_an_attacker_with_the_victims_address_links_nothing() {
    let (server, provider) = server(|_| {}).await;
    // The attacker links an identity that says, unverified, to have the victim's address.
    server.user("attacker@example.org", "the attacker's password").await;
    let attacker = server.sign_in("attacker@example.org", "the attacker's password").await.expect(200);
    let id_token = provider.id_token(json!({"sub": "evil", "email": "victim@example.org", "email_verified": false}));
    let body = json!({"provider": "keycloak", "id_token": id_token, "link_identity": true});
    server.call("POST", "/token?grant_type=id_token", Key::User(attacker.text("access_token")), body).await.expect(200);
    // The victim comes with a verified one, and gets an account of their own.
    provider.set_user(json!({"sub": "good", "email": "victim@example.org", "email_verified": true}));
    let mut browser = Browser::default();
    let callback = browser.go(&server, &provider, "").await;
    let url = browser.callback(&server, &callback).await;
    let victim = user_of(&server, &param(&url, "access_token").unwrap()).await;
    assert_ne!(victim["id"], attacker.body["user"]["id"]);
    assert_eq!(victim["email"], "victim@example.org");
}

#[tokio::test]
async fn providers_at_private_addresses_are_not_spoken_to() {
    let (server, provider) = server(|_| {}).await;
    let closed = server.closed().await;
    let answer = closed.call("GET", "/authorize?provider=keycloak", Key::Nothing, Value::Null).await;
    assert_eq!(answer.expect(400).code(), "validation_failed");
    let body = json!({"provider": "keycloak", "id_token": provider.id_token(json!({"sub": "1"}))});
    closed.call("POST", "/token?grant_type=id_token", Key::Anon, body).await.expect(400);
    assert_eq!(provider.requests(), Vec::<String>::new());
}
