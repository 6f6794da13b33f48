//! Plans as queries: reading, writing, calling, counting.

use std::sync::Arc;

use bytes::Bytes;

use super::snippet::{Snippet, array_literal};
use super::sql_fragment as fragment;
use super::sql_fragment::unqualified;
use crate::identifier::QualifiedIdentifier;
use crate::plan::{
    ArgumentValue, CallArguments, CallParams, CallPlan, ConflictResolution, Embed, LogicNode, Member, MemberKind,
    MutatePlan, ReadPlan, ReadPlanTree, Spread, TypedField,
};
use crate::range_query::RowRange;
use crate::schema_cache::{Cardinality, Relationship, RoutineParam};

/// Members of a row that are joined two by two.
const MOST_JOINED: usize = 8;
/// Members in one call of `concat`: two arguments each, and PostgreSQL takes a hundred (`FUNC_MAX_ARGS`).
const MOST_IN_CALL: usize = 48;

/// The name under which a plan's rows are addressed.
fn row_name(plan: &ReadPlan) -> QualifiedIdentifier {
    match (&plan.from_alias, &plan.relationship) {
        (Some(alias), _) => unqualified(alias),
        (None, Some(Relationship::Computed { function, .. })) => unqualified(&function.name),
        (None, _) => plan.from.clone(),
    }
}

/// ` FROM ...` with the junction of a many-to-many.
fn from(s: &mut Snippet, plan: &ReadPlan) {
    s.sql(" FROM ");
    match (&plan.relationship, &plan.parent_row) {
        // The cast finds the overload, because rows of a CTE are records.
        (Some(Relationship::Computed { function, table, .. }), Some(parent_row)) => {
            s.qi(function).sql("(").qi(parent_row).sql("::").qi(table).sql(")");
        }
        _ => {
            s.qi(&plan.from);
        }
    }
    if let Some(alias) = &plan.from_alias {
        s.sql(" AS ").ident(alias);
    }
    if let Some(Relationship::ForeignKey { cardinality: Cardinality::ManyToMany(junction), .. }) = &plan.relationship {
        s.sql(", ").qi(&junction.table);
    }
}

/// What a filter on an embedding itself is written as; finds the embedding by its join alias.
type NullEmbedWriter<'a> = &'a dyn Fn(&mut Snippet, bool, &str);

/// ` WHERE ...` of filters, join conditions and `others`; nothing when there are none.
fn conditions(
    s: &mut Snippet,
    table: &QualifiedIdentifier,
    plan: &ReadPlan,
    others: Vec<&ReadPlanTree>,
    null_embed: NullEmbedWriter<'_>,
) {
    let mut separator = " WHERE ";
    for node in &plan.filters {
        s.sql(std::mem::replace(&mut separator, " AND "));
        fragment::logic(s, table, node, null_embed);
    }
    for condition in &plan.join_conditions {
        s.sql(std::mem::replace(&mut separator, " AND "));
        fragment::join_condition(s, condition);
    }
    for tree in others {
        s.sql(std::mem::replace(&mut separator, " AND ")).sql("EXISTS (");
        read_count(s, tree);
        s.sql(")");
    }
}

/// The rows of a plan with what is embedded in them.
pub(super) fn read(s: &mut Snippet, tree: &ReadPlanTree) {
    all_rows(s, tree);
    fragment::limit_offset(s, tree.plan.range);
}

/// As [`read`] for one row at most. A limit that holds nothing back is left out: PostgreSQL would not merge the subquery
/// into what is made of it, and copy the row (17.3 in place of 15.9 us for a row of four columns).
pub(super) fn read_one(s: &mut Snippet, tree: &ReadPlanTree) {
    all_rows(s, tree);
    let RowRange { offset, limit } = tree.plan.range;
    if offset > 0 || limit == Some(0) {
        fragment::limit_offset(s, tree.plan.range);
    }
}

fn all_rows(s: &mut Snippet, tree: &ReadPlanTree) {
    let plan = &tree.plan;
    let table = row_name(plan);
    s.sql("SELECT ");
    let mut separator = "";
    let mut next = |s: &mut Snippet| {
        s.sql(std::mem::replace(&mut separator, ", "));
    };
    if plan.select.is_empty() && tree.children.is_empty() {
        // Everything, although it will not be shown: an embedding that only counts still needs rows.
        next(s);
        s.column(&table, "*");
    }
    for selected in &plan.select {
        next(s);
        fragment::select_field(s, &table, selected);
    }
    if let Some(Spread::ToMany { order_select, .. }) = &plan.spread {
        for (relation, selected) in order_select {
            next(s);
            match relation {
                Some(relation) => fragment::select_field(s, &unqualified(relation), selected),
                None => fragment::select_field(s, &table, selected),
            }
        }
    }
    for embed in &plan.embeds {
        match embed {
            Embed::Json { is_empty: true, .. } => {}
            Embed::Json { name, join_alias, to_one: true, .. } => {
                next(s);
                s.sql("row_to_json(").ident(join_alias).sql(".*)::jsonb AS ").ident(name);
            }
            Embed::Json { name, join_alias, .. } => {
                next(s);
                s.sql("COALESCE(").ident(join_alias).sql(".").ident(join_alias).sql(", '[]') AS ").ident(name);
            }
            Embed::Spread { fields, join_alias } => {
                for spread in fields {
                    next(s);
                    fragment::spread_field(s, join_alias, spread);
                }
            }
        }
    }
    from(s, plan);
    for embed in &plan.embeds {
        if let Some(child) = tree.children.iter().find(|child| child.plan.join_alias == embed.join_alias()) {
            join(s, embed, child);
        }
    }
    conditions(s, &table, plan, Vec::new(), &fragment::null_embed);
    fragment::group_by(s, &table, tree);
    if !plan.order.is_empty() {
        s.sql(" ");
        fragment::order_by(s, &table, &plan.order);
    }
}

/// An embedding as a lateral join: to-one gives its row, to-many its rows as a JSON array named like the subquery.
fn join(s: &mut Snippet, embed: &Embed, child: &ReadPlanTree) {
    let alias = embed.join_alias();
    let inner = child.plan.is_inner();
    s.sql(if inner { " INNER JOIN LATERAL (" } else { " LEFT JOIN LATERAL (" });
    let spread = match (embed, &child.plan.spread) {
        (Embed::Json { to_one: true, .. }, _) | (Embed::Spread { .. }, None | Some(Spread::ToOne)) => {
            read(s, child);
            s.sql(") AS ").ident(alias).sql(" ON TRUE");
            return;
        }
        (Embed::Spread { fields, .. }, Some(Spread::ToMany { order, .. })) => Some((fields, order)),
        (Embed::Json { .. }, _) => None,
    };
    match &child.plan.members {
        Some(members) => array_of(s, alias, members),
        None => {
            s.sql("SELECT json_agg(").ident(alias).sql(")::jsonb");
        }
    }
    s.sql(" AS ").ident(alias);
    if let Some((fields, order)) = spread {
        for field in fields {
            s.sql(", ");
            fragment::spread_array_field(s, alias, order, field);
        }
    }
    s.sql(" FROM (");
    read(s, child);
    s.sql(") AS ").ident(alias).sql(") AS ").ident(alias).sql(" ON ");
    if inner {
        s.ident(alias).sql(" IS NOT NULL");
    } else {
        s.sql("TRUE");
    }
}

/// The rows as a JSON array, put together from their members; NULL when there are none.
fn array_of(s: &mut Snippet, rows: &str, members: &[Member]) {
    // `||` copies what came before; `concat` costs more to call.
    let calls = members.len() > MOST_JOINED;
    let (open, between, close) = if calls { ("concat(", ", ", ")") } else { ("", " || ", "") };
    s.sql("SELECT ('[' || string_agg(");
    for (call, members) in members.chunks(MOST_IN_CALL).enumerate() {
        s.sql(if call == 0 { "" } else { " || " }).sql(open);
        for (i, member) in members.iter().enumerate() {
            let name = serde_json::Value::from(member.name.as_str());
            s.sql(if i == 0 { "" } else { between });
            s.text_param(&format!("{}{name}: ", if call + i == 0 { "{" } else { ", " })).sql("::text").sql(between);
            let (before, after) = match member.kind {
                MemberKind::Plain => ("", "::text"),
                MemberKind::Scalar => ("to_json(", ")::text"),
                MemberKind::Other => ("to_jsonb(", ")::text"),
            };
            s.sql("coalesce(").sql(before).column(&unqualified(rows), &member.name).sql(after).sql(", 'null')");
        }
        s.sql(close);
    }
    s.sql(" || '}', ', ') || ']')::json");
}

/// One row for each row of the root, whatever limit and offset are. Inner joins become EXISTS, because joining would
/// multiply rows.
pub(super) fn read_count(s: &mut Snippet, tree: &ReadPlanTree) {
    s.sql("SELECT 1");
    from(s, &tree.plan);
    let null_embed = |s: &mut Snippet, negated: bool, join_alias: &str| {
        let Some(child) = tree.children.iter().find(|child| child.plan.join_alias == join_alias) else { return };
        s.sql(if negated { "EXISTS (" } else { "NOT EXISTS (" });
        read_count(s, child);
        s.sql(")");
    };
    let inner = tree.children.iter().filter(|child| child.plan.is_inner()).collect();
    conditions(s, &row_name(&tree.plan), &tree.plan, inner, &null_embed);
}

pub(super) fn mutate(s: &mut Snippet, plan: &MutatePlan) {
    match plan {
        MutatePlan::Insert { into, columns, body, on_conflict, conditions, returning, apply_defaults, .. } => {
            s.sql("INSERT INTO ").qi(into);
            if !columns.is_empty() {
                s.sql("(").join(", ", columns, |s, c| {
                    s.ident(&c.name);
                });
                s.sql(")");
            }
            s.sql(" SELECT ").join(", ", columns, |s, c| {
                s.column(&body_row(), &c.name);
            });
            s.sql(" ");
            json_rows(s, Some(body), columns, Rows::All, *apply_defaults);
            let merges = matches!(on_conflict, Some((ConflictResolution::MergeDuplicates, _)));
            if merges || !conditions.is_empty() {
                s.sql(" WHERE ");
                count_inserted(s, true);
                for node in conditions {
                    s.sql(" AND ");
                    fragment::logic(s, &body_row(), node, &fragment::null_embed);
                }
            }
            if let Some((resolution, key)) = on_conflict
                && !key.is_empty()
            {
                s.sql(" ON CONFLICT(").join(", ", key, |s, c| {
                    s.ident(c);
                });
                match resolution {
                    ConflictResolution::MergeDuplicates if !columns.is_empty() => {
                        s.sql(") DO UPDATE SET ").join(", ", columns, |s, c| {
                            s.ident(&c.name).sql(" = EXCLUDED.").ident(&c.name);
                        });
                        s.sql(" WHERE ");
                        count_inserted(s, false);
                    }
                    _ => {
                        s.sql(") DO NOTHING");
                    }
                }
            }
            returning_columns(s, into, returning);
        }
        // There is no UPDATE of nothing. The columns are there for what selects from it.
        MutatePlan::Update { target, columns, returning, .. } if columns.is_empty() => {
            s.sql("SELECT ");
            if returning.is_empty() {
                s.sql("NULL");
            } else {
                s.join(", ", returning, |s, c| {
                    s.column(&unqualified(&target.name), c);
                });
            }
            s.sql(" FROM ").qi(target).sql(" WHERE false");
        }
        MutatePlan::Update { target, columns, body, filters, returning, apply_defaults } => {
            s.sql("UPDATE ").qi(target).sql(" SET ").join(", ", columns, |s, c| {
                s.ident(&c.name).sql(" = ").column(&body_row(), &c.name);
            });
            s.sql(" ");
            json_rows(s, Some(body), columns, Rows::All, *apply_defaults);
            mutation_filters(s, target, filters);
            returning_columns(s, target, returning);
        }
        MutatePlan::Delete { from, filters, returning } => {
            s.sql("DELETE FROM ").qi(from);
            mutation_filters(s, from, filters);
            returning_columns(s, from, returning);
        }
    }
}

fn mutation_filters(s: &mut Snippet, table: &QualifiedIdentifier, filters: &[LogicNode]) {
    if !filters.is_empty() {
        s.sql(" WHERE ").join(" AND ", filters, |s, node| fragment::logic(s, table, node, &fragment::null_embed));
    }
}

/// `RETURNING 1` still tells how many rows there were.
fn returning_columns(s: &mut Snippet, table: &QualifiedIdentifier, columns: &[Arc<str>]) {
    s.sql(" RETURNING ");
    if columns.is_empty() {
        s.sql("1");
    } else {
        s.join(", ", columns, |s, c| {
            s.column(table, c);
        });
    }
}

/// Counts the rows an upsert inserts: each row goes up one, and down again when it turns into an update. Always true.
fn count_inserted(s: &mut Snippet, up: bool) {
    s.sql("set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) ");
    s.sql(if up { "+ 1)::text, true) <> '0'" } else { "- 1)::text, true) <> '-1'" });
}

/// The row, or rows, of the payload.
fn body_row() -> QualifiedIdentifier {
    unqualified("pgrst_body")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    All,
    One,
}

/// `FROM (...) pgrst_body`: the JSON body as rows with the types of `columns`.
fn json_rows(s: &mut Snippet, body: Option<&Bytes>, columns: &[TypedField], rows: Rows, apply_defaults: bool) {
    let is_object = body.is_some_and(|body| {
        // PostgreSQL checks that it is JSON; here only what it begins with matters.
        body.iter().find(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b'{')
    });
    s.sql("FROM (SELECT ").join(", ", columns, |s, c| match &c.transform {
        Some(function) => {
            s.catalog_sql(function).sql("(").ident(&c.name).sql(") AS ").ident(&c.name);
        }
        None => {
            s.ident(&c.name);
        }
    });
    s.sql(" FROM ");
    let source = |s: &mut Snippet| match (apply_defaults, is_object) {
        (false, _) => {
            s.param(body.cloned()).sql("::json");
        }
        (true, true) => {
            defaults(s, columns);
            s.sql(" || ").param(body.cloned()).sql("::jsonb");
        }
        (true, false) => {
            s.sql("(SELECT jsonb_agg(");
            defaults(s, columns);
            s.sql(" || elem) FROM jsonb_array_elements(").param(body.cloned()).sql("::jsonb) elem)");
        }
    };
    if columns.is_empty() {
        // One row of defaults for `{}`, one for each element of `[{}, {}]`.
        if is_object {
            s.sql("(VALUES (1)) _");
        } else {
            s.sql(if apply_defaults { "jsonb_array_elements(" } else { "json_array_elements(" });
            source(s);
            s.sql(") _");
        }
    } else {
        s.sql(match (apply_defaults, is_object) {
            (false, false) => "json_to_recordset(",
            (false, true) => "json_to_record(",
            (true, false) => "jsonb_to_recordset(",
            (true, true) => "jsonb_to_record(",
        });
        source(s);
        s.sql(") AS _(").join(", ", columns, |s, c| {
            s.ident(&c.name).sql(" ").catalog_sql(&c.nominal_type);
        });
        s.sql(")");
        if rows == Rows::One {
            s.sql(" LIMIT 1");
        }
    }
    s.sql(") pgrst_body");
}

/// The columns' defaults as a JSON object.
fn defaults(s: &mut Snippet, columns: &[TypedField]) {
    let with_default = columns.iter().filter_map(|c| Some((&c.name, c.default.as_ref()?)));
    s.sql("jsonb_build_object(").join(", ", with_default, |s, (name, default)| {
        s.catalog_literal(name).sql(", ").catalog_sql(default);
    });
    s.sql(")");
}

pub(super) fn call(s: &mut Snippet, plan: &CallPlan) {
    let routine = &plan.routine;
    let scalar = routine.returns_scalar() || routine.returns_set_of_scalar();
    let call_row = unqualified("pgrst_call");
    s.sql("SELECT ");
    if scalar {
        s.sql("pgrst_call.pgrst_scalar");
    } else if plan.returning.is_empty() {
        s.sql("*");
    } else if plan.returning.iter().any(|c| &**c == "*") {
        s.sql("pgrst_call.*");
    } else {
        let columns: std::collections::BTreeSet<&str> =
            plan.returning.iter().map(|c| &**c).chain(plan.filter_fields.iter().map(String::as_str)).collect();
        s.join(", ", columns, |s, c| {
            s.column(&call_row, c);
        });
    }
    s.sql(" ");
    let invoke = |s: &mut Snippet, arguments: &mut dyn FnMut(&mut Snippet)| {
        s.sql(if scalar { "(SELECT " } else { "" }).qi(&routine.qualified_identifier()).sql("(");
        arguments(s);
        s.sql(if scalar { ") pgrst_scalar) pgrst_call" } else { ") pgrst_call" });
    };
    match (&plan.params, &plan.arguments) {
        (CallParams::Positional(param), arguments) => {
            let body = match arguments {
                CallArguments::Body(body) => body.clone(),
                CallArguments::Direct(arguments) => Some(object(arguments)),
            };
            s.sql("FROM ");
            invoke(s, &mut |s| single_argument(s, body.clone(), &param.data_type));
        }
        (CallParams::Named(params), _) if params.is_empty() => {
            s.sql("FROM ");
            invoke(s, &mut |_| {});
        }
        (CallParams::Named(params), CallArguments::Direct(arguments)) => {
            s.sql("FROM ");
            invoke(s, &mut |s| {
                s.join(", ", params, |s, param| {
                    argument_name(s, param);
                    match arguments.get(&*param.name) {
                        Some(ArgumentValue::Fixed(value)) => s.text_param(value),
                        Some(ArgumentValue::Variadic(values)) => {
                            s.text_param(&array_literal(values.iter().map(String::as_str)))
                        }
                        None => s.sql("NULL"),
                    };
                    s.sql("::").catalog_sql(&param.max_length_type);
                });
            });
        }
        (CallParams::Named(params), CallArguments::Body(body)) => {
            let fields: Vec<TypedField> = params
                .iter()
                .map(|param| TypedField {
                    name: (*param.name).to_owned(),
                    nominal_type: param.max_length_type.clone(),
                    ..TypedField::default()
                })
                .collect();
            json_rows(s, body.as_ref(), &fields, Rows::One, false);
            s.sql(", LATERAL ");
            invoke(s, &mut |s| {
                s.join(", ", params, |s, param| {
                    argument_name(s, param);
                    s.column(&body_row(), &param.name);
                });
            });
        }
    }
}

fn argument_name(s: &mut Snippet, param: &RoutineParam) {
    s.sql(if param.variadic { "VARIADIC " } else { "" }).ident(&param.name).sql(" := ");
}

/// The whole body as one argument. Bytes are sent as hexadecimal digits, because parameters are text.
fn single_argument(s: &mut Snippet, body: Option<Bytes>, data_type: &str) {
    let body = match body {
        Some(body) if data_type == "bytea" => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let mut hex = Vec::with_capacity(body.len() * 2 + 2);
            hex.extend_from_slice(b"\\x");
            for byte in &body {
                hex.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            Some(Bytes::from(hex))
        }
        body => body,
    };
    s.param(body).sql("::").catalog_sql(data_type);
}

/// Arguments as a JSON object of texts.
fn object(arguments: &std::collections::BTreeMap<String, ArgumentValue>) -> Bytes {
    let object: serde_json::Map<String, serde_json::Value> = arguments
        .iter()
        .map(|(name, value)| {
            let value = match value {
                ArgumentValue::Fixed(value) => value.as_str().into(),
                ArgumentValue::Variadic(values) => values.clone().into(),
            };
            (name.clone(), value)
        })
        .collect();
    serde_json::Value::Object(object).to_string().into()
}
