//! Reads that were planned before: the same request with other values in its filters needs no parsing and no planning.
//!
//! The pipeline stays the only place that decides anything. A request's *shape* is its bytes with the values of plain
//! comparisons (`id=eq.42`) taken out. When a shape comes for the second time, the pipeline runs once more on it with a
//! mark in place of each value. If every mark comes out as a whole parameter of the statement, once, and nowhere else, then
//! the plan does not depend on the values, and from then on they are put where their marks were.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use foldhash::fast::RandomState;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method, Uri, header, request};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, UnitWeighter};

use crate::api_request::{ApiRequest, url};
use crate::config::Config;
use crate::plan::{self, ActionPlan};
use crate::query::{self, MainQuery};
use crate::schema_cache::SchemaCache;

/// Shapes that are remembered for each project.
const KEPT: usize = 256;
/// Longer requests are planned each time, in bytes of their shape.
const LONGEST: usize = 2048;
/// Values of one request.
const MOST_VALUES: usize = 16;

/// Comparisons whose value is taken as it stands.
const PLAIN: [&str; 6] = ["eq.", "neq.", "gt.", "gte.", "lt.", "lte."];

/// Headers that decide how a read is answered; any other is for the gateway or for stored code.
const DECIDING: [HeaderName; 3] = [header::ACCEPT, header::RANGE, HeaderName::from_static("accept-profile")];

/// What two requests have in common that differ in their values only.
pub(crate) struct Shape<'a> {
    text: Vec<u8>,
    values: Vec<Cow<'a, str>>,
}

impl<'a> Shape<'a> {
    /// The shape of a read without a body; None for requests that are always planned.
    pub(crate) fn of(parts: &'a request::Parts) -> Option<Self> {
        let headers_only = match parts.method {
            Method::GET => b'G',
            Method::HEAD => b'H',
            _ => return None,
        };
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or(""));
        // Preferences may need the time zones; functions have arguments in place of filters.
        let unusual = parts.headers.contains_key("prefer") || path.len() < 2 || path.starts_with("/rpc/");
        if unusual || path.len() + query.len() > LONGEST {
            return None;
        }
        let mut text = Vec::with_capacity(path.len() + query.len() + 32);
        text.push(headers_only);
        text.extend_from_slice(path.as_bytes());
        for name in DECIDING {
            for value in parts.headers.get_all(&name) {
                text.extend_from_slice(b"\n");
                text.extend_from_slice(name.as_str().as_bytes());
                text.extend_from_slice(b":");
                text.extend_from_slice(value.as_bytes());
            }
        }
        let mut values = Vec::with_capacity(2);
        for piece in pieces(query) {
            text.extend_from_slice(b"\n&");
            match Piece::of(piece) {
                Piece::Whole(piece) => text.extend_from_slice(piece.as_bytes()),
                Piece::Comparison(head, value) => {
                    text.extend_from_slice(head.as_bytes());
                    // No query holds a line break, so that this cannot be the shape of another request.
                    text.extend_from_slice(b"\n?");
                    let value = url::decode(value, true);
                    // What the grammar takes for space around a value is not part of it.
                    let unusual = value.starts_with(char::is_whitespace) || value.contains(['\0', '\u{FFFD}']);
                    if value.is_empty() || unusual || values.len() == MOST_VALUES {
                        return None;
                    }
                    values.push(value);
                }
            }
        }
        (text.len() <= LONGEST).then_some(Self { text, values })
    }

    /// The same request with marks in place of its values.
    fn marked(&self, parts: &request::Parts) -> Option<request::Parts> {
        let mut uri = String::from(parts.uri.path());
        let mut count = 0;
        for (index, piece) in pieces(parts.uri.query().unwrap_or("")).enumerate() {
            uri.push(if index == 0 { '?' } else { '&' });
            match Piece::of(piece) {
                Piece::Whole(piece) => uri.push_str(piece),
                Piece::Comparison(head, _) => {
                    uri.push_str(head);
                    uri.push_str(&mark(count));
                    count += 1;
                }
            }
        }
        let (mut marked, ()) = http::Request::new(()).into_parts();
        marked.method = parts.method.clone();
        marked.uri = Uri::from(PathAndQuery::try_from(uri).ok()?);
        let copy = |headers: &mut HeaderMap, name: &HeaderName| {
            for value in parts.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        };
        DECIDING.iter().for_each(|name| copy(&mut marked.headers, name));
        Some(marked)
    }
}

/// What stands for a value. Unlikely in a schema, and if it is there all the same, the shape is just not remembered.
fn mark(index: usize) -> String {
    format!("launchdb-value-{index}-")
}

fn pieces(query: &str) -> impl Iterator<Item = &str> {
    query.split(['&', ';']).filter(|piece| !piece.is_empty())
}

enum Piece<'a> {
    /// Belongs to the shape as it is.
    Whole(&'a str),
    /// `column=eq.` and the value, not decoded.
    Comparison(&'a str, &'a str),
}

impl<'a> Piece<'a> {
    fn of(piece: &'a str) -> Self {
        let Some((name, value)) = piece.split_once('=') else { return Self::Whole(piece) };
        let last = name.rsplit('.').next().unwrap_or(name);
        if matches!(last, "select" | "order" | "limit" | "offset" | "and" | "or" | "columns" | "on_conflict") {
            return Self::Whole(piece);
        }
        let operation = value.strip_prefix("not.").unwrap_or(value);
        match PLAIN.iter().find(|plain| operation.starts_with(**plain)) {
            Some(plain) => {
                let head = piece.len() - operation.len() + plain.len();
                Self::Comparison(&piece[..head], &piece[head..])
            }
            None => Self::Whole(piece),
        }
    }
}

#[derive(PartialEq, Eq)]
struct Key(Box<[u8]>);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

struct KeyRef<'a>(&'a [u8]);

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.0 == *key.0
    }
}

/// A planned read, for any values.
pub(crate) struct PreparedRead {
    pub(crate) request: ApiRequest,
    pub(crate) plan: ActionPlan,
    query: MainQuery,
    /// For each value in turn, which parameter it is.
    slots: Vec<usize>,
}

impl PreparedRead {
    fn new(shape: &Shape<'_>, parts: &request::Parts, config: &Config, cache: &SchemaCache) -> Option<Self> {
        let marked = shape.marked(parts)?;
        let request = ApiRequest::parse(config, &marked, &Bytes::new()).ok()?;
        let plan = plan::action_plan(&request, config, cache).ok()?;
        let query = query::main_query(&plan, &request, config, cache.readers).ok()?;
        let main = query.main.as_ref()?;
        if !query.read_only || query.explain_count.is_some() {
            return None;
        }
        let find = |index: usize| {
            let mark = mark(index);
            let holds = |text: &[u8]| memchr::memmem::find(text, mark.as_bytes()).is_some();
            let mut found = main.params.iter().enumerate().filter(|(_, p)| p.as_deref().is_some_and(holds));
            let (Some((slot, param)), None) = (found.next(), found.next()) else { return None };
            let whole = param.as_deref() == Some(mark.as_bytes());
            (whole && !holds(main.sql.as_bytes())).then_some(slot)
        };
        let slots = (0..shape.values.len()).map(find).collect::<Option<Vec<usize>>>()?;
        Some(Self { request, plan, query, slots })
    }

    /// The statements with these values.
    pub(crate) fn query(&self, shape: &Shape<'_>) -> MainQuery {
        let mut query = self.query.clone();
        if let Some(main) = &mut query.main {
            for (slot, value) in self.slots.iter().zip(&shape.values) {
                if let Some(param) = main.params.get_mut(*slot) {
                    *param = Some(Bytes::copy_from_slice(value.as_bytes()));
                }
            }
        }
        query
    }
}

/// The prepared reads of one schema cache.
struct Shapes {
    schema_cache: Arc<SchemaCache>,
    /// None for a shape that came once, or that cannot be prepared.
    kept: Cache<Key, Option<Arc<PreparedRead>>, UnitWeighter, RandomState>,
}

/// The prepared reads of one instance.
#[derive(Default)]
pub(crate) struct PreparedReads(ArcSwapOption<Shapes>);

impl PreparedReads {
    pub(crate) fn get(&self, shape: &Shape<'_>, cache: &Arc<SchemaCache>) -> Option<Arc<PreparedRead>> {
        let shapes = self.0.load();
        let shapes = shapes.as_ref().filter(|shapes| Arc::ptr_eq(&shapes.schema_cache, cache))?;
        shapes.kept.get(&KeyRef(&shape.text))?
    }

    /// Notes that a read of this shape went through; the second time it is prepared.
    pub(crate) fn note(&self, shape: &Shape<'_>, parts: &request::Parts, config: &Config, cache: &Arc<SchemaCache>) {
        let present = self.0.load_full().filter(|shapes| Arc::ptr_eq(&shapes.schema_cache, cache));
        let shapes = present.unwrap_or_else(|| {
            let kept =
                Cache::with(KEPT, KEPT as u64, UnitWeighter, RandomState::default(), DefaultLifecycle::default());
            let fresh = Arc::new(Shapes { schema_cache: cache.clone(), kept });
            self.0.store(Some(fresh.clone()));
            fresh
        });
        let seen = shapes.kept.get(&KeyRef(&shape.text)).is_some();
        let prepared = if seen { PreparedRead::new(shape, parts, config, cache).map(Arc::new) } else { None };
        shapes.kept.insert(Key(shape.text.clone().into()), prepared);
    }
}

#[cfg(test)]
mod tests;
