//! How rows of to-many embeddings become JSON.
//!
//! PostgREST casts `json_agg(rows)` to `jsonb`, and clients see what that prints: members ordered by the length of their
//! names and then by their bytes, with a blank behind each colon and comma. The names are known when a request is planned,
//! so the same text can be put together from its pieces, without a JSON text that is parsed into a tree and printed again:
//! 2.0 instead of 3.4 million instructions for 20 parents with 10 children each.

use super::read_plan::{Embed, Member, MemberKind, ReadPlan, ReadPlanTree, SelectField, SpreadField};
use super::resolve::Resolver;
use crate::media_type::MediaType;
use crate::schema_cache::{MediaHandler, SchemaCache};

/// More members are left to PostgreSQL.
const MOST: usize = 64;
/// Longest name that PostgreSQL does not cut off, in bytes (`NAMEDATALEN` - 1).
const LONGEST_NAME: usize = 63;

/// Decides for each embedding in a body that PostgreSQL makes as plain JSON; others may take the types of columns for what
/// they were. Execution plans are those of PostgREST's statement, whose costs clients compare: they have the same scans and
/// joins.
pub(super) fn choose(tree: &mut ReadPlanTree, handler: &MediaHandler, media_type: &MediaType, cache: &SchemaCache) {
    let is_json = matches!(handler, MediaHandler::Json | MediaHandler::SingleJson { .. });
    if is_json && !matches!(media_type, MediaType::VndPlan { .. }) {
        choose_below(tree, cache);
    }
}

fn choose_below(tree: &mut ReadPlanTree, cache: &SchemaCache) {
    // Rows are grouped by the embeddings in them, which `json` has no equality for.
    let groups = tree.plan.aggregates();
    for child in &mut tree.children {
        choose_below(child, cache);
        let is_array = |embed: &Embed| {
            let array = matches!(embed, Embed::Json { to_one: false, is_empty: false, .. });
            array && *embed.join_alias() == child.plan.join_alias
        };
        if !groups && tree.plan.embeds.iter().any(is_array) {
            child.plan.members = members(&child.plan, cache);
        }
    }
}

/// The members of a row in `jsonb`'s order; None when they are not known, or of two with one name.
fn members(plan: &ReadPlan, cache: &SchemaCache) -> Option<Vec<Member>> {
    let resolver = Resolver::new(cache, &plan.from);
    let mut members: Vec<Member> = Vec::with_capacity(plan.select.len() + plan.embeds.len());
    let mut add = |name: &str, kind| members.push(Member { name: name.to_owned(), kind });
    for selected in &plan.select {
        let SelectField { field, aggregate, cast, alias, .. } = selected;
        match alias {
            None if field.is_star() && aggregate.is_none() => {
                let columns = resolver.columns();
                if columns.is_empty() || cast.is_some() {
                    return None;
                }
                columns.iter().for_each(|column| add(&column.name, kind(&column.nominal_type)));
            }
            None if aggregate.is_some() => return None,
            _ => {
                let is_plain =
                    aggregate.is_none() && cast.is_none() && field.path.is_empty() && field.transform.is_none();
                let kind = if is_plain { kind(&field.nominal_type) } else { MemberKind::Other };
                add(alias.as_deref().unwrap_or(&field.name), kind);
            }
        }
    }
    for embed in &plan.embeds {
        match embed {
            Embed::Json { is_empty: true, .. } => {}
            Embed::Json { name, .. } => add(name, MemberKind::Plain),
            Embed::Spread { fields, .. } => {
                for SpreadField { name, alias, aggregate, .. } in fields {
                    if alias.is_none() && (aggregate.is_some() || name == "*") {
                        return None;
                    }
                    add(alias.as_deref().unwrap_or(name), MemberKind::Other);
                }
            }
        }
    }
    members.sort_by(|a, b| (a.name.len(), a.name.as_bytes()).cmp(&(b.name.len(), b.name.as_bytes())));
    let twice = members.windows(2).any(|pair| pair[0].name == pair[1].name);
    let fits = members.len() <= MOST && members.iter().all(|member| member.name.len() <= LONGEST_NAME);
    (fits && !twice && !members.is_empty()).then_some(members)
}

/// What is known of a declared type, as PostgreSQL prints it. A domain has its own name, and is `Other`.
fn kind(nominal_type: &str) -> MemberKind {
    if nominal_type.ends_with(']') {
        return MemberKind::Other;
    }
    match nominal_type.split('(').next().unwrap_or_default() {
        "smallint" | "integer" | "bigint" | "boolean" => MemberKind::Plain,
        // What PostgreSQL prints of these as JSON is what `jsonb` prints. Not of floats, whose exponents it writes out, and
        // not of arrays and rows, which it prints with blanks.
        "numeric" | "text" | "character varying" | "character" | "uuid" | "date" => MemberKind::Scalar,
        "timestamp with time zone" | "timestamp without time zone" => MemberKind::Scalar,
        _ => MemberKind::Other,
    }
}
