//! Messages through services, each of which is a server on loopback that answers as the service documents it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use base::Secret;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode};
use url::form_urlencoded::parse;

use super::server::Services;
use super::*;

const PHONE: &str = "49151123";
const TEXT: &str = "Your code is 123456";

/// What a service has to be asked, and what it may answer.
struct Case {
    name: &'static str,
    settings: Vec<(&'static str, &'static str)>,
    secrets: Vec<(&'static str, &'static str)>,
    path: &'static str,
    authorization: Option<String>,
    form: Vec<(&'static str, &'static str)>,
    good: (u16, Value),
    /// Answers that refuse, and the code that is said.
    bad: Vec<(u16, Value, &'static str)>,
}

fn cases() -> Vec<Case> {
    let twilio = |sender, field| Case {
        name: "twilio",
        settings: vec![("sms_twilio_account_sid", "AC1"), ("sms_twilio_message_service_sid", sender)],
        secrets: vec![("sms_twilio_auth_token", "a token: odd")],
        path: "/2010-04-01/Accounts/AC1/Messages.json",
        authorization: Some(format!("Basic {}", BASE64_STANDARD.encode("AC1:a token: odd"))),
        form: vec![("To", "+49151123"), (field, sender), ("Body", TEXT)],
        good: (201, json!({ "sid": "SM1", "status": "queued", "error_code": null })),
        bad: vec![
            (400, json!({ "code": 21211, "message": "The 'To' number is not valid", "status": 400 }), "21211"),
            (401, json!({ "code": 20003, "message": "Authenticate", "status": 401 }), "20003"),
            (201, json!({ "sid": "SM1", "status": "failed", "error_code": 30003 }), "30003"),
            (201, json!({ "sid": "SM1", "status": "undelivered", "error_code": "30005" }), "30005"),
            (200, Value::Null, "none"),
        ],
    };
    vec![
        twilio("MG7", "MessagingServiceSid"),
        twilio("+4915199", "From"),
        Case {
            name: "messagebird",
            settings: vec![("sms_messagebird_originator", "My App")],
            secrets: vec![("sms_messagebird_access_key", "key")],
            path: "/messages",
            authorization: Some("AccessKey key".to_owned()),
            form: vec![
                ("originator", "My App"),
                ("body", TEXT),
                ("recipients", PHONE),
                ("type", "sms"),
                ("datacoding", "unicode"),
            ],
            good: (201, json!({ "id": "1", "recipients": { "totalSentCount": 1 } })),
            bad: vec![
                (401, json!({ "errors": [{ "code": 2, "description": "Request not allowed" }] }), "2"),
                (201, json!({ "id": "1", "recipients": { "totalSentCount": 0 } }), "none"),
            ],
        },
        Case {
            name: "vonage",
            settings: vec![("sms_vonage_api_key", "key"), ("sms_vonage_from", "My App")],
            secrets: vec![("sms_vonage_api_secret", "a secret & more")],
            path: "/sms/json",
            authorization: None,
            form: vec![
                ("from", "My App"),
                ("to", PHONE),
                ("text", TEXT),
                ("api_key", "key"),
                ("api_secret", "a secret & more"),
            ],
            good: (200, json!({ "message-count": "1", "messages": [{ "message-id": "1", "status": "0" }] })),
            // They answer 200 whatever happened.
            bad: vec![
                (200, json!({ "messages": [{ "status": "4", "error-text": "Bad Credentials" }] }), "4"),
                (200, json!({ "messages": [{ "status": "0" }, { "status": "1", "error-text": "Throttled" }] }), "1"),
                (200, json!({ "messages": [] }), "none"),
            ],
        },
        Case {
            name: "textlocal",
            settings: vec![("sms_textlocal_sender", "MYAPP")],
            secrets: vec![("sms_textlocal_api_key", "key")],
            path: "/send",
            authorization: None,
            form: vec![("sender", "MYAPP"), ("apikey", "key"), ("message", TEXT), ("numbers", PHONE)],
            good: (200, json!({ "status": "success", "messages": [{ "id": "1" }] })),
            bad: vec![
                (
                    200,
                    json!({ "status": "failure", "errors": [{ "code": 3, "message": "Invalid login details" }] }),
                    "3",
                ),
                (500, json!({}), "none"),
            ],
        },
    ]
}

struct Heard {
    path: String,
    headers: HeaderMap,
    form: HashMap<String, String>,
}

/// A service that remembers what it was asked, and answers what it is told to.
#[derive(Clone)]
struct Service {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    answer: Arc<Mutex<(u16, Value)>>,
}

impl Service {
    async fn start(takes: Duration) -> Self {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let service = Self { url, heard: Arc::default(), answer: Arc::new(Mutex::new((200, Value::Null))) };
        let own = service.clone();
        let router = Router::new().fallback(move |request: Request| {
            let own = own.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let form = parse(&bytes).into_owned().collect();
                own.heard.lock().unwrap().push(Heard {
                    path: parts.uri.path().to_owned(),
                    headers: parts.headers,
                    form,
                });
                tokio::time::sleep(takes).await;
                let (status, body) = own.answer.lock().unwrap().clone();
                (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
            }
        });
        tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        service
    }

    fn answer(&self, status: u16, body: &Value) {
        *self.answer.lock().unwrap() = (status, body.clone());
    }

    fn last(&self) -> Heard {
        self.heard.lock().unwrap().pop().expect("it was asked")
    }
}

async fn server(service: &Service) -> Server {
    let services = Services { sms: Some(&service.url), ..Services::default() };
    Server::with_services(services, |settings| {
        settings.external_phone_enabled = true;
        settings.sms_max_frequency = 0;
        settings.rate_limit_sms_sent = 1_000;
    })
    .await
}

fn set_up(server: &mut Server, case: &Case) {
    server.set(|settings| {
        settings.sms_provider = Some(case.name.to_owned());
        settings.all = case.settings.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let secret = |(name, value): &(&str, &str)| ((*name).to_owned(), Secret::new((*value).to_owned()));
        settings.secrets = case.secrets.iter().map(secret).collect();
    });
}

async fn ask(server: &Server, phone: &str) -> Answer {
    server.call("POST", "/otp", Key::Anon, json!({ "phone": phone })).await
}

async fn check_case(server: &mut Server, service: &Service, case: &Case) {
    let name = case.name;
    set_up(server, case);
    service.answer(case.good.0, &case.good.1);
    ask(server, "+49 151 123").await.expect(200);
    let heard = service.last();
    assert_eq!(heard.path, case.path, "{name}");
    let shown = heard.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(shown, case.authorization, "{name}");
    let text = heard.form.values().find(|value| value.starts_with("Your code is ")).unwrap();
    let code = text.rsplit(' ').next().unwrap().to_owned();
    let expected: HashMap<String, String> =
        case.form.iter().map(|(name, value)| ((*name).to_owned(), value.replace("123456", &code))).collect();
    assert_eq!(heard.form, expected, "{name}");
    let body = json!({ "type": "sms", "phone": PHONE, "token": code });
    server.call("POST", "/verify", Key::Anon, body).await.expect(200);
    // What it refuses leaves nothing.
    for (status, answer, code) in &case.bad {
        service.answer(*status, answer);
        let refused = ask(server, "4915777").await.expect(422);
        assert_eq!(refused.code(), "sms_send_failed", "{name}");
        let message = refused.text("msg");
        assert!(message.ends_with(&format!("{name} refused it (status {status}, code {code})")), "{message}");
        assert!(!refused.body.to_string().contains("login details"), "{name}: {}", refused.body);
    }
    assert_eq!(server.count("select count(*) from auth.users where phone = '4915777'").await, 0, "{name}");
    service.heard.lock().unwrap().clear();
    for missing in case.settings.iter().chain(&case.secrets).map(|(name, _)| *name) {
        set_up(server, case);
        server.set(|settings| {
            settings.all.remove(missing);
            settings.secrets.remove(missing);
        });
        let refused = ask(server, PHONE).await.expect(422);
        assert_eq!(refused.code(), "sms_send_failed", "{name}");
        assert!(refused.text("msg").ends_with(&format!("the setting {missing} is missing")), "{}", refused.body);
    }
    assert!(service.heard.lock().unwrap().is_empty(), "{name}");
}

#[tokio::test]
async fn messages_go_out_through_every_service() {
    let service = Service::start(Duration::ZERO).await;
    let mut server = server(&service).await;
    for case in cases() {
        check_case(&mut server, &service, &case).await;
    }
    server.set(|settings| settings.sms_provider = Some("twilio_verify".to_owned()));
    let refused = ask(&server, PHONE).await.expect(422);
    assert!(refused.text("msg").contains("does not speak to twilio_verify"), "{}", refused.body);
}

#[tokio::test]
async fn what_is_not_latin_is_said_to_vonage() {
    let service = Service::start(Duration::ZERO).await;
    let mut server = server(&service).await;
    let case = cases().into_iter().find(|case| case.name == "vonage").unwrap();
    set_up(&mut server, &case);
    server.set(|settings| settings.sms_template = "Ваш код {{ .Code }}".to_owned());
    service.answer(case.good.0, &case.good.1);
    ask(&server, PHONE).await.expect(200);
    assert_eq!(service.last().form["type"], "unicode");
}

/// Whoever has no message to get waits as long as for one.
#[tokio::test]
async fn the_time_of_a_message_does_not_tell_whose_number_is_known() {
    let takes = Duration::from_millis(400);
    let service = Service::start(takes).await;
    let mut server = server(&service).await;
    set_up(&mut server, &cases()[0]);
    service.answer(201, &json!({ "status": "queued" }));
    let sign_up = async |phone: &str| {
        let began = Instant::now();
        let body = json!({ "phone": phone, "password": PASSWORD });
        server.call("POST", "/signup", Key::Anon, body).await.expect(200);
        began.elapsed()
    };
    let body = json!({ "phone": PHONE, "password": PASSWORD, "phone_confirm": true });
    server.call("POST", "/admin/users", Key::Secret, body).await.expect(200);
    for n in 0..3 {
        assert!(sign_up(&format!("4915200{n}")).await >= takes);
    }
    let sent = service.heard.lock().unwrap().len();
    for _ in 0..3 {
        let known = sign_up(PHONE).await;
        assert!(known >= takes, "{known:?}");
    }
    for (path, body) in [
        ("/resend", json!({ "type": "sms", "phone": "4915999" })),
        ("/resend", json!({ "type": "sms", "phone": PHONE })),
    ] {
        let began = Instant::now();
        server.call("POST", path, Key::Anon, body).await.expect(200);
        assert!(began.elapsed() >= takes, "{path}: {:?}", began.elapsed());
    }
    assert_eq!(service.heard.lock().unwrap().len(), sent);
}
