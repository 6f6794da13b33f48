//! Whom certificates are got for.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn only_names_of_this_server_and_its_projects_get_certificates() {
    let server = Server::start().await;
    let id = server.project().await;
    let label = id.replace('_', "-");
    let domains = format!("/api/projects/{id}/domains");
    let domain = format!("api{}.example.org", random::hex::<3>());
    server.ok("POST", &domains, json!({ "domain": domain })).await;
    let check = async |domain: &str, status: u16| {
        let answer = server.call_as("", "GET", &format!("/api/tls/ask?domain={domain}"), Value::Null).await;
        assert_eq!(answer.status, status, "{domain}: {}", answer.body);
    };
    check("base.example", 200).await;
    check("BASE.example.", 200).await;
    check(&format!("{label}.base.example"), 200).await;
    check(&domain, 200).await;
    check("proj-nobody.base.example", 404).await;
    check(&format!("x.{label}.base.example"), 404).await;
    check("other.base.example", 404).await;
    check("example.org", 404).await;
    check("", 400).await;
    for (action, status) in [("suspend", 404), ("resume", 200)] {
        server.ok("POST", &format!("/api/projects/{id}/{action}"), Value::Null).await;
        check(&format!("{label}.base.example"), status).await;
        check(&domain, status).await;
    }
    server.ok("DELETE", &format!("/api/projects/{id}"), Value::Null).await;
    check(&format!("{label}.base.example"), 404).await;
    check(&domain, 404).await;
}

/// The name of a fresh project of an owner, below the server's own.
async fn name_of_new_project(server: &Server, token: &str) -> String {
    let body = json!({ "name": format!("project {}", random::hex::<4>()) });
    let answer = server.call_as(token, "POST", "/api/projects", body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    format!("{}.base.example", answer.body["id"].as_str().unwrap().replace('_', "-"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_owner_leaves_certificates_for_the_others() {
    let server = Server::start_with(|config| config.new_certificates_per_week = 4).await;
    let ask = async |name: &str| {
        let answer = server.call_as("", "GET", &format!("/api/tls/ask?domain={name}"), Value::Null).await;
        answer.status.as_u16()
    };
    let (greedy, other) = (server.other_owner().await, server.other_owner().await);
    let of_greedy = [
        name_of_new_project(&server, &greedy).await,
        name_of_new_project(&server, &greedy).await,
        name_of_new_project(&server, &greedy).await,
    ];
    for (name, status) in of_greedy.iter().zip([200, 200, 429]) {
        assert_eq!(ask(name).await, status, "{name}");
    }
    // One that is deleted gives nothing back.
    let id = of_greedy[0].split('.').next().unwrap().replace('-', "_");
    let deleted = server.call_as(&greedy, "DELETE", &format!("/api/projects/{id}"), Value::Null).await;
    assert!(deleted.status.is_success());
    assert_eq!((ask(&of_greedy[0]).await, ask(&of_greedy[1]).await, ask(&of_greedy[2]).await), (404, 200, 429));

    let of_other = name_of_new_project(&server, &other).await;
    assert_eq!(ask(&of_other).await, 200, "others have their share");
    // An administrator takes what is left for all, and no more. The server's own name and custom domains count for nothing.
    let token = server.token.clone();
    let of_admin = [name_of_new_project(&server, &token).await, name_of_new_project(&server, &token).await];
    assert_eq!((ask(&of_admin[0]).await, ask(&of_admin[1]).await), (200, 429));
    assert_eq!(ask("base.example").await, 200);
    let id = of_admin[1].split('.').next().unwrap().replace('-', "_");
    let domain = format!("api{}.example.org", random::hex::<3>());
    server.ok("POST", &format!("/api/projects/{id}/domains"), json!({ "domain": domain })).await;
    assert_eq!(ask(&domain).await, 200);

    // A week later there is room again, and what was allowed once stays so.
    let client = server.cluster.connect(&server.platform.config().database.database).await;
    let older = "update platform.certificate_names set first_wanted_at = first_wanted_at - interval '8 days'";
    client.execute(older, &[]).await.unwrap();
    assert_eq!((ask(&of_admin[1]).await, ask(&of_greedy[2]).await, ask(&of_greedy[1]).await), (200, 200, 200));
}
