//! From host and path to project and service. Pure; the path is compared as it was sent, never decoded, so that no
//! spelling of it means one thing here and another in a service.

use std::borrow::Cow;

use web::ServiceKind;

/// Where a request leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    Project {
        project: Locator<'a>,
        service: ServiceKind,
        /// The path as the service sees it; begins with `/` or is empty, which means `/`.
        path: &'a str,
    },
    /// `/api/...`, as it is.
    Platform,
    Health,
    /// The status page or dashboard.
    Pages,
    Nowhere,
}

/// How a request names its project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator<'a> {
    /// What stands where an id belongs; whether it is one, the table of projects says.
    Id(Cow<'a, str>),
    /// A custom domain, in lower case.
    Domain(&'a str),
}

const SERVICES: [(&str, ServiceKind); 6] = [
    ("/rest/v1", ServiceKind::Rest),
    ("/auth/v1", ServiceKind::Auth),
    ("/storage/v1", ServiceKind::Storage),
    ("/realtime/v1", ServiceKind::Realtime),
    ("/functions/v1", ServiceKind::Functions),
    ("/graphql/v1", ServiceKind::Graphql),
];

/// Aliases of the specification: `/db/<id>/...` and so on.
const ALIASES: [(&str, ServiceKind); 3] =
    [("/db/", ServiceKind::Rest), ("/auth/", ServiceKind::Auth), ("/storage/", ServiceKind::Storage)];

/// The host of a request: without port, in lower case. None for what cannot be one.
pub fn host_name(host: &str) -> Option<Cow<'_, str>> {
    let name = match host.strip_prefix('[') {
        Some(ipv6) => ipv6.split(']').next()?,
        None => host.split(':').next()?,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.bytes().any(|b| b.is_ascii_uppercase()) {
        _ if name.is_empty() => None,
        true => Some(name.to_ascii_lowercase().into()),
        false => Some(name.into()),
    }
}

/// Finds the target. `domain` is the server's own; `is_custom_domain` says whether a host belongs to a project.
pub fn route<'a>(
    host: Option<&'a str>,
    path: &'a str,
    domain: Option<&str>,
    is_custom_domain: impl FnOnce(&str) -> bool,
) -> Target<'a> {
    if let Some(host) = host {
        let label = domain.and_then(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
        if let Some(rest) = label.and_then(|label| label.strip_prefix("proj-")).filter(|rest| !rest.contains('.')) {
            return of_project(Locator::Id(format!("proj_{rest}").into()), path);
        }
        if Some(host) != domain && is_custom_domain(host) {
            return of_project(Locator::Domain(host), path);
        }
    }
    if let Some(rest) = path.strip_prefix("/p/") {
        let (id, path) = split_segment(rest);
        return of_project(Locator::Id(id.into()), path);
    }
    for (prefix, service) in ALIASES {
        if let Some(rest) = path.strip_prefix(prefix) {
            let (id, path) = split_segment(rest);
            return Target::Project { project: Locator::Id(id.into()), service, path };
        }
    }
    match path {
        "/health" | "/api/health" => Target::Health,
        "/" => Target::Pages,
        _ if path == "/api" || path.starts_with("/api/") => Target::Platform,
        _ => Target::Nowhere,
    }
}

fn of_project<'a>(project: Locator<'a>, path: &'a str) -> Target<'a> {
    for (prefix, service) in SERVICES {
        if let Some(rest) = path.strip_prefix(prefix)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return Target::Project { project, service, path: rest };
        }
    }
    Target::Nowhere
}

/// The first segment, and what follows it with its slash.
fn split_segment(path: &str) -> (&str, &str) {
    path.split_at(path.find('/').unwrap_or(path.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, path: &str, expected: &str) {
        let host = host_name(host);
        let target = route(host.as_deref(), path, Some("base.example"), |host| host == "api.shop.example");
        let text = match target {
            Target::Project { project, service, path } => {
                let project = match project {
                    Locator::Id(id) => id.to_string(),
                    Locator::Domain(domain) => domain.to_owned(),
                };
                format!("{project} {} {path}", service.name())
            }
            other => format!("{other:?}"),
        };
        assert_eq!(text, expected, "{host:?} {path}");
    }

    #[test]
    fn three_bases_and_the_aliases() {
        check("base.example", "/p/proj_abc/rest/v1/items", "proj_abc rest /items");
        check("base.example", "/p/proj_abc/rest/v1", "proj_abc rest ");
        check("base.example", "/p/proj_abc/rest/v1/", "proj_abc rest /");
        check("base.example", "/p/proj_abc/auth/v1/token", "proj_abc auth /token");
        check("proj-abc.base.example", "/rest/v1/items", "proj_abc rest /items");
        check("PROJ-ABC.Base.Example:8000", "/rest/v1/items", "proj_abc rest /items");
        check("api.shop.example", "/storage/v1/object/x", "api.shop.example storage /object/x");
        check("API.shop.example.:443", "/rest/v1/x", "api.shop.example rest /x");
        check("base.example", "/db/proj_abc/items", "proj_abc rest /items");
        check("base.example", "/auth/proj_abc/signup", "proj_abc auth /signup");
        check("base.example", "/storage/proj_abc/bucket/a/b", "proj_abc storage /bucket/a/b");
        check("127.0.0.1:8000", "/p/proj_abc/graphql/v1", "proj_abc graphql ");
    }

    #[test]
    fn the_control_plane_and_pages() {
        check("base.example", "/api/projects", "Platform");
        check("base.example", "/api/health", "Health");
        check("[::1]:8000", "/health", "Health");
        check("base.example", "/", "Pages");
        check("base.example", "/apix", "Nowhere");
        check("base.example", "/favicon.ico", "Nowhere");
    }

    #[test]
    fn tricks_lead_nowhere_or_to_an_unknown_project() {
        check("base.example", "/p/proj_abc/rest/v10/items", "Nowhere");
        check("base.example", "/p/proj_abc//rest/v1/items", "Nowhere");
        check("base.example", "/p/proj_abc", "Nowhere");
        check("base.example", "/p//rest/v1/items", " rest /items");
        check("base.example", "/p/proj_abc%2f/rest/v1/x", "proj_abc%2f rest /x");
        check("base.example", "/p/proj_abc/../proj_xyz/rest/v1/x", "Nowhere");
        check("base.example", "/p/PROJ_ABC/rest/v1/x", "PROJ_ABC rest /x");
        check("base.example", "//p/proj_abc/rest/v1/x", "Nowhere");
        check("base.example", "/%70/proj_abc/rest/v1/x", "Nowhere");
        check("proj-abc.evil.base.example", "/rest/v1/x", "Nowhere");
        check("proj-.base.example", "/rest/v1/x", "proj_ rest /x");
        check("proj-abc.base.example", "/api/projects", "Nowhere");
        check("xbase.example", "/p/proj_abc/rest/v1/x", "proj_abc rest /x");
        check("", "/p/proj_abc/rest/v1/x", "proj_abc rest /x");
    }
}
