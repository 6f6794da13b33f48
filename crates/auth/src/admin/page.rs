//! Pages of lists (GoTrue's: `page` from 1, `per_page`), and the headers that clients go on with.

use axum::response::Response;
use http::{HeaderName, HeaderValue, header};

use crate::cx::Cx;
use crate::error::Error;

const DEFAULT_PER_PAGE: i64 = 50;
const MOST_PER_PAGE: i64 = 1000;

pub(super) struct Page {
    pub(super) number: i64,
    pub(super) per_page: i64,
}

impl Page {
    pub(super) fn read(cx: &Cx) -> Result<Self, Error> {
        let number = |name: &str, default: i64| match cx.query_param(name) {
            None => Ok(default),
            Some(text) => text
                .parse::<i64>()
                .ok()
                .filter(|number| (1..=1_000_000_000).contains(number))
                .ok_or_else(|| Error::invalid(format!("Bad Pagination Parameters: {name} must be a number from 1"))),
        };
        let per_page = number("per_page", DEFAULT_PER_PAGE)?.min(MOST_PER_PAGE);
        Ok(Self { number: number("page", 1)?, per_page })
    }

    pub(super) fn offset(&self) -> i64 {
        (self.number - 1) * self.per_page
    }

    /// Adds `X-Total-Count` and `Link`; the page comes first in its URLs, because auth-js looks there.
    pub(super) fn add_headers(&self, cx: &Cx, path: &str, total: i64, response: &mut Response) -> Result<(), Error> {
        let last = total.div_euclid(self.per_page) + i64::from(total % self.per_page > 0);
        let url = |page: i64| format!("{}{path}?page={page}&per_page={}", cx.auth_url(), self.per_page);
        let mut links = Vec::new();
        if last > self.number {
            links.push(format!("<{}>; rel=\"next\"", url(self.number + 1)));
        }
        links.push(format!("<{}>; rel=\"last\"", url(last)));
        let link = HeaderValue::try_from(links.join(", "));
        let link = link.map_err(|error| Error::internal("The public URL is unusable", error))?;
        let headers = response.headers_mut();
        headers.insert(header::LINK, link);
        headers.insert(HeaderName::from_static("x-total-count"), HeaderValue::from(total));
        Ok(())
    }
}
