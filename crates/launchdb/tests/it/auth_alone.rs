//! `serve --only auth`: the auth service as a process of its own, beside the one that has everything else.

use serde_json::{Value, json};
use test_support::ScratchDir;

use crate::alone::Alone;
use crate::crash::post;
use crate::server::Server;

const EMAIL: &str = "ann@example.org";
const PASSWORD: &str = "correct horse battery";

#[test]
fn users_sign_up_at_the_auth_service_alone_and_use_the_data_api() {
    let home = ScratchDir::new();
    let mut server = Server::start(home.path(), &[]);
    let project = server.cli_json(&["project", "create", "shop"]);
    let id = project["id"].as_str().expect("an id").to_owned();
    server.cli(&["project", "settings", &id, "--set", r#"{"auth": {"mailer_autoconfirm": true}}"#]);
    server.cli(&[
        "project",
        "sql",
        &id,
        "create table notes (owner uuid default auth.uid(), text text);
         alter table notes enable row level security;
         create policy own on notes using (owner = auth.uid()) with check (owner = auth.uid());
         grant select, insert on notes to authenticated",
    ]);
    let connection = server.cli_json(&["project", "connection", &id]);
    let key = connection["anon_key"].as_str().expect("a key").to_owned();

    let elsewhere = ScratchDir::new();
    let alone = Alone::start(&server, "auth", elsewhere.path(), &[("ACCESS_TOKEN_TTL", "900")]);
    server.until("the auth service alone is healthy", |_| {
        (ureq::get(format!("{}/health", alone.url)).call().ok()?.status() == 200).then_some(())
    });
    let url = alone.url.clone();
    let call = |path: &str, body: Value| {
        post(&format!("{url}{path}"), &[("apikey", key.as_str())], &body).expect("the auth service answers")
    };
    // By both of its addresses.
    let credentials = json!({ "email": EMAIL, "password": PASSWORD });
    let (status, session) = call(&format!("/auth/{id}/signup"), credentials.clone());
    assert_eq!(status, 200, "{session}");
    // What the operator set counts where the project says nothing.
    assert_eq!(session["expires_in"], 900);
    let (status, session) = call(&format!("/p/{id}/auth/v1/token?grant_type=password"), credentials);
    assert_eq!(status, 200, "{session}");
    let token = session["access_token"].as_str().expect("a token");

    let notes = format!("{}/p/{id}/rest/v1/notes", server.url());
    let headers = |token: &str| [("apikey", key.clone()), ("authorization", format!("Bearer {token}"))];
    let headers = headers(token);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (status, body) = post(&notes, &headers, &json!({ "text": "mine" })).expect("the data API answers");
    assert_eq!(status, 201, "{body}");
    let answer = server.ask("GET", &notes, &headers, "");
    assert_eq!((answer.status, answer.body[0]["owner"].as_str()), (200, session["user"]["id"].as_str()));
    // A session of one process goes on in the other.
    let refresh = json!({ "refresh_token": session["refresh_token"] });
    let path = format!("{}/p/{id}/auth/v1/token?grant_type=refresh_token", server.url());
    let (status, body) = post(&path, &[("apikey", &key)], &refresh).expect("the server answers");
    assert_eq!(status, 200, "{body}");
    // It answers for nothing else, and its token is the project's only.
    let (status, _) = call(&format!("/p/{id}/rest/v1/notes"), json!({}));
    assert_ne!(status, 200);
    assert!(status >= 400, "{status}");
    let other = server.cli_json(&["project", "create", "other"]);
    let foreign = format!("{url}/auth/{}/user", other["id"].as_str().expect("an id"));
    let other_key = server.cli_json(&["project", "connection", "other"])["anon_key"].clone();
    let bearer = format!("Bearer {token}");
    let with = [("apikey", other_key.as_str().expect("a key")), ("authorization", bearer.as_str())];
    server.until("the new project is known there", |server| {
        (server.ask("GET", &foreign, &with, "").status == 401).then_some(())
    });

    alone.end();
}
