//! Sign-in at providers that speak OAuth 2 and no OpenID Connect, each against a server on loopback that answers as the
//! provider documents it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use base::Secret;
use base::auth_settings::ProviderSettings;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use url::Url;
use url::form_urlencoded::parse;

use super::providers::{Browser, param, user_of};
use super::*;

const CLIENT: &str = "client of the test";
const CLIENT_SECRET: &str = "a secret: with / odd & signs";

/// What a provider has to answer, and what comes of it.
struct Case {
    name: &'static str,
    authorize: &'static str,
    scope: Option<&'static str>,
    token: &'static str,
    /// Whether the client shows its secret in a header rather than in the body.
    basic: bool,
    /// More of the token endpoint's answer.
    more: Value,
    /// Path and answer of what is asked for with the access token.
    answers: Vec<(&'static str, Value)>,
    id: &'static str,
    /// The address, and whether the provider says that it is the user's.
    email: Option<(&'static str, bool)>,
    full_name: &'static str,
    picture: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let case = |name, authorize, scope, token, basic, answers, id, email, full_name, picture| Case {
        name,
        authorize,
        scope,
        token,
        basic,
        more: json!({}),
        answers,
        id,
        email,
        full_name,
        picture,
    };
    let ann = |verified| Some(("ann@example.org", verified));
    vec![
        case(
            "github",
            "/login/oauth/authorize",
            Some("user:email"),
            "/login/oauth/access_token",
            false,
            vec![
                (
                    "/api/v3/user",
                    json!({ "id": 7, "login": "ann", "name": "Ann Lee", "avatar_url": "p", "email": "x@y.zz" }),
                ),
                (
                    "/api/v3/user/emails",
                    json!([
                        { "email": "other@example.org", "primary": false, "verified": true },
                        { "email": "Ann@example.org", "primary": true, "verified": true },
                    ]),
                ),
            ],
            "7",
            ann(true),
            "Ann Lee",
            Some("p"),
        ),
        case(
            "gitlab",
            "/oauth/authorize",
            Some("read_user"),
            "/oauth/token",
            false,
            vec![(
                "/api/v4/user",
                json!({
                    "id": 7, "username": "ann", "name": "Ann Lee", "avatar_url": "p", "email": "ann@example.org",
                    "confirmed_at": "2020-01-01T00:00:00Z",
                }),
            )],
            "7",
            ann(true),
            "Ann Lee",
            Some("p"),
        ),
        case(
            "discord",
            "/api/oauth2/authorize",
            Some("email identify"),
            "/api/oauth2/token",
            false,
            vec![(
                "/api/users/@me",
                json!({
                    "id": "7", "username": "ann", "global_name": "Ann Lee", "avatar": "a_1", "email": "ann@example.org",
                    "verified": true,
                }),
            )],
            "7",
            ann(true),
            "Ann Lee",
            Some("https://cdn.discordapp.com/avatars/7/a_1.gif"),
        ),
        case(
            "bitbucket",
            "/site/oauth2/authorize",
            Some("account email"),
            "/site/oauth2/access_token",
            true,
            vec![
                (
                    "/2.0/user",
                    json!({ "uuid": "{u}", "display_name": "Ann Lee", "nickname": "ann", "links": { "avatar": { "href": "p" } } }),
                ),
                (
                    "/2.0/user/emails",
                    json!({ "values": [
                    { "email": "other@example.org", "is_primary": false, "is_confirmed": true },
                    { "email": "Ann@example.org", "is_primary": true, "is_confirmed": true },
                ] }),
                ),
            ],
            "{u}",
            ann(true),
            "Ann Lee",
            Some("p"),
        ),
        case(
            "facebook",
            "/dialog/oauth",
            Some("email"),
            "/oauth/access_token",
            false,
            vec![(
                "/me",
                json!({
                    "id": "7", "email": "ann@example.org", "first_name": "Ann", "last_name": "Lee", "name": "annlee",
                    "picture": { "data": { "url": "p" } },
                }),
            )],
            "7",
            ann(false),
            "Ann Lee",
            Some("p"),
        ),
        case(
            "figma",
            "/oauth",
            Some("current_user:read"),
            "/v1/oauth/token",
            true,
            vec![("/v1/me", json!({ "id": "7", "email": "ann@example.org", "handle": "Ann", "img_url": "p" }))],
            "7",
            ann(false),
            "Ann",
            Some("p"),
        ),
        case(
            "fly",
            "/oauth/authorize",
            Some("read"),
            "/oauth/token",
            false,
            vec![(
                "/oauth/token/info",
                json!({ "user_id": "7", "user_name": "Ann", "email": "ann@example.org", "resource_owner_id": "1" }),
            )],
            "7",
            ann(false),
            "Ann",
            None,
        ),
        case(
            "kakao",
            "/oauth/authorize",
            Some("account_email profile_image profile_nickname"),
            "/oauth/token",
            false,
            vec![(
                "/v2/user/me",
                json!({ "id": 7, "kakao_account": {
                "email": "ann@example.org", "is_email_valid": true, "is_email_verified": true,
                "profile": { "nickname": "Ann", "profile_image_url": "p" },
            } }),
            )],
            "7",
            ann(true),
            "Ann",
            Some("p"),
        ),
        case(
            "notion",
            "/v1/oauth/authorize",
            None,
            "/v1/oauth/token",
            true,
            vec![(
                "/v1/users/me",
                json!({ "bot": { "owner": { "user": {
                "id": "7", "name": "Ann", "avatar_url": "p", "person": { "email": "ann@example.org" },
            } } } }),
            )],
            "7",
            ann(false),
            "Ann",
            Some("p"),
        ),
        case(
            "slack",
            "/oauth/authorize",
            Some("profile email openid"),
            "/api/oauth.access",
            false,
            vec![(
                "/api/openid.connect.userInfo",
                json!({
                    "https://slack.com/user_id": "U7", "email": "ann@example.org", "email_verified": true, "name": "Ann", "picture": "p",
                }),
            )],
            "U7",
            ann(true),
            "Ann",
            Some("p"),
        ),
        case(
            "snapchat",
            "/accounts/oauth2/auth",
            Some(
                "https://auth.snapchat.com/oauth2/api/user.external_id https://auth.snapchat.com/oauth2/api/user.display_name https://auth.snapchat.com/oauth2/api/user.bitmoji.avatar",
            ),
            "/accounts/oauth2/token",
            false,
            vec![(
                "/v1/me",
                json!({ "data": { "me": { "externalId": "7", "displayName": "Ann", "bitmoji": { "avatar": "p" } } } }),
            )],
            "7",
            None,
            "Ann",
            Some("p"),
        ),
        case(
            "spotify",
            "/authorize",
            Some("user-read-email"),
            "/api/token",
            true,
            vec![(
                "/v1/me",
                json!({ "id": "ann", "email": "ann@example.org", "display_name": "Ann", "images": [{ "url": "p", "height": 640 }, { "url": "q", "height": 64 }] }),
            )],
            "ann",
            ann(false),
            "Ann",
            Some("p"),
        ),
        case(
            "twitch",
            "/oauth2/authorize",
            Some("user:read:email"),
            "/oauth2/token",
            false,
            vec![(
                "/helix/users",
                json!({ "data": [{ "id": "7", "login": "ann", "display_name": "Ann", "email": "ann@example.org", "profile_image_url": "p" }] }),
            )],
            "7",
            ann(true),
            "ann",
            Some("p"),
        ),
        Case {
            more: json!({ "profile": { "id": "prof_7", "email": "ann@example.org", "first_name": "Ann", "last_name": "Lee" } }),
            ..case("workos", "/sso/authorize", None, "/sso/token", false, vec![], "prof_7", ann(false), "Ann Lee", None)
        },
        case(
            "x",
            "/i/oauth2/authorize",
            Some("users.email tweet.read users.read offline.access"),
            "/2/oauth2/token",
            true,
            vec![(
                "/2/users/me",
                json!({ "data": { "id": "7", "name": "Ann", "username": "ann", "confirmed_email": "ann@example.org", "profile_image_url": "p" } }),
            )],
            "7",
            ann(true),
            "Ann",
            Some("p"),
        ),
        case(
            "zoom",
            "/oauth/authorize",
            None,
            "/oauth/token",
            true,
            vec![(
                "/v2/users/me",
                json!({ "id": "7", "first_name": "Ann", "last_name": "Lee", "email": "ann@example.org", "verified": 1, "pic_url": "p" }),
            )],
            "7",
            ann(true),
            "Ann Lee",
            Some("p"),
        ),
    ]
}

#[derive(Clone, Debug, Default)]
struct Heard {
    path: String,
    query: String,
    headers: http::HeaderMap,
    body: String,
}

/// A provider on loopback; whatever it is asked is remembered.
struct Provider {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Provider {
    async fn start(answers: HashMap<String, Value>) -> Self {
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let remembers = heard.clone();
        let router = Router::new().fallback(move |request: Request| {
            let (heard, answers) = (remembers.clone(), answers.clone());
            async move {
                let (parts, body) = request.into_parts();
                let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let path = parts.uri.path().to_owned();
                let answer: Response = match answers.get(&path) {
                    Some(answer) => axum::Json(answer.clone()).into_response(),
                    None => StatusCode::NOT_FOUND.into_response(),
                };
                heard.lock().unwrap().push(Heard {
                    path,
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    headers: parts.headers,
                    body: String::from_utf8(bytes.to_vec()).unwrap(),
                });
                answer
            }
        });
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        Self { url, heard }
    }

    fn heard(&self, path: &str) -> Heard {
        let heard = self.heard.lock().unwrap();
        heard.iter().find(|heard| heard.path == path).unwrap_or_else(|| panic!("{path} in {heard:?}")).clone()
    }
}

async fn provider(case: &Case) -> Provider {
    let mut token = json!({ "access_token": "the token", "token_type": "bearer", "scope": ["a", "b"] });
    token.as_object_mut().unwrap().extend(case.more.as_object().unwrap().clone());
    let mut answers = HashMap::from([(case.token.to_owned(), token)]);
    answers.extend(case.answers.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())));
    Provider::start(answers).await
}

/// The same service for the next provider, without users.
async fn switch(server: &mut Server, case: &Case, provider: &Provider, email_optional: bool) {
    let own = ProviderSettings {
        enabled: true,
        client_id: Some(CLIENT.to_owned()),
        secret: Some(Secret::new(CLIENT_SECRET.to_owned())),
        url: Some(provider.url.clone()),
        email_optional,
        ..ProviderSettings::default()
    };
    server.set(|settings| drop(settings.providers.insert(case.name.to_owned(), own)));
    server.database.execute("delete from auth.users").await;
}

/// Whether the provider knows proof keys.
fn proves(case: &Case) -> bool {
    matches!(case.name, "x" | "github" | "gitlab" | "discord")
}

/// Where the browser is sent in the end.
async fn sign_in(server: &Server, case: &Case, provider: &Provider) -> String {
    let path = format!("/authorize?provider={}&redirect_to=https://app.example.org/in", case.name);
    let answer = server.call("GET", &path, Key::Nothing, Value::Null).await.expect(303);
    let url = Url::parse(answer.location()).unwrap();
    assert!(url.as_str().starts_with(&provider.url), "{}: {url}", case.name);
    let asked: HashMap<String, String> = url.query_pairs().into_owned().collect();
    let get = |name: &str| asked.get(name).map(String::as_str);
    assert_eq!((url.path(), get("scope")), (case.authorize, case.scope), "{}", case.name);
    assert_eq!((get("client_id"), get("response_type")), (Some(CLIENT), Some("code")), "{}", case.name);
    assert_eq!(get("redirect_uri"), Some("https://base.example/p/proj_authtest/auth/v1/callback"), "{}", case.name);
    assert_eq!(get("code_challenge_method"), proves(case).then_some("S256"), "{}", case.name);
    let cookie = answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let state = get("state").unwrap();
    Browser { cookies: cookie }.callback(server, &format!("/callback?state={state}&code=the+code")).await
}

fn check_requests(case: &Case, provider: &Provider) {
    let token = provider.heard(case.token);
    let form: HashMap<String, String> = parse(token.body.as_bytes()).into_owned().collect();
    let get = |name: &str| form.get(name).map(String::as_str);
    assert_eq!((get("grant_type"), get("code")), (Some("authorization_code"), Some("the code")), "{}", case.name);
    let shown = token.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    if case.basic {
        let pair = "client+of+the+test:a+secret%3A+with+%2F+odd+%26+signs";
        assert_eq!(shown, Some(format!("Basic {}", BASE64_STANDARD.encode(pair))), "{}", case.name);
        assert_eq!((get("client_id"), get("client_secret")), (None, None), "{}", case.name);
    } else {
        assert_eq!(
            (get("client_id"), get("client_secret"), shown),
            (Some(CLIENT), Some(CLIENT_SECRET), None),
            "{}",
            case.name
        );
    }
    assert_eq!(get("code_verifier").is_some(), proves(case), "{}", case.name);
    for (path, _) in &case.answers {
        let asked = provider.heard(path);
        assert_eq!(asked.headers["authorization"], "Bearer the token", "{} {path}", case.name);
        match case.name {
            "twitch" => assert_eq!(asked.headers["client-id"], CLIENT),
            "notion" => assert_eq!(asked.headers["notion-version"], "2021-08-16"),
            "facebook" => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, CLIENT_SECRET.as_bytes());
                let proof: String =
                    ring::hmac::sign(&key, b"the token").as_ref().iter().map(|b| format!("{b:02x}")).collect();
                assert!(asked.query.ends_with(&format!("&appsecret_proof={proof}")), "{}", asked.query);
            }
            "snapchat" => assert!(asked.query.starts_with("query=%7Bme%20"), "{}", asked.query),
            _ => {}
        }
    }
}

async fn check_case(server: &mut Server, case: &Case) {
    let provider = provider(case).await;
    let verified = case.email.is_some_and(|(_, verified)| verified);
    switch(server, case, &provider, !verified).await;
    let url = sign_in(server, case, &provider).await;
    check_requests(case, &provider);
    let token = param(&url, "access_token").unwrap_or_else(|| panic!("{}: {url}", case.name));
    assert_eq!(param(&url, "provider_token").as_deref(), Some("the token"), "{}", case.name);
    let user = user_of(server, &token).await;
    let identity = &user["identities"][0];
    assert_eq!((&identity["provider"], &identity["id"]), (&json!(case.name), &json!(case.id)), "{user}");
    let data = &identity["identity_data"];
    assert_eq!(data["full_name"], case.full_name, "{user}");
    assert_eq!(data.get("avatar_url").and_then(Value::as_str), case.picture, "{user}");
    assert_eq!(data.get("email").and_then(Value::as_str), case.email.map(|(email, _)| email), "{user}");
    assert_eq!(data["email_verified"], verified, "{user}");
    // Only an address that the provider has verified is the user's.
    assert_eq!(user["email"], if verified { "ann@example.org" } else { "" }, "{user}");
    assert_eq!(user["email_confirmed_at"].is_string(), verified, "{user}");
    assert_eq!(user["user_metadata"].get("email").is_some(), verified, "{user}");
    // The next time it is the same user.
    let again = sign_in(server, case, &provider).await;
    assert_eq!(user_of(server, &param(&again, "access_token").unwrap()).await["id"], user["id"], "{}", case.name);
}

#[tokio::test]
async fn users_of_every_provider_sign_in() {
    let mut server = Server::start().await;
    for case in cases() {
        check_case(&mut server, &case).await;
    }
}

/// Whoever can make a provider name an address must not get into the account that has it.
#[tokio::test]
async fn an_address_that_the_provider_has_not_verified_leads_nowhere() {
    let mut cases = cases();
    // Those that say so say no.
    for case in &mut cases {
        for (path, answer) in &mut case.answers {
            match (case.name, *path) {
                ("github", "/api/v3/user/emails") => answer[1]["verified"] = json!(false),
                ("gitlab", _) => answer["confirmed_at"] = json!(null),
                ("discord", _) => answer["verified"] = json!(false),
                ("bitbucket", "/2.0/user/emails") => answer["values"][1]["is_confirmed"] = json!(false),
                ("kakao", _) => answer["kakao_account"]["is_email_valid"] = json!(false),
                ("slack", _) => answer["email_verified"] = json!(false),
                ("zoom", _) => answer["verified"] = json!(0),
                _ => {}
            }
        }
    }
    let mut server = Server::start().await;
    let documented = ["twitch", "x"];
    for case in cases.iter().filter(|case| case.email.is_some() && !documented.contains(&case.name)) {
        let provider = provider(case).await;
        for email_optional in [false, true] {
            switch(&mut server, case, &provider, email_optional).await;
            let victim = server.user("ann@example.org", PASSWORD).await;
            let url = sign_in(&server, case, &provider).await;
            if email_optional {
                let user = user_of(&server, &param(&url, "access_token").unwrap()).await;
                assert_ne!(user["id"], victim["id"], "{}", case.name);
                assert_eq!(user["email"], "", "{}", case.name);
            } else {
                assert!(param(&url, "access_token").is_none(), "{}: {url}", case.name);
                assert_eq!(param(&url, "error_code").unwrap(), "provider_email_needs_verification", "{}", case.name);
                assert_eq!(server.count("select count(*) from auth.users").await, 1, "{}", case.name);
            }
        }
    }
}

/// Whoever keeps the new server gives out what ids they like there.
#[tokio::test]
async fn another_server_of_a_provider_opens_no_account_of_the_one_before() {
    let mut server = Server::start().await;
    let cases = cases();
    for case in cases.iter().filter(|case| matches!(case.name, "github" | "gitlab")) {
        let mut provider = provider(case).await;
        switch(&mut server, case, &provider, false).await;
        assert!(param(&sign_in(&server, case, &provider).await, "access_token").is_some());
        provider.url = provider.url.replace("127.0.0.1", "localhost");
        let url = provider.url.clone();
        server.set(|settings| settings.providers.get_mut(case.name).unwrap().url = Some(url));
        let url = sign_in(&server, case, &provider).await;
        assert_eq!(param(&url, "error_code").as_deref(), Some("bad_oauth_callback"), "{}: {url}", case.name);
        assert_eq!(server.count("select count(*) from auth.sessions").await, 1);
    }
}

#[tokio::test]
async fn answers_that_name_nobody_sign_nobody_in() {
    let mut cases = cases();
    for case in &mut cases {
        case.more = json!({});
        case.answers.iter_mut().for_each(|(_, answer)| *answer = json!({ "error": "no" }));
    }
    let mut server = Server::start().await;
    for case in &cases {
        let provider = provider(case).await;
        switch(&mut server, case, &provider, true).await;
        let url = sign_in(&server, case, &provider).await;
        assert_eq!(param(&url, "error").unwrap(), "server_error", "{}: {url}", case.name);
        assert_eq!(server.count("select count(*) from auth.users").await, 0, "{}", case.name);
    }
}
