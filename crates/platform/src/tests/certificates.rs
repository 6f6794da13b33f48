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
    }
    server.ok("DELETE", &format!("/api/projects/{id}"), Value::Null).await;
    check(&format!("{label}.base.example"), 404).await;
    check(&domain, 404).await;
}
