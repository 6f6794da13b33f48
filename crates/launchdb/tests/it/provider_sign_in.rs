//! Sign-in at a provider through the front door, without PKCE as supabase-js does it by default: only a cookie ties the
//! callback to the browser in which it began, and the gateway has to let that through.

use serde_json::json;
use test_support::{CLIENT_ID, CLIENT_SECRET, OidcProvider, ScratchDir};

use crate::server::Server;

/// A browser's request: the answer's `Location`, and the cookie that it sets.
fn visit(url: &str, cookie: Option<&str>) -> (String, Option<String>) {
    let agent: ureq::Agent = ureq::Agent::config_builder().max_redirects(0).build().into();
    let mut request = agent.get(url);
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    let answer = request.call().unwrap_or_else(|error| panic!("{url}: {error}"));
    let header = |name: &str| Some(answer.headers().get(name)?.to_str().expect("a header").to_owned());
    let location = header("location").unwrap_or_else(|| panic!("{url}: {} without a location", answer.status()));
    let pair = header("set-cookie").map(|cookie| cookie.split(';').next().unwrap_or_default().to_owned());
    (location, pair)
}

#[test]
fn users_sign_in_at_a_provider_through_the_front_door() {
    let home = ScratchDir::new();
    let settings = [("LAUNCHDB_ALLOW_PRIVATE_TARGETS", "true")];
    let server = Server::start_with(home.path(), &[], &settings);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let provider = runtime.block_on(OidcProvider::start());
    let project = server.cli_json(&["project", "create", "shop"]);
    let id = project["id"].as_str().expect("an id").to_owned();
    let auth = json!({"auth": {
        "site_url": "https://app.example.org",
        "external_keycloak_enabled": true,
        "external_keycloak_client_id": CLIENT_ID,
        "external_keycloak_secret": CLIENT_SECRET,
        "external_keycloak_url": provider.issuer(),
    }});
    server.cli(&["project", "settings", &id, "--set", &auth.to_string()]);
    let connection = server.cli_json(&["project", "connection", &id]);
    let text = |name: &str| connection[name].as_str().expect("a text").to_owned();
    let (base, key) = (format!("{}/auth/v1", text("api_url")), text("anon_key"));

    let begin = || {
        let (there, cookie) = visit(&format!("{base}/authorize?provider=keycloak"), None);
        (runtime.block_on(provider.visit(&there)), cookie.expect("a cookie"))
    };
    let (callback, cookie) = begin();
    assert!(cookie.starts_with("sb-oauth-"), "{cookie}");
    let (end, _) = visit(&callback, Some(&cookie));
    let token = end.split(['#', '&']).find_map(|pair| pair.strip_prefix("access_token="));
    let token = token.unwrap_or_else(|| panic!("no session: {end}"));
    let bearer = format!("Bearer {token}");
    let user = server.ask("GET", &format!("{base}/user"), &[("apikey", &key), ("authorization", &bearer)], "");
    assert_eq!((user.status, user.body["email"].as_str()), (200, Some("ann@example.org")), "{}", user.body);

    // In another browser the same way ends without a session.
    let (callback, _) = begin();
    let (end, _) = visit(&callback, None);
    assert!(end.contains("bad_oauth_state") && !end.contains("access_token"), "{end}");
}
