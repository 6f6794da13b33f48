//! Where a user is sent in the end: only to places that the project has listed (GoTrue's rules for `uri_allow_list`).

mod pattern;

use base::AuthSettings;
use base::auth_settings::redirect_patterns;
use url::form_urlencoded::Serializer;
use url::{Host, Url};

use self::pattern::Budget;

/// Longest URL that is taken from a request, in bytes.
const LONGEST: usize = 4096;

/// The first of `candidates` that the project allows, or its site.
pub(crate) fn choose<'a>(settings: &AuthSettings, candidates: impl IntoIterator<Item = Option<&'a str>>) -> String {
    let mut budget = Budget::new();
    let allowed = candidates.into_iter().flatten().find(|candidate| fits(settings, candidate, &mut budget));
    allowed.unwrap_or(&settings.site_url).to_owned()
}

/// Whether a URL leads to the project's site or matches an entry of its list.
pub(crate) fn is_allowed(settings: &AuthSettings, candidate: &str) -> bool {
    fits(settings, candidate, &mut Budget::new())
}

fn fits(settings: &AuthSettings, candidate: &str, budget: &mut Budget) -> bool {
    // Browsers read a backslash as a slash and drop control characters: what looks like one host would be another.
    if candidate.is_empty()
        || candidate.len() > LONGEST
        || !candidate.is_ascii()
        || candidate.bytes().any(|b| b.is_ascii_control() || b == b' ' || b == b'\\')
    {
        return false;
    }
    let Ok(url) = Url::parse(candidate) else { return false };
    let is_http = matches!(url.scheme(), "http" | "https");
    // Schemes that run or show something in place of going somewhere.
    let runs = matches!(url.scheme(), "javascript" | "data" | "vbscript" | "file" | "blob" | "about" | "view-source");
    if runs || is_http && (!url.username().is_empty() || url.password().is_some()) {
        return false;
    }
    // `https:evil.example` and `https:/evil.example` mean a host to browsers; a list is written against `scheme://`.
    let behind_scheme = candidate.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
    let authority = behind_scheme.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or(rest));
    // Hosts are decoded when they are read: `evil%2Ecom%3F` is another one than it looks.
    if is_http && authority.is_none_or(|authority| authority.contains('%')) {
        return false;
    }
    if is_site(settings, &url) {
        return true;
    }
    match url.host() {
        // An IP address is no place to send users to, this machine aside.
        Some(Host::Ipv4(ip)) if !ip.is_loopback() => return false,
        Some(Host::Ipv6(ip)) if !ip.is_loopback() => return false,
        _ => {}
    }
    // As browsers will read it, without the fragment.
    let read = &url[..url::Position::AfterQuery];
    let authority = url[..url::Position::BeforePath].len();
    redirect_patterns(&settings.uri_allow_list).any(|entry| pattern::matches(entry, read, authority, budget))
}

/// Same scheme, host and port as the site; any port on this machine, because native applications listen on what is free
/// (RFC 8252, section 7.3).
fn is_site(settings: &AuthSettings, url: &Url) -> bool {
    let Ok(site) = Url::parse(&settings.site_url) else { return false };
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    site.scheme() == url.scheme()
        && site.host() == url.host()
        && site.host().is_some()
        && (loopback || site.port_or_known_default() == url.port_or_known_default())
}

/// `url` with these parameters in its query, in place of such of the same name.
pub(crate) fn with_query(url: &str, params: &[(&str, &str)]) -> String {
    let (rest, fragment) = url.split_once('#').map_or((url, None), |(rest, fragment)| (rest, Some(fragment)));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut serializer = Serializer::new(String::new());
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if !params.iter().any(|(own, _)| *own == name) {
            serializer.append_pair(&name, &value);
        }
    }
    for (name, value) in params {
        serializer.append_pair(name, value);
    }
    let query = serializer.finish();
    let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
    format!("{path}?{query}{fragment}")
}

/// `url` with these parameters as its fragment, where no server sees them.
pub(crate) fn with_fragment(url: &str, params: &[(&str, &str)]) -> String {
    let rest = url.split('#').next().unwrap_or(url);
    let fragment = Serializer::new(String::new()).extend_pairs(params).finish();
    format!("{rest}#{fragment}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(list: &str) -> AuthSettings {
        AuthSettings {
            site_url: "https://app.example.org/welcome".to_owned(),
            uri_allow_list: list.to_owned(),
            ..AuthSettings::default()
        }
    }

    #[test]
    fn only_listed_places_are_allowed() {
        let list =
            "https://*.preview.example.com/**, myapp://callback, http://localhost:3000/*,https://one.example/exact";
        let settings = settings(list);
        let check = |url: &str, allowed: bool| assert_eq!(is_allowed(&settings, url), allowed, "{url}");
        check("https://app.example.org/anything?x=1#y", true);
        check("https://app.example.org", true);
        check("https://a.preview.example.com/x/y?z", true);
        check("myapp://callback", true);
        check("http://localhost:3000/x", true);
        check("https://one.example/exact", true);
        check("https://one.example/exact#fragment", true);
        check("", false);
        check("/relative", false);
        check("http://app.example.org/", false);
        check("https://app.example.org:8443/", false);
        check("https://app.example.org.evil.example/", false);
        check("https://evil.example/?https://app.example.org", false);
        check("https://a.b.preview.example.com/", false);
        check("https://preview.example.com/", false);
        check("https://evil.example/.preview.example.com/", false);
        check("https://evil.example#.preview.example.com/x", false);
        check("https://evil%2Eexample?.preview.example.com/x", false);
        check("https://evil%E3%80%82example?.preview.example.com/x", false);
        check("https://evil.example?.preview.example.com/x", false);
        check("https://a.preview.example.com/../x%2Ey", true);
        check("http://localhost:3000/x/y", false);
        check("https://one.example/exact/more", false);
        check("myapp://other", false);
    }

    #[test]
    fn alternatives_have_commas_of_their_own() {
        let settings = settings("https://{a,b}.example.com/**, myapp://{x,y},https://c.example.com");
        let check = |url: &str, allowed: bool| assert_eq!(is_allowed(&settings, url), allowed, "{url}");
        check("https://a.example.com/in", true);
        check("https://b.example.com/in", true);
        check("myapp://y", true);
        check("https://c.example.com", true);
        check("https://d.example.com/in", false);
    }

    #[test]
    fn tricks_do_not_leave_the_site() {
        let everything = settings("**");
        for url in [
            "https://app.example.org@evil.example/",
            "https://app.example.org:x@evil.example/",
            "https://app.example.org\\@evil.example/",
            "https:\\\\evil.example",
            "https:evil.example",
            "https:/evil.example",
            "//evil.example",
            "https://evil.example\r\nset-cookie: a=b",
            "https://app.example.org\t.evil.example",
            "javascript:alert(1)",
            "JavaScript:alert(1)//https://app.example.org",
            "data:text/html,x",
            "https://10.0.0.1/",
            "https://2130706433.evil/\u{2028}",
            "https://[2001:db8::1]/",
        ] {
            assert!(!is_allowed(&everything, url), "{url:?}");
        }
        assert!(is_allowed(&everything, "https://any.example/x"));
        let choose = |url| choose(&settings(""), [Some(url)]);
        assert_eq!(choose("https://evil.example"), "https://app.example.org/welcome");
    }

    #[test]
    fn any_port_of_this_machine_is_the_site_when_the_site_is_there() {
        let local = AuthSettings { site_url: "http://localhost:3000".to_owned(), ..AuthSettings::default() };
        assert!(is_allowed(&local, "http://localhost:54321/x"));
        assert!(!is_allowed(&local, "http://127.0.0.1:3000/x"));
        assert!(!is_allowed(&local, "https://localhost:3000/x"));
    }

    #[test]
    fn parameters_are_added_in_their_place() {
        assert_eq!(with_query("https://a.b/c?x=1&code=old#f", &[("code", "a b")]), "https://a.b/c?x=1&code=a+b#f");
        assert_eq!(with_query("myapp://x", &[("code", "1")]), "myapp://x?code=1");
        assert_eq!(with_fragment("https://a.b/c?x=1#old", &[("a", "1&2")]), "https://a.b/c?x=1#a=1%262");
    }
}
