//! A change of address needs both addresses, if the project wants it so.

use super::*;

const NEW: &str = "new@example.org";

async fn begin(server: &Server) -> String {
    server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let token = session.text("access_token").to_owned();
    let user = server.call("PUT", "/user", Key::User(&token), json!({ "email": NEW })).await.expect(200);
    assert_eq!((user.text("email"), user.text("new_email")), (ANN, NEW));
    token
}

async fn email(server: &Server, token: &str) -> String {
    server.call("GET", "/user", Key::User(token), Value::Null).await.expect(200).text("email").to_owned()
}

#[tokio::test]
async fn both_addresses_have_to_agree() {
    let server = Server::start().await;
    let token = begin(&server).await;
    let mails = server.mails().await;
    let recipients: Vec<&str> = mails.iter().map(|mail| mail.recipient.as_str()).collect();
    assert_eq!(recipients, [NEW, ANN]);
    let body = json!({ "type": "email_change", "email": NEW, "token": mails[0].code() });
    let first = server.call("POST", "/verify", Key::Anon, body.clone()).await.expect(200);
    assert!(first.text("msg").contains("other email") && first.body.get("access_token").is_none());
    assert_eq!(email(&server, &token).await, ANN);
    // The same one once more is no second consent.
    assert_eq!(server.call("POST", "/verify", Key::Anon, body).await.code(), "otp_expired");
    let second = server.call("GET", mails[1].link(), Key::Nothing, Value::Null).await.expect(303);
    assert!(second.location().contains("access_token="), "{}", second.location());
    assert_eq!(email(&server, &token).await, NEW);
    server.sign_in(NEW, PASSWORD).await.expect(200);
    assert_eq!(server.sign_in(ANN, PASSWORD).await.code(), "invalid_credentials");
    let identity = "select count(*) from auth.identities where email = 'new@example.org'";
    assert_eq!(server.count(identity).await, 1);
}

#[tokio::test]
async fn the_new_address_alone_is_enough_where_the_project_says_so() {
    let server = Server::with(|settings| settings.mailer_secure_email_change_enabled = false).await;
    let token = begin(&server).await;
    let mails = server.mails().await;
    assert_eq!(mails.len(), 1);
    let body = json!({ "type": "email_change", "email": NEW, "token": mails[0].code() });
    server.call("POST", "/verify", Key::Anon, body).await.expect(200);
    assert_eq!(email(&server, &token).await, NEW);
}

#[tokio::test]
async fn an_address_that_is_taken_cannot_be_changed_to() {
    let server = Server::start().await;
    server.user(NEW, PASSWORD).await;
    server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let put = server.call("PUT", "/user", Key::User(session.text("access_token")), json!({ "email": NEW })).await;
    assert_eq!((put.status, put.code()), (422, "email_exists"));
}

#[tokio::test]
async fn an_address_that_was_taken_meanwhile_is_an_error_and_no_mixture() {
    let server = Server::with(|settings| settings.mailer_secure_email_change_enabled = false).await;
    begin(&server).await;
    let mail = server.last_mail().await;
    server.user(NEW, "somebody else's password").await;
    let body = json!({ "type": "email_change", "email": NEW, "token": mail.code() });
    let late = server.call("POST", "/verify", Key::Anon, body).await;
    assert_eq!((late.status, late.code()), (422, "email_exists"));
    server.sign_in(ANN, PASSWORD).await.expect(200);
    server.sign_in(NEW, "somebody else's password").await.expect(200);
}
