//! Custom domains: names under which a project answers beside its own.
//!
//! Whoever has a domain's traffic sees the passwords and keys of its users, so a hostile owner would claim somebody
//! else's domain before they come. The server may be without a network to look a proof up in, so an administrator is
//! the proof: a claim of anybody else waits, without effect and in nobody's way, until one approves it.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::IntoResponse;
use base::ProjectRef;
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::platform::Platform;
use crate::request::{Fields, OwnerCx, ProjectCx, path_param};
use crate::store;
use crate::store::domain::Domain;
use crate::timestamp::Timestamp;

/// Domains and claims of one project.
const MOST_DOMAINS: usize = 20;
/// Claims that a list for administrators shows; more come up as these are dealt with.
const MOST_WAITING: i64 = 500;
/// Longest name (RFC 1035, section 2.3.4), in characters.
const LONGEST_NAME: usize = 253;

#[derive(Serialize)]
struct DomainView {
    domain: String,
    /// `active`, or `waiting` for an administrator.
    status: &'static str,
    created_at: Timestamp,
    approved_at: Option<Timestamp>,
}

impl From<Domain> for DomainView {
    fn from(domain: Domain) -> Self {
        Self {
            status: if domain.approved_at.is_some() { "active" } else { "waiting" },
            domain: domain.domain,
            created_at: domain.created_at,
            approved_at: domain.approved_at,
        }
    }
}

/// The `domain` of a path, in its stored form.
pub(crate) struct DomainName(String);

impl FromRequestParts<Platform> for DomainName {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, platform: &Platform) -> Result<Self, Error> {
        let text = path_param(parts, platform, "domain").await.ok_or(Error::NoSuchDomain)?;
        normal_form(&text).map(Self).map_err(|_| Error::NoSuchDomain)
    }
}

/// A host name as it is compared: ASCII (IDNA), in lower case, without a dot at its end. What is wrong with it otherwise.
fn normal_form(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.contains('*') {
        return Err("must not be a wildcard: name each host");
    }
    // Percent signs would be decoded here, and nowhere else.
    let host = if text.contains('%') { Err(()) } else { url::Host::parse(text).map_err(drop) };
    let domain = match host {
        Ok(url::Host::Domain(domain)) => domain,
        Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => return Err("must be a name, not an address"),
        Err(_) => return Err("must be a host name such as api.example.org"),
    };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let fits = domain.len() <= LONGEST_NAME && domain.split('.').count() > 1 && domain.split('.').all(is_label);
    if fits { Ok(domain) } else { Err("must be a host name such as api.example.org") }
}

/// Whether a host is `zone` or below it.
fn is_within(host: &str, zone: &str) -> bool {
    host.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a name belongs to the server itself: its own, and all below, where projects have theirs already.
fn is_own(platform: &Platform, host: &str) -> bool {
    let config = platform.config();
    let public = url::Url::parse(&config.public_url).ok().and_then(|url| url.host_str().map(str::to_ascii_lowercase));
    let domain = config.domain.as_deref().map(str::to_ascii_lowercase);
    is_within(host, "localhost") || public.into_iter().chain(domain).any(|zone| is_within(host, &zone))
}

/// Reads the field `domain`; empty when something is wrong with it.
fn read(fields: &mut Fields, platform: &Platform) -> String {
    let text = fields.required_text("domain", 4 * LONGEST_NAME);
    if text.is_empty() {
        return text;
    }
    match normal_form(&text) {
        Ok(domain) if is_own(platform, &domain) => fields.refuse("domain", "belongs to this server"),
        Ok(domain) => return domain,
        Err(problem) => fields.refuse("domain", problem),
    }
    String::new()
}

pub(crate) async fn list_domains(cx: ProjectCx) -> Result<Json<Value>, Error> {
    let db = cx.platform().db().await?;
    let domains = store::domain::domain_list(&**db, &cx.project_ref).await?;
    let domains: Vec<_> = domains.into_iter().map(DomainView::from).collect();
    Ok(Json(json!({ "domains": domains })))
}

pub(crate) async fn create_domain(cx: ProjectCx, mut fields: Fields) -> Result<impl IntoResponse, Error> {
    let domain = read(&mut fields, cx.platform());
    fields.finish()?;
    cx.require_present()?;
    let actor = cx.caller.actor();
    let approved = cx.caller.owner.is_admin;
    let mut db = cx.platform().db().await?;
    let tx = db.transaction().await?;
    store::project::project_touch_in_tx(&*tx, &cx.project_ref).await?;
    if store::domain::domain_list(&*tx, &cx.project_ref).await?.len() >= MOST_DOMAINS {
        return Err(Error::LimitReached("a project has at most 20 domains; remove one first"));
    }
    if store::domain::domain_is_taken(&*tx, &domain).await? {
        return Err(Error::DomainTaken);
    }
    let made = store::domain::domain_insert(&*tx, &cx.project_ref, &domain, approved).await.map_err(taken)?;
    let detail = json!({ "domain": domain, "approved": approved });
    store::audit::audit_insert(&*tx, &actor.entry(Some(&cx.project_ref), "domain.create", detail)).await?;
    tx.commit().await?;
    drop(db);
    cx.platform().directory().refresh(&cx.project_ref).await?;
    Ok((StatusCode::CREATED, Json(json!(DomainView::from(made)))))
}

/// Also of a deleted project, so that another one can have the name.
pub(crate) async fn delete_domain(cx: ProjectCx, DomainName(domain): DomainName) -> Result<Json<Value>, Error> {
    let actor = cx.caller.actor();
    let mut db = cx.platform().db().await?;
    let tx = db.transaction().await?;
    store::project::project_touch_in_tx(&*tx, &cx.project_ref).await?;
    let gone = store::domain::domain_delete(&*tx, &cx.project_ref, &domain).await?.ok_or(Error::NoSuchDomain)?;
    let detail = json!({ "domain": domain });
    store::audit::audit_insert(&*tx, &actor.entry(Some(&cx.project_ref), "domain.delete", detail)).await?;
    tx.commit().await?;
    drop(db);
    cx.platform().directory().refresh(&cx.project_ref).await?;
    Ok(Json(json!(DomainView::from(gone))))
}

/// Claims that wait for an administrator.
pub(crate) async fn list_waiting_domains(cx: OwnerCx) -> Result<Json<Value>, Error> {
    if !cx.owner.is_admin {
        return Err(Error::AdminRequired);
    }
    let db = cx.platform.db().await?;
    let waiting = store::domain::domain_list_waiting(&**db, MOST_WAITING).await?;
    let waiting: Vec<_> = waiting
        .into_iter()
        .map(|(domain, email)| {
            json!({
                "domain": domain.domain,
                "project_id": domain.project_id,
                "owner_email": email,
                "created_at": domain.created_at,
            })
        })
        .collect();
    Ok(Json(json!({ "domains": waiting })))
}

/// Gives a domain to one of the projects that claimed it.
pub(crate) async fn approve_domain(
    cx: OwnerCx,
    DomainName(domain): DomainName,
    mut fields: Fields,
) -> Result<Json<Value>, Error> {
    if !cx.owner.is_admin {
        return Err(Error::AdminRequired);
    }
    let project_id = fields.required_text("project_id", 45);
    fields.finish()?;
    let project_ref = ProjectRef::parse(&project_id).map_err(|_| Error::NoSuchDomain)?;
    let actor = cx.actor();
    let mut db = cx.platform.db().await?;
    let tx = db.transaction().await?;
    store::project::project_touch_in_tx(&*tx, &project_ref).await?;
    let approved = store::domain::domain_approve(&*tx, &project_ref, &domain).await.map_err(taken)?;
    let approved = approved.ok_or(Error::NoSuchDomain)?;
    let detail = json!({ "domain": domain });
    store::audit::audit_insert(&*tx, &actor.entry(Some(&project_ref), "domain.approve", detail)).await?;
    tx.commit().await?;
    drop(db);
    cx.platform.directory().refresh(&project_ref).await?;
    Ok(Json(json!(DomainView::from(approved))))
}

fn taken(error: tokio_postgres::Error) -> Error {
    let keys = [store::domain::DOMAIN_KEY, store::domain::CLAIM_KEY];
    if keys.iter().any(|key| store::violates(&error, key)) { Error::DomainTaken } else { error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (text, form) in [
            ("api.example.org", "api.example.org"),
            (" API.Example.org. ", "api.example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("ＡＰＩ.example.org", "api.example.org"),
        ] {
            assert_eq!(normal_form(text), Ok(form.to_owned()), "{text:?}");
        }
        for text in [
            "",
            "org",
            "*.example.org",
            "192.0.2.1",
            "127.1",
            "0x7f.1",
            "[2001:db8::1]",
            "2001:db8::1",
            "a..b",
            "-a.org",
            "a-.org",
            "a_b.org",
            "a b.org",
            "a.org:443",
            "https://a.org",
            "a.org/x",
            "user@a.org",
            "a.org..",
            ".a.org",
            "a%2eorg",
            "xn--.org",
        ] {
            assert!(normal_form(text).is_err(), "{text:?}");
        }
        assert!(normal_form(&format!("{}.org", "a".repeat(64))).is_err());
        assert!(normal_form(&format!("{}org", "abcdefgh.".repeat(30))).is_err());
    }

    #[test]
    fn a_zone_holds_itself_and_what_is_below() {
        assert!(is_within("db.example.org", "db.example.org") && is_within("x.db.example.org", "db.example.org"));
        assert!(!is_within("xdb.example.org", "db.example.org") && !is_within("example.org", "db.example.org"));
    }
}
