//! Plain HTTP beside TLS: everything is sent on to the same address over https. The port is for people who type a name;
//! nothing is answered on it, so that no key travels in the clear twice.

use axum::Router;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::config::HTTPS_PORT;

/// Sends every request on to `port` of the host that it names, with its method and body (308).
pub(super) fn router(port: u16) -> Router {
    Router::new().fallback(move |request: Request| std::future::ready(send_on(&request, port)))
}

fn send_on(request: &Request, port: u16) -> Response {
    let named = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let authority = request.uri().authority().cloned().or_else(|| named?.parse::<Authority>().ok());
    let Some(authority) = authority else {
        return (StatusCode::BAD_REQUEST, "the request names no host\n").into_response();
    };
    let port = if port == HTTPS_PORT { String::new() } else { format!(":{port}") };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let location = format!("https://{}{port}{path}", authority.host());
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn it_leads_to_the_same_place_over_tls() {
        let check = |host: Option<&str>, target: &str, port: u16, expected: (u16, Option<&str>)| {
            let mut request = Request::builder().uri(target);
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            let response = send_on(&request.body(Body::empty()).unwrap(), port);
            let location = response.headers().get(header::LOCATION).map(|value| value.to_str().unwrap());
            assert_eq!((response.status().as_u16(), location), expected, "{host:?} {target}");
        };
        check(Some("db.example"), "/p/x?y=1", 443, (308, Some("https://db.example/p/x?y=1")));
        check(Some("db.example:80"), "/", 8443, (308, Some("https://db.example:8443/")));
        check(Some("[::1]:80"), "//evil.example", 443, (308, Some("https://[::1]//evil.example")));
        check(Some("user@db.example"), "/", 443, (308, Some("https://db.example/")));
        check(Some("db.example/x"), "/", 443, (400, None));
        check(Some(""), "/", 443, (400, None));
        check(None, "/", 443, (400, None));
    }
}
