//! Sign-up to sign-out.

use super::*;

#[tokio::test]
async fn signing_up_confirms_the_address_before_anybody_signs_in() {
    let server = Server::start().await;
    let body = json!({ "email": "Ann@Example.org", "password": PASSWORD, "data": { "name": "Ann" } });
    let made = server.call("POST", "/signup", Key::Anon, body).await.expect(200);
    assert_eq!((made.text("email"), made.text("aud"), made.text("role")), (ANN, "authenticated", "authenticated"));
    assert_eq!(made.body["user_metadata"]["name"], "Ann");
    assert_eq!(made.body["app_metadata"], json!({ "provider": "email", "providers": ["email"] }));
    assert_eq!(made.body["identities"][0]["identity_data"]["email"], ANN);
    assert!(made.body["email_confirmed_at"].is_null() && made.body.get("access_token").is_none());

    let refused = server.sign_in(ANN, PASSWORD).await;
    assert_eq!((refused.status, refused.code()), (400, "email_not_confirmed"));

    let mail = server.last_mail().await;
    assert_eq!((mail.kind.as_str(), mail.recipient.as_str(), mail.code().len()), ("confirmation", ANN, 6));
    let followed = server.call("GET", mail.link(), Key::Nothing, Value::Null).await.expect(303);
    let (to, fragment) = followed.location().split_once('#').unwrap();
    assert_eq!(to, "https://app.example.org");
    for part in ["access_token=", "refresh_token=", "token_type=bearer", "type=signup", "expires_in=3600"] {
        assert!(fragment.contains(part), "{part} in {fragment}");
    }
    let again = server.call("GET", mail.link(), Key::Nothing, Value::Null).await.expect(303);
    assert!(again.location().contains("error_code=otp_expired"), "{}", again.location());

    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    assert_eq!((session.text("token_type"), session.body["expires_in"].as_i64()), ("bearer", Some(3600)));
    let token = session.text("access_token");
    let claims = server.claims(token);
    let user = &session.body["user"];
    assert_eq!(claims["sub"], user["id"]);
    assert_eq!(claims["iss"], "https://base.example/p/proj_authtest/auth/v1");
    assert_eq!(claims["amr"][0]["method"], "password");
    let constant = json!({
        "aud": "authenticated", "role": "authenticated", "aal": "aal1", "email": ANN, "phone": "",
        "is_anonymous": false, "project_id": "proj_authtest",
    });
    for (name, value) in constant.as_object().unwrap() {
        assert_eq!(&claims[name], value, "{name}");
    }
    assert_eq!(claims["user_metadata"]["name"], "Ann");
    let read = server.call("GET", "/user", Key::User(token), Value::Null).await.expect(200);
    assert_eq!(&read.body["id"], &user["id"]);
    assert!(read.body["last_sign_in_at"].as_str().unwrap().ends_with('Z'));
    assert!(read.body.get("encrypted_password").is_none());
}

#[tokio::test]
async fn without_confirmation_signing_up_signs_in() {
    let server = Server::with(|settings| settings.mailer_autoconfirm = true).await;
    let made = server.call("POST", "/signup", Key::Anon, credentials()).await.expect(200);
    assert!(made.body["user"]["email_confirmed_at"].is_string());
    assert_eq!(made.body["user"]["identities"][0]["identity_data"]["email_verified"], true);
    server.call("GET", "/user", Key::User(made.text("access_token")), Value::Null).await.expect(200);
    let again = server.call("POST", "/signup", Key::Anon, credentials()).await;
    assert_eq!((again.status, again.code()), (422, "user_already_exists"));
    assert!(server.mails().await.is_empty());
}

#[tokio::test]
async fn users_change_what_is_theirs() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let other = server.sign_in(ANN, PASSWORD).await.expect(200);
    let token = session.text("access_token");
    let put = async |body: Value| server.call("PUT", "/user", Key::User(token), body).await;
    let user = put(json!({ "data": { "a": 1, "b": { "c": [2] } } })).await.expect(200);
    assert_eq!(user.body["user_metadata"]["b"]["c"], json!([2]));
    let user = put(json!({ "data": { "a": null, "d": "ü" } })).await.expect(200);
    assert_eq!(user.body["user_metadata"], json!({ "b": { "c": [2] }, "d": "ü", "email_verified": true }));

    let same = put(json!({ "password": PASSWORD })).await;
    assert_eq!((same.status, same.code()), (422, "same_password"));
    put(json!({ "password": "another good one" })).await.expect(200);
    assert_eq!(server.sign_in(ANN, PASSWORD).await.code(), "invalid_credentials");
    server.sign_in(ANN, "another good one").await.expect(200);
    // Whoever else was signed in knew the old one.
    assert_eq!(server.refresh(other.text("refresh_token")).await.code(), "refresh_token_not_found");
    server.refresh(session.text("refresh_token")).await.expect(200);
}

#[tokio::test]
async fn signing_out_ends_this_session_the_others_or_all() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    for (scope, ends) in [("local", [true, false]), ("others", [false, true]), ("global", [true, true])] {
        let sessions =
            [server.sign_in(ANN, PASSWORD).await.expect(200), server.sign_in(ANN, PASSWORD).await.expect(200)];
        let path = format!("/logout?scope={scope}");
        server.call("POST", &path, Key::User(sessions[0].text("access_token")), Value::Null).await.expect(204);
        for (session, ended) in sessions.iter().zip(ends) {
            let read = server.call("GET", "/user", Key::User(session.text("access_token")), Value::Null).await;
            let expected = if ended { (403, "session_not_found") } else { (200, "") };
            assert_eq!((read.status, read.code()), expected, "{scope}");
            assert_eq!(server.refresh(session.text("refresh_token")).await.status == 200, !ended, "{scope}");
        }
    }
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let refused = server.call("POST", "/logout?scope=x", Key::User(session.text("access_token")), Value::Null).await;
    assert_eq!((refused.status, refused.code()), (400, "validation_failed"));
}

#[tokio::test]
async fn anonymous_users_become_permanent() {
    let mut server = Server::with(|settings| settings.external_anonymous_users_enabled = true).await;
    let made = server.call("POST", "/signup", Key::Anon, json!({ "data": { "cart": [1] } })).await.expect(200);
    assert_eq!(made.body["user"]["is_anonymous"], true);
    assert_eq!(server.claims(made.text("access_token"))["is_anonymous"], true);
    let token = made.text("access_token");
    let refused = server.call("PUT", "/user", Key::User(token), json!({ "password": PASSWORD })).await;
    assert_eq!((refused.status, refused.code()), (422, "validation_failed"));
    server.call("PUT", "/user", Key::User(token), json!({ "email": ANN })).await.expect(200);
    let mail = server.last_mail().await;
    assert_eq!((mail.kind.as_str(), mail.recipient.as_str()), ("email_change", ANN));
    let body = json!({ "type": "email_change", "email": ANN, "token": mail.code() });
    let session = server.call("POST", "/verify", Key::Anon, body).await.expect(200);
    let user = &session.body["user"];
    assert_eq!((&user["is_anonymous"], &user["email"]), (&json!(false), &json!(ANN)));
    assert_eq!((&user["id"], &user["user_metadata"]["cart"]), (&made.body["user"]["id"], &json!([1])));
    assert_eq!(user["app_metadata"]["providers"], json!(["email"]));
    server
        .call("PUT", "/user", Key::User(session.text("access_token")), json!({ "password": PASSWORD }))
        .await
        .expect(200);
    server.sign_in(ANN, PASSWORD).await.expect(200);

    server.set(|settings| settings.external_anonymous_users_enabled = false);
    let refused = server.call("POST", "/signup", Key::Anon, json!({})).await;
    assert_eq!((refused.status, refused.code()), (422, "anonymous_provider_disabled"));
}

#[tokio::test]
async fn a_user_of_supabase_signs_in_and_gets_a_better_hash() {
    let server = Server::start().await;
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    // A row as a dump has it, without what newer versions added.
    let sql = format!(
        "insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, created_at,
            updated_at, raw_app_meta_data, raw_user_meta_data, confirmation_token, recovery_token)
         values ('00000000-0000-0000-0000-000000000000', '6f1c5a5e-5d3a-4e51-9f4e-1a2b3c4d5e6f', 'authenticated',
            'authenticated', '{ANN}', '{hash}', now(), now(), now(), '{{\"provider\": \"email\"}}', '{{}}', '', '')"
    );
    server.database.execute(&sql).await;
    server.sign_in(ANN, PASSWORD).await.expect(200);
    let ours = "select count(*) from auth.users where encrypted_password like '$argon2id$%'";
    assert_eq!(server.count(ours).await, 1);
    server.sign_in(ANN, PASSWORD).await.expect(200);
    assert_eq!(server.sign_in(ANN, "wrong").await.code(), "invalid_credentials");
}

#[tokio::test]
async fn what_anybody_may_read() {
    let server = Server::start().await;
    let get = async |path: &str| server.call("GET", path, Key::Nothing, Value::Null).await.expect(200).body;
    assert_eq!(get("/health").await["name"], "GoTrue");
    assert_eq!(get("/.well-known/jwks.json").await, json!({ "keys": [] }));
    let discovery = get("/.well-known/openid-configuration").await;
    assert_eq!(discovery["issuer"], "https://base.example/p/proj_authtest/auth/v1");
    let settings = get("/settings").await;
    assert_eq!((&settings["external"]["email"], &settings["disable_signup"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn triggers_of_the_project_run_in_the_transaction() {
    let server = Server::start().await;
    server
        .database
        .execute(
            "create table public.profiles (id uuid primary key references auth.users on delete cascade, name text not null);
             create function public.on_user() returns trigger language plpgsql security definer set search_path = '' as
             $$ begin insert into public.profiles values (new.id, new.raw_user_meta_data ->> 'name'); return new; end $$;
             create trigger on_user after insert on auth.users for each row execute function public.on_user()",
        )
        .await;
    let failed = server.call("POST", "/signup", Key::Anon, credentials()).await;
    assert_eq!((failed.status, failed.code()), (500, "unexpected_failure"));
    assert_eq!(failed.text("msg"), "Database error saving new user");
    for table in ["auth.users", "auth.identities", "auth.one_time_tokens", "_launchdb.mail_queue"] {
        assert_eq!(server.count(&format!("select count(*) from {table}")).await, 0, "{table}");
    }
    let body = json!({ "email": ANN, "password": PASSWORD, "data": { "name": "Ann" } });
    server.call("POST", "/signup", Key::Anon, body).await.expect(200);
    assert_eq!(server.count("select count(*) from public.profiles where name = 'Ann'").await, 1);
}
