use super::*;
use crate::openapi::path_parameters;
use crate::router::routes;

/// Whatever a route requires, nothing and the empty text are refused by the field's name.
#[tokio::test]
async fn no_required_field_may_be_left_out_or_empty() {
    let server = Server::start_with(|config| config.sign_up_allowed = true).await;
    let id = server.project().await;
    let mut seen = 0;
    for route in routes() {
        let path = path_parameters(route.path).iter().fold(route.path.to_owned(), |path, name| {
            let value = match *name {
                "id" => id.as_str(),
                "domain" => "a.example.org",
                _ => "1",
            };
            path.replace(&format!("{{{name}}}"), value)
        });
        for field in route.body.iter().filter(|field| field.required) {
            for empty in [Value::Null, json!("")] {
                let mut body = json!({});
                for other in route.body.iter().filter(|other| other.required) {
                    body[other.name] = json!("something long enough");
                }
                body[field.name] = empty;
                let answer = server.call(route.method.as_str(), &path, body.clone()).await;
                let problems = answer.body["error"]["details"].as_array().cloned().unwrap_or_default();
                let about: Vec<_> = problems.iter().filter(|problem| problem["field"] == field.name).collect();
                assert_eq!(
                    (answer.status.as_u16(), about.len()),
                    (400, 1),
                    "{} {path} {body}: {}",
                    route.method,
                    answer.body
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
    // Fields that need not be there may not be empty where that would be a value nobody means.
    for path in ["/api/owners", "/api/owners/set-password"] {
        check(&server, &[("POST", path, json!({ "email": OWNER, "password": "" }), 400, "validation_failed")]).await;
    }
}
