use super::*;

#[tokio::test]
async fn a_domain_leads_to_its_project_at_once() {
    let server = Server::start().await;
    let (id, other) = (server.project().await, server.project().await);
    let path = format!("/api/projects/{id}/domains");
    let made = server.ok("POST", &path, json!({ "domain": "API.Bücher.example." })).await;
    assert_eq!((&made["domain"], &made["status"]), (&json!("api.xn--bcher-kva.example"), &json!("active")));
    let found = server.projects.by_domain("api.xn--bcher-kva.example").unwrap();
    assert_eq!(found.project_ref.as_str(), id);
    let elsewhere = format!("/api/projects/{other}/domains");
    let same = json!({ "domain": "api.bücher.example" });
    check(
        &server,
        &[("POST", &path, same.clone(), 409, "domain_taken"), ("POST", &elsewhere, same, 409, "domain_taken")],
    )
    .await;
    for bad in [
        "192.0.2.1",
        "[::1]",
        "*.example.org",
        "example",
        "base.example",
        "x.proj-abc.base.example",
        "localhost",
        "app.localhost",
        "https://a.example.org",
        "a.example.org/x",
        "a b.example",
    ] {
        check(&server, &[("POST", &path, json!({ "domain": bad }), 400, "validation_failed")]).await;
    }
    let listed = server.ok("GET", &path, Value::Null).await;
    assert_eq!(listed["domains"].as_array().unwrap().len(), 1);
    server.ok("DELETE", &format!("{path}/api.b%C3%BCcher.example"), Value::Null).await;
    assert!(server.projects.by_domain("api.xn--bcher-kva.example").is_none());
    check(&server, &[("DELETE", &format!("{path}/api.bucher.example"), Value::Null, 404, "domain_not_found")]).await;
    for n in 0..20 {
        server.ok("POST", &path, json!({ "domain": format!("n{n}.example.org") })).await;
    }
    check(&server, &[("POST", &path, json!({ "domain": "n20.example.org" }), 409, "limit_reached")]).await;
}

#[tokio::test]
async fn a_claim_of_others_waits_for_an_administrator_and_keeps_nobody_out() {
    let server = Server::start().await;
    let (hostile, honest) = (server.other_owner().await, server.other_owner().await);
    let make = async |token: &str| {
        let made = server.call_as(token, "POST", "/api/projects", json!({ "name": "shop" })).await;
        let id = made.body["id"].as_str().unwrap().to_owned();
        let path = format!("/api/projects/{id}/domains");
        let claimed = server.call_as(token, "POST", &path, json!({ "domain": "shop.example.org" })).await;
        assert_eq!((claimed.status.as_u16(), &claimed.body["status"]), (201, &json!("waiting")), "{}", claimed.body);
        id
    };
    let (squatted, id) = (make(&hostile).await, make(&honest).await);
    assert!(server.projects.by_domain("shop.example.org").is_none());
    let waiting = server.ok("GET", "/api/domains", Value::Null).await;
    let projects: Vec<_> = waiting["domains"].as_array().unwrap().iter().map(|d| &d["project_id"]).collect();
    assert_eq!(projects, [&json!(squatted), &json!(id)]);

    let approve = "/api/domains/shop.example.org/approve";
    let refused = server.call_as(&hostile, "POST", approve, json!({ "project_id": squatted })).await;
    assert_eq!(refused.code(), "admin_required");
    assert_eq!(server.call_as(&hostile, "GET", "/api/domains", Value::Null).await.code(), "admin_required");
    assert_eq!(server.ok("POST", approve, json!({ "project_id": id })).await["status"], "active");
    assert_eq!(server.projects.by_domain("shop.example.org").unwrap().project_ref.as_str(), id);
    check(
        &server,
        &[
            ("POST", approve, json!({ "project_id": squatted }), 409, "domain_taken"),
            ("POST", approve, json!({ "project_id": "proj_nosuch" }), 404, "domain_not_found"),
        ],
    )
    .await;
}
