//! `GET /admin/audit`

use axum::response::Response;

use super::page::Page;
use crate::cx::Cx;
use crate::error::Error;
use crate::response;
use crate::store::audit::audit_page;

pub(super) async fn list_entries(cx: &Cx) -> Result<Response, Error> {
    let page = Page::read(cx)?;
    let (scope, value): (&[&str], &str) = match cx.query_param("query") {
        None => (&[], ""),
        Some(query) => match query.split_once(':') {
            Some(("author", value)) => (&["actor_username", "actor_name"], value),
            Some(("action", value)) => (&["action"], value),
            Some(("type", value)) => (&["log_type"], value),
            _ => return Err(Error::invalid(format!("Invalid query scope: {query}"))),
        },
    };
    let (entries, total) = audit_page(&cx.pool, scope, value, page.per_page, page.offset()).await?;
    let mut response = response::ok(&entries)?;
    page.add_headers(cx, "/admin/audit", total, &mut response)?;
    Ok(response)
}
