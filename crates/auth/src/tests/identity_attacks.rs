//! Attacks with identities: linking what is somebody else's, and staying in an account whose owner has come.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::providers::{Browser, VERIFIER, challenge, param, server, user_of};
use super::server::{Key, Server};

const PASSWORD: &str = "correct horse battery";

async fn identities(server: &Server) -> i64 {
    server.count("select count(*) from auth.identities where provider = 'keycloak'").await
}

async fn begin_link(server: &Server, token: &str, more: &str) -> String {
    let path = format!(
        "/user/identities/authorize?provider=keycloak&skip_http_redirect=true&redirect_to=https://app.example.org/in{more}"
    );
    server.call("GET", &path, Key::User(token), Value::Null).await.expect(200).text("url").to_owned()
}

async fn come_back(server: &Server, back: &str) -> String {
    let callback = back.strip_prefix("https://base.example/p/proj_authtest/auth/v1").unwrap();
    Browser::default().callback(server, callback).await
}

#[tokio::test]
async fn an_identity_is_linked_only_where_it_was_asked_for() {
    let (mut server, provider) = server(|_| {}).await;
    server.user("evil@example.org", PASSWORD).await;
    let attacker = server.sign_in("evil@example.org", PASSWORD).await.expect(200).text("access_token").to_owned();
    // The attacker sends the victim to the provider.
    let url = begin_link(&server, &attacker, "").await;
    let back = provider.visit(&url).await;
    server.ip = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9));
    let ended = come_back(&server, &back).await;
    assert_eq!(param(&ended, "error_code").as_deref(), Some("bad_oauth_state"), "{ended}");
    assert_eq!(identities(&server).await, 0);
    // With a verifier, which the victim's browser does not have, nothing is linked either.
    let more = format!("&code_challenge={}&code_challenge_method=s256", challenge());
    let url = begin_link(&server, &attacker, &more).await;
    let ended = come_back(&server, &provider.visit(&url).await).await;
    let code = param(&ended, "code").unwrap();
    assert_eq!(identities(&server).await, 0);
    let exchange = async |verifier: &str| {
        let body = json!({ "auth_code": code, "code_verifier": verifier });
        server.call("POST", "/token?grant_type=pkce", Key::Anon, body).await
    };
    exchange(&VERIFIER.replace('a', "b")).await.expect(400);
    assert_eq!(identities(&server).await, 0);
    // Who asked links.
    let session = exchange(VERIFIER).await.expect(200);
    assert_eq!(session.body["user"]["app_metadata"]["providers"], json!(["email", "keycloak"]));
    assert_eq!(session.text("provider_token"), "access");
    assert_eq!(identities(&server).await, 1);
}

#[tokio::test]
async fn an_id_token_links_nothing_without_the_second_factor() {
    let (server, provider) = server(|_| {}).await;
    server.user("ann@example.org", PASSWORD).await;
    let sign_in = async || {
        let session = server.sign_in("ann@example.org", PASSWORD).await.expect(200);
        session.text("access_token").to_owned()
    };
    let token = sign_in().await;
    let totp = server.call("POST", "/factors", Key::User(&token), json!({ "factor_type": "totp" })).await.expect(200);
    let path = format!("/factors/{}", totp.text("id"));
    let asked = server.call("POST", &format!("{path}/challenge"), Key::User(&token), json!({})).await.expect(200);
    let code = crate::mfa::code_at(totp.body["totp"]["secret"].as_str().unwrap(), server.clock.unix_seconds());
    let body = json!({ "challenge_id": asked.text("id"), "code": code });
    let raised = server.call("POST", &format!("{path}/verify"), Key::User(&token), body).await.expect(200);
    let link = async |token: &str| {
        let id_token = provider.id_token(json!({ "sub": "evil", "email": "evil@example.org", "email_verified": true }));
        let body = json!({ "provider": "keycloak", "id_token": id_token, "link_identity": true });
        server.call("POST", "/token?grant_type=id_token", Key::User(token), body).await
    };
    let plain = sign_in().await;
    assert_eq!(link(&plain).await.code(), "insufficient_aal");
    assert_eq!(identities(&server).await, 0);
    link(raised.text("access_token")).await.expect(200);
    assert_eq!(identities(&server).await, 1);
}

#[tokio::test]
async fn what_a_provider_gave_is_stored_sealed() {
    let (server, provider) = server(|_| {}).await;
    let mut browser = Browser::default();
    let more = format!("&code_challenge={}&code_challenge_method=s256", challenge());
    let callback = browser.go(&server, &provider, &more).await;
    let code = param(&browser.callback(&server, &callback).await, "code").unwrap();
    let client = server.database.connect().await;
    let row = client.query_one("select f::text, provider_access_token from auth.flow_state f", &[]).await.unwrap();
    let (row, sealed): (String, String) = (row.get(0), row.get(1));
    assert!(!row.contains("refresh") && sealed != "access" && sealed.len() > 40, "{row}");
    assert!(!row.contains(&code), "{row}");
    let body = json!({ "auth_code": code, "code_verifier": VERIFIER });
    let session = server.call("POST", "/token?grant_type=pkce", Key::Anon, body).await.expect(200);
    assert_eq!((session.text("provider_token"), session.text("provider_refresh_token")), ("access", "refresh"));
}

/// By mail or through the provider itself: the owner of an address is alone in the account from then on.
#[tokio::test]
async fn nothing_of_an_attacker_stays_when_the_owner_of_an_address_comes() {
    for path in ["/recover", "/otp", "provider"] {
        let (server, provider) = server(|settings| settings.mailer_allow_unverified_email_sign_ins = true).await;
        let evil = json!({ "sub": "evil", "email": "victim@example.org", "email_verified": false, "name": "Evil" });
        provider.set_user(evil.clone());
        let mut browser = Browser::default();
        let callback = browser.go(&server, &provider, "").await;
        let url = browser.callback(&server, &callback).await;
        let refresh_token = param(&url, "refresh_token").unwrap();
        let account = user_of(&server, &param(&url, "access_token").unwrap()).await;
        let mut browser = Browser::default();
        let victim = if path == "provider" {
            provider.set_user(json!({ "sub": "good", "email": "victim@example.org", "email_verified": true }));
            let callback = browser.go(&server, &provider, "").await;
            browser.callback(&server, &callback).await
        } else {
            let body = json!({ "email": "victim@example.org" });
            server.call("POST", path, Key::Anon, body).await.expect(200);
            let mail = server.last_mail().await;
            let followed = server.call("GET", mail.link(), Key::Nothing, Value::Null).await.expect(303);
            followed.location().to_owned()
        };
        let victim = user_of(&server, &param(&victim, "access_token").unwrap_or_else(|| panic!("{victim}"))).await;
        assert_eq!(victim["id"], account["id"], "{path}");
        assert_eq!(victim["user_metadata"].get("name"), None, "{path}: {victim}");
        assert_eq!(server.refresh(&refresh_token).await.status, 400, "{path}");
        // The attacker comes once more, and is somebody else or nobody.
        provider.set_user(evil);
        let callback = browser.go(&server, &provider, "").await;
        let url = browser.callback(&server, &callback).await;
        if let Some(token) = param(&url, "access_token") {
            assert_ne!(user_of(&server, &token).await["id"], victim["id"], "{path}");
        }
    }
}

#[tokio::test]
async fn a_new_issuer_opens_no_account_of_the_old_one() {
    let (mut server, provider) = server(|_| {}).await;
    let mut browser = Browser::default();
    let callback = browser.go(&server, &provider, "").await;
    assert!(param(&browser.callback(&server, &callback).await, "access_token").is_some());
    let other = test_support::OidcProvider::start().await;
    let issuer = other.issuer();
    server.set(|settings| settings.providers.get_mut("keycloak").unwrap().url = Some(issuer));
    let callback = browser.go(&server, &other, "").await;
    let url = browser.callback(&server, &callback).await;
    assert_eq!(param(&url, "error_code").as_deref(), Some("bad_oauth_callback"), "{url}");
    assert_eq!(server.count("select count(*) from auth.sessions").await, 1);
}
