//! Previews of mails, and trying a mail server out.

use base::auth_settings::MailTemplate;
use serde_json::json;
use test_support::{SmtpOptions, SmtpServer};

use super::server::{Key, Server};

#[tokio::test]
async fn a_template_is_shown_before_anybody_gets_it() {
    let server = Server::with(|settings| {
        let own =
            MailTemplate { subject: "Hi {{ .Data.name }}".to_owned(), content: Some("<b>{{ .Token }}</b>".to_owned()) };
        settings.mails.insert("invite".to_owned(), own);
    })
    .await;
    let preview = async |body| server.call("POST", "/admin/mail/preview", Key::Secret, body).await;
    let answer = preview(json!({"template": "invite", "data": {"name": "Ann"}})).await.expect(200);
    assert_eq!((answer.text("subject"), answer.text("html")), ("Hi Ann", "<b>123456</b>"));
    let answer = preview(json!({"template": "recovery"})).await.expect(200);
    assert!(answer.text("text").contains("https://base.example/p/proj_authtest/auth/v1/verify?"), "{}", answer.body);
    let draft = json!({"template": "recovery", "content": "<a href=\"{{ .SiteURL }}\">{{ .Email }}</a>"});
    let answer = preview(draft).await.expect(200);
    assert_eq!(answer.text("html"), "<a href=\"https://app.example.org\">user@example.org</a>");
    for (body, what) in [
        (json!({"template": "nothing"}), "there is no mail called nothing"),
        (json!({"content": "a\n{{ if }}"}), "line 2"),
    ] {
        let answer = preview(body).await.expect(400);
        assert!(answer.text("msg").contains(what), "{}", answer.body);
    }
    let answer = server.call("POST", "/admin/mail/preview", Key::Anon, json!({})).await;
    assert_eq!(answer.expect(403).code(), "not_admin");
}

#[tokio::test]
async fn a_test_mail_says_what_the_mail_server_says() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let mut server = Server::start().await;
    let send = async |server: &Server| {
        server.call("POST", "/admin/mail/test", Key::Secret, json!({"email": "ann@example.org"})).await
    };
    let answer = send(&server).await.expect(422);
    assert!(answer.text("msg").contains("SMTP_HOST"), "{}", answer.body);
    let port = smtp.port();
    server.set(|settings| {
        settings.smtp_host = Some("127.0.0.1".to_owned());
        settings.smtp_port = Some(port);
        settings.smtp_admin_email = Some("app@example.org".to_owned());
    });
    send(&server).await.expect(200);
    assert_eq!(smtp.mails_to("ann@example.org", 1).await[0].from, "app@example.org");
    smtp.answer_next(&["550 not here"]);
    let answer = send(&server).await.expect(422);
    assert!(answer.text("msg").contains("550"), "{}", answer.body);
    // The same settings in a service that lets projects reach public addresses only.
    let answer = send(&server.closed().await).await.expect(422);
    assert!(answer.text("msg").contains("private address"), "{}", answer.body);
}
