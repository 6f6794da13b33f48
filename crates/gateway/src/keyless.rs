//! Which routes of a project answer without a key (contracts, section 3). Pure.
//!
//! These are links that a browser opens by itself (verify, authorize, callback, public and signed objects), documents
//! that anybody may read (keys, discovery, health), and S3, which brings a signature of its own.

use http::Method;
use web::ServiceKind;

/// Whether a service's route needs no key. `path` is relative to the service, as the client wrote it.
pub fn needs_no_key(service: ServiceKind, method: &Method, path: &str) -> bool {
    // A browser cannot add a key to its question, and asking changes nothing.
    if method == Method::OPTIONS {
        return true;
    }
    let open = match service {
        ServiceKind::Auth => auth(method, path),
        ServiceKind::Storage => storage(method, path),
        _ => false,
    };
    // What looks like an open route must be one however a service reads it.
    open && !has_dot_segment(path)
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn auth(method: &Method, path: &str) -> bool {
    match path {
        "/.well-known/jwks.json" | "/.well-known/openid-configuration" | "/authorize" | "/health" => is_read(method),
        // Some providers call back with a form; clients verify with POST.
        "/callback" | "/verify" => is_read(method) || method == Method::POST,
        _ => false,
    }
}

fn storage(method: &Method, path: &str) -> bool {
    const READ: [&str; 5] =
        ["/object/public/", "/object/info/public/", "/object/sign/", "/render/image/public/", "/render/image/sign/"];
    let is_or_below = |base: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if is_or_below("/s3") || is_or_below("/upload/resumable/sign") {
        return true;
    }
    // Making a signed URL (POST) needs a key, using it does not.
    (is_read(method) && (path == "/health" || READ.iter().any(|base| path.starts_with(base))))
        || (method == Method::PUT && path.starts_with("/object/upload/sign/"))
}

/// Whether a path has a `.` or `..` segment, also in percent-encoding.
fn has_dot_segment(path: &str) -> bool {
    let path = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
    path.split(['/', '\\']).any(|segment| segment == "." || segment == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_routes_are_few() {
        use ServiceKind::{Auth, Functions, Graphql, Realtime, Rest, Storage};
        let check = |service: ServiceKind, method: &str, path: &str, open: bool| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(needs_no_key(service, &method, path), open, "{service:?} {method} {path}");
        };
        for service in [Auth, Functions, Graphql, Realtime, Rest, Storage] {
            check(service, "OPTIONS", "/anything", true);
            check(service, "GET", "", false);
            check(service, "GET", "/", false);
            check(service, "POST", "/anything", false);
        }
        check(Rest, "GET", "/items", false);
        check(Rest, "GET", "/health", false);
        check(Auth, "GET", "/.well-known/jwks.json", true);
        check(Auth, "POST", "/.well-known/jwks.json", false);
        check(Auth, "GET", "/.well-known/openid-configuration", true);
        check(Auth, "GET", "/authorize", true);
        check(Auth, "POST", "/callback", true);
        check(Auth, "GET", "/verify", true);
        check(Auth, "GET", "/verify/x", false);
        check(Auth, "DELETE", "/verify", false);
        check(Auth, "GET", "/user", false);
        check(Auth, "POST", "/token", false);
        check(Auth, "GET", "/admin/users", false);
        check(Storage, "GET", "/object/public/avatars/a.png", true);
        check(Storage, "GET", "/object/public/avatars/folder%2Fa.png", true);
        check(Storage, "HEAD", "/object/public/avatars/a.png", true);
        check(Storage, "DELETE", "/object/public/avatars/a.png", false);
        check(Storage, "GET", "/object/publicity/a.png", false);
        check(Storage, "GET", "/object/avatars/a.png", false);
        check(Storage, "GET", "/object/sign/avatars/a.png", true);
        check(Storage, "POST", "/object/sign/avatars/a.png", false);
        check(Storage, "PUT", "/object/upload/sign/avatars/a.png", true);
        check(Storage, "POST", "/object/upload/sign/avatars/a.png", false);
        check(Storage, "GET", "/render/image/public/avatars/a.png", true);
        check(Storage, "PUT", "/s3/avatars/a.png", true);
        check(Storage, "GET", "/s3", true);
        check(Storage, "GET", "/s3x", false);
        check(Storage, "PATCH", "/upload/resumable/sign/abc", true);
        check(Storage, "PATCH", "/upload/resumable/abc", false);
        check(Storage, "GET", "/bucket", false);
        for trick in ["../authenticated/a", "%2e%2e/authenticated/a", "x/..%2Fa", ".%2E/a", "..%5ca", "./a", ".."] {
            check(Storage, "GET", &format!("/object/public/{trick}"), false);
        }
        check(Storage, "GET", "/object/public/avatars/..a.png", true);
    }
}
