//! The query string: `select`, `order`, `limit`, filters and logic trees (PostgREST `ApiRequest.QueryParams`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::parser::{Rule, parse};
use super::types::{EmbedPath, Filter, LogicTree, OpExpr, OrderTerm, SelectTree};
use super::url;
use crate::error::{Error, QueryParamError};
use crate::limit;
use crate::range_query::Bounds;

/// What the query string asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryParams {
    /// Arguments of a function that is called by GET or HEAD, in order.
    pub params: Vec<(String, String)>,
    /// `order` of each level, in order; a level may be there twice.
    pub order: Vec<(EmbedPath, Vec<OrderTerm>)>,
    /// `and` and `or` of each level.
    pub logic: Vec<(EmbedPath, LogicTree)>,
    /// `columns=`
    pub columns: Option<BTreeSet<String>>,
    /// `select=`; `*` when there is none.
    pub select: Vec<SelectTree>,
    /// Filters of all levels; the top level's have an empty path.
    pub filters: Vec<(EmbedPath, Filter)>,
    /// Names of the parameters that are filters, as they were written: what PUT compares with the primary key.
    pub filter_names: BTreeSet<String>,
    /// `on_conflict=`
    pub on_conflict: Option<Vec<String>>,
    /// `limit` and `offset` of embedded resources; they may be below zero.
    pub ranges: Vec<(EmbedPath, Bounds)>,
}

/// What becomes of a parameter; its name's last part says so.
enum Kind {
    Limit,
    Offset,
    Order,
    Logic,
    Select,
    Columns,
    OnConflict,
    Filter,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name.rsplit('.').next().unwrap_or(name) {
            "limit" => Self::Limit,
            "offset" => Self::Offset,
            "order" => Self::Order,
            "and" | "or" => Self::Logic,
            _ => match name {
                "select" => Self::Select,
                "columns" => Self::Columns,
                "on_conflict" => Self::OnConflict,
                _ => Self::Filter,
            },
        }
    }
}

/// `limit` and `offset` of one level as they were written.
#[derive(Default)]
struct LevelRange<'a> {
    limit: Option<&'a str>,
    offset: Option<&'a str>,
}

impl LevelRange<'_> {
    /// Numbers that cannot be read are no limit and no offset; but a limit that cannot be read is 0 beside an offset.
    fn bounds(&self) -> Bounds {
        let offset = self.offset.map(|text| integer(text).unwrap_or(0));
        let limit = match (self.limit, offset) {
            (Some(text), Some(_)) => Some(integer(text).unwrap_or(0)),
            (Some(text), None) => integer(text),
            (None, _) => None,
        };
        Bounds::from_limit_offset(limit, offset)
    }
}

/// An integer with optional minus; too large ones are the largest.
fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse().unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

/// The quick and the recording form of a grammar rule.
macro_rules! rule {
    ($name:ident) => {
        Rule { quick: |p| p.$name(), recording: |p| p.$name() }
    };
}

impl QueryParams {
    /// Parses the query string, and the top level's range. `is_rpc_read`: a function is called by GET or HEAD, so
    /// that parameters which are no filters are arguments.
    pub(super) fn parse(query: &str, is_rpc_read: bool) -> Result<(Self, Bounds), Error> {
        // PostgREST breaks off with an error of its own; another text in its place could find or change other rows.
        if !url::decodes_to_utf8(query) {
            return Err(Error::QueryParam(Box::new(QueryParamError {
                message: "\"failed to parse query string\" (line 1, column 1)".to_owned(),
                details: "unexpected bytes that are not UTF-8".to_owned(),
            })));
        }
        let pairs: Vec<(Cow<'_, str>, Option<Cow<'_, str>>)> = url::pairs(query).collect();
        let mut params = Self::default();
        // Parameters that are to come once count where they come first, even without a value there.
        let mut select = None;
        let mut columns = None;
        let mut on_conflict = None;
        let mut levels: BTreeMap<&str, LevelRange<'_>> = BTreeMap::new();
        let mut logic = Vec::new();
        let mut filters = Vec::new();
        for (name, value) in &pairs {
            let kind = Kind::of(name);
            let once = match kind {
                Kind::Select => &mut select,
                Kind::Columns => &mut columns,
                Kind::OnConflict => &mut on_conflict,
                _ => {
                    let Some(value) = value else { continue };
                    match kind {
                        Kind::Limit => levels.entry(level(name)).or_default().limit = Some(value),
                        Kind::Offset => levels.entry(level(name)).or_default().offset = Some(value),
                        Kind::Order => {
                            params.order.push(order(name, value)?);
                            limit::ORDER_TERMS.check(params.order.iter().map(|(_, terms)| terms.len()).sum())?;
                        }
                        Kind::Logic => logic.push((name, value)),
                        _ => filters.push((name, value)),
                    }
                    continue;
                }
            };
            once.get_or_insert(value.as_deref());
        }
        let (columns, on_conflict) = (columns.flatten(), on_conflict.flatten());
        let select = select.flatten().unwrap_or("*");
        // This is the order in which errors are found.
        let mut conditions = 0;
        for (name, value) in logic {
            let (path, tree) = logic_tree(name, value)?;
            conditions += tree.size();
            limit::CONDITIONS.check(conditions)?;
            tree.check_depth()?;
            params.logic.push((path, tree));
        }
        if let Some(text) = columns {
            let columns = parse("columns parameter", text, text, rule!(columns))?;
            params.columns = Some(columns.into_iter().collect());
        }
        params.select = parse("select parameter", select, select, rule!(select))?;
        for (name, value) in filters {
            params.filter_names.insert(name.to_string());
            let (path, filter) = filter(name, value, is_rpc_read)?;
            filter.op.check_depth()?;
            match filter.op {
                OpExpr::NoOp(value) => params.params.push((filter.field.name, value)),
                OpExpr::Op { .. } => params.filters.push((path, filter)),
            }
            limit::CONDITIONS.check(conditions + params.filters.len())?;
        }
        if let Some(text) = on_conflict {
            params.on_conflict = Some(parse("on_conflict parameter", text, text, rule!(columns))?);
        }
        let mut top = Bounds::ALL;
        for (name, range) in levels {
            let bounds = range.bounds();
            if name.is_empty() {
                top = bounds;
                continue;
            }
            params.ranges.push((range_path(name)?, bounds));
        }
        Ok((params, top))
    }

    /// Filters of the top level: those that updates and deletes apply.
    pub fn filters_root(&self) -> impl Iterator<Item = &Filter> {
        self.filters.iter().filter(|(path, _)| path.is_empty()).map(|(_, filter)| filter)
    }

    /// Filters of embedded resources.
    pub fn filters_not_root(&self) -> impl Iterator<Item = &(EmbedPath, Filter)> {
        self.filters.iter().filter(|(path, _)| !path.is_empty())
    }
}

/// The name without its last part: empty, or `clients.projects`.
fn level(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(level, _)| level)
}

/// `clients.projects` as a path.
fn range_path(level: &str) -> Result<EmbedPath, Error> {
    let (mut path, field) = parse("tree path", &format!("{level}.limit"), level, rule!(tree_path))?;
    path.push(field.name);
    Ok(path)
}

fn order(name: &str, value: &str) -> Result<(EmbedPath, Vec<OrderTerm>), Error> {
    // The last part of the name is `order` itself.
    let path = if name == "order" { EmbedPath::new() } else { parse("tree path", name, name, rule!(tree_path))?.0 };
    Ok((path, parse("order", value, value, rule!(order))?))
}

fn logic_tree(name: &str, value: &str) -> Result<(EmbedPath, LogicTree), Error> {
    let key = parse("logic path", name, name, rule!(logic_key))?;
    let tree = [&key.operator, value].concat();
    Ok((key.path, parse("logic tree", value, &tree, rule!(logic_tree))?))
}

fn filter(name: &str, value: &str, is_rpc_read: bool) -> Result<(EmbedPath, Filter), Error> {
    let (path, field) = parse("tree path", name, name, rule!(tree_path))?;
    let rule = if is_rpc_read { rule!(filter_value_or_argument) } else { rule!(filter_value) };
    let op = parse("filter", value, value, rule)?;
    Ok((path, Filter { field, op }))
}
