//! Headers that keep a browser from being turned against the server's other pages (invariant 15).

use http::{HeaderMap, HeaderName, HeaderValue, header};

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox");

/// For every answer under a project's base: what a project serves shares an origin with the dashboard, so that its HTML
/// must not run. Whatever policy an answer has of its own, it is sandboxed by one of ours besides: browsers keep to all of
/// them, whereas what somebody else's text means is theirs to say.
///
/// A project's functions name headers of their own. What a browser applies to more than the answer (cookies, caches, service
/// workers, other addresses of the server) stays only where the origin is the project's own, on its custom domain:
/// `own_origin`. A subdomain is not, because cookies reach the domain above it. Cookies whose names begin with
/// `own_cookies` stay everywhere: the service that answers sets them itself, for a path of its own.
pub fn project(headers: &mut HeaderMap, own_origin: bool, own_cookies: Option<&str>) {
    if !own_origin && headers.keys().any(concerns_origin) {
        let is_own =
            |cookie: &&HeaderValue| own_cookies.is_some_and(|name| cookie.as_bytes().starts_with(name.as_bytes()));
        let kept: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().filter(is_own).cloned().collect();
        let names: Vec<HeaderName> = headers.keys().filter(|name| concerns_origin(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
        for cookie in kept {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.append(header::CONTENT_SECURITY_POLICY, SANDBOX);
}

/// Headers with which an answer speaks for its whole origin, or site.
fn concerns_origin(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "set-cookie"
            | "clear-site-data"
            | "service-worker-allowed"
            | "strict-transport-security"
            | "alt-svc"
            | "access-control-allow-credentials"
            | "access-control-allow-private-network"
            | "accept-ch"
            | "critical-ch"
            | "nel"
            | "report-to"
            | "reporting-endpoints"
            | "public-key-pins"
            | "expect-ct"
            | "origin-agent-cluster"
            | "supports-loading-mode"
            | "refresh"
    )
}

/// For the control plane: JSON that nobody frames or stores.
pub fn platform(headers: &mut HeaderMap, https: bool) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if_absent(headers, header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; sandbox");
    if_absent(headers, header::CACHE_CONTROL, "no-store");
    strict_transport(headers, https);
}

/// For the dashboard and the status page.
pub fn pages(headers: &mut HeaderMap, https: bool) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if_absent(
        headers,
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    );
    if_absent(headers, header::X_FRAME_OPTIONS, "DENY");
    if_absent(headers, header::REFERRER_POLICY, "same-origin");
    if_absent(headers, HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    if_absent(headers, HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()");
    strict_transport(headers, https);
}

/// Only where the public URL is https: a plain-http installation would lock itself out.
fn strict_transport(headers: &mut HeaderMap, https: bool) {
    if https {
        if_absent(headers, header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}

fn if_absent(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.entry(name).or_insert(HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projects_policy_is_a_sandbox() {
        let check = |own: &[&str]| {
            let mut headers = HeaderMap::new();
            for policy in own {
                headers.append(header::CONTENT_SECURITY_POLICY, policy.parse().unwrap());
            }
            project(&mut headers, false, None);
            // Each value is a policy of its own, and all of them count (CSP 3, section 4.2).
            let policies: Vec<_> = headers.get_all(header::CONTENT_SECURITY_POLICY).iter().collect();
            assert_eq!(policies, [own, &["sandbox"]].concat());
            assert_eq!(headers["x-content-type-options"], "nosniff");
        };
        check(&[]);
        check(&["default-src 'none'; sandbox"]);
        check(&["default-src *"]);
        check(&["sandbox allow-scripts allow-same-origin"]);
        // The first of a name counts in a policy; the second is ignored.
        check(&["sandbox allow-scripts allow-same-origin; sandbox"]);
        check(&["sandbox", "sandbox allow-scripts"]);
    }

    #[test]
    fn what_concerns_the_origin_stays_on_the_projects_own() {
        let check = |name: &'static str, stays: bool| {
            for own_origin in [true, false] {
                let mut headers = HeaderMap::new();
                for value in ["a", "b"] {
                    headers.append(name, HeaderValue::from_static(value));
                }
                project(&mut headers, own_origin, None);
                let left = headers.get_all(name).iter().count();
                assert_eq!(left, if own_origin || stays { 2 } else { 0 }, "{name}, own origin: {own_origin}");
            }
        };
        for name in ["set-cookie", "clear-site-data", "service-worker-allowed", "alt-svc", "refresh"] {
            check(name, false);
        }
        for name in ["location", "cache-control", "content-language", "x-total-count"] {
            check(name, true);
        }
    }

    #[test]
    fn a_services_own_cookies_stay() {
        let mut headers = HeaderMap::new();
        for value in ["session=1", "sb-oauth-1=2; Path=/p/x/auth/v1/callback", "x=sb-oauth-"] {
            headers.append(header::SET_COOKIE, HeaderValue::from_static(value));
        }
        project(&mut headers, false, Some("sb-oauth-"));
        let left: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(left, ["sb-oauth-1=2; Path=/p/x/auth/v1/callback"]);
    }
}
