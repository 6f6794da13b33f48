//! The parts of statements: fields, filters, orders, aggregations.

use super::snippet::{Snippet, array_literal};
use crate::api_request::types::{
    AggregateFunction, FtsOperator, IsValue, JsonOperand, JsonOperation, JsonPath, LogicOperator, OpExpr, Operation,
    OrderDirection, OrderNulls, QuantOperator, Quantifier, SimpleOperator,
};
use crate::identifier::QualifiedIdentifier;
use crate::plan::{
    Embed, JoinCondition, LogicNode, OrderBy, OrderTarget, ReadPlanTree, SelectField, SpreadField, TypedField,
};
use crate::range_query::RowRange;

/// The CTE with the rows of a write or a call.
pub(crate) const SOURCE_CTE: &str = "pgrst_source";

/// A name that needs no schema.
pub(super) fn unqualified(name: &str) -> QualifiedIdentifier {
    QualifiedIdentifier::new("", name)
}

fn simple_operator(operator: SimpleOperator) -> &'static str {
    match operator {
        SimpleOperator::NotEqual => " <> ",
        SimpleOperator::Contains => " @> ",
        SimpleOperator::Contained => " <@ ",
        SimpleOperator::Overlap => " && ",
        SimpleOperator::StrictlyLeft => " << ",
        SimpleOperator::StrictlyRight => " >> ",
        SimpleOperator::NotExtendsRight => " &< ",
        SimpleOperator::NotExtendsLeft => " &> ",
        SimpleOperator::Adjacent => " -|- ",
    }
}

fn quant_operator(operator: QuantOperator) -> &'static str {
    match operator {
        QuantOperator::Eq => " = ",
        QuantOperator::Gte => " >= ",
        QuantOperator::Gt => " > ",
        QuantOperator::Lte => " <= ",
        QuantOperator::Lt => " < ",
        QuantOperator::Like => " like ",
        QuantOperator::ILike => " ilike ",
        QuantOperator::Match => " ~ ",
        QuantOperator::IMatch => " ~* ",
    }
}

fn fts_operator(operator: FtsOperator) -> &'static str {
    match operator {
        FtsOperator::Fts => " @@ to_tsquery(",
        FtsOperator::Plain => " @@ plainto_tsquery(",
        FtsOperator::Phrase => " @@ phraseto_tsquery(",
        FtsOperator::Websearch => " @@ websearch_to_tsquery(",
    }
}

fn json_path(s: &mut Snippet, path: &JsonPath) {
    for operation in path {
        let operand = match operation {
            JsonOperation::Arrow(operand) => {
                s.sql("->");
                operand
            }
            JsonOperation::DoubleArrow(operand) => {
                s.sql("->>");
                operand
            }
        };
        match operand {
            JsonOperand::Key(key) => s.text_param(key),
            JsonOperand::Index(index) => s.text_param(index).sql("::int"),
        };
    }
}

fn language(s: &mut Snippet, language: Option<&str>) {
    if let Some(language) = language {
        s.text_param(language).sql(", ");
    }
}

/// The field with its path, and as a text search vector where that is asked for.
pub(super) fn field(s: &mut Snippet, table: &QualifiedIdentifier, field: &TypedField) {
    if let Some(search_language) = &field.to_tsvector {
        s.sql("to_tsvector(");
        language(s, search_language.as_deref());
    }
    if field.full_row {
        s.ident(&table.name);
    } else if field.path.is_empty() {
        s.column(table, &field.name);
    } else if field.to_json {
        s.sql("to_jsonb(").column(table, &field.name).sql(")");
        json_path(s, &field.path);
    } else {
        s.column(table, &field.name);
        json_path(s, &field.path);
    }
    if field.to_tsvector.is_some() {
        s.sql(")");
    }
}

fn aggregate_sql(aggregate: AggregateFunction) -> &'static str {
    match aggregate {
        AggregateFunction::Sum => "SUM(",
        AggregateFunction::Avg => "AVG(",
        AggregateFunction::Max => "MAX(",
        AggregateFunction::Min => "MIN(",
        AggregateFunction::Count => "COUNT(",
    }
}

/// `CAST( AGGREGATE(inner) AS cast )`, each layer where there is one.
fn aggregated(
    s: &mut Snippet,
    aggregate: Option<AggregateFunction>,
    cast: Option<&str>,
    inner: impl FnOnce(&mut Snippet),
) {
    let Some(aggregate) = aggregate else { return inner(s) };
    casted(s, cast, |s| {
        s.sql(aggregate_sql(aggregate));
        inner(s);
        s.sql(")");
    });
}

fn casted(s: &mut Snippet, cast: Option<&str>, inner: impl FnOnce(&mut Snippet)) {
    match cast {
        None => inner(s),
        Some(cast) => {
            s.sql("CAST(");
            inner(s);
            s.sql(" AS ").type_name(cast).sql(")");
        }
    }
}

fn alias(s: &mut Snippet, alias: Option<&str>) {
    if let Some(alias) = alias {
        s.sql(" AS ").ident(alias);
    }
}

pub(super) fn select_field(s: &mut Snippet, table: &QualifiedIdentifier, select: &SelectField) {
    aggregated(s, select.aggregate, select.aggregate_cast.as_deref(), |s| {
        casted(s, select.cast.as_deref(), |s| match &select.field.transform {
            Some(function) => {
                s.catalog_sql(function).sql("(");
                field(s, table, &select.field);
                s.sql(")");
            }
            None => field(s, table, &select.field),
        });
    });
    alias(s, select.alias.as_deref());
}

pub(super) fn spread_field(s: &mut Snippet, join_alias: &str, spread: &SpreadField) {
    aggregated(s, spread.aggregate, spread.aggregate_cast.as_deref(), |s| {
        s.column(&unqualified(join_alias), &spread.name);
    });
    alias(s, spread.alias.as_deref());
}

/// One field of a to-many spread as an array, in the order asked for.
pub(super) fn spread_array_field(s: &mut Snippet, join_alias: &str, order: &[OrderBy], spread: &SpreadField) {
    let table = unqualified(join_alias);
    s.sql("COALESCE(json_agg(").column(&table, &spread.name);
    if !order.is_empty() {
        s.sql(" ");
        order_by(s, &table, order);
    }
    s.sql("),'[]')::jsonb AS ").ident(spread.alias.as_deref().unwrap_or(&spread.name));
}

/// `ORDER BY ...`; nothing when there is no order.
pub(super) fn order_by(s: &mut Snippet, table: &QualifiedIdentifier, order: &[OrderBy]) {
    if order.is_empty() {
        return;
    }
    s.sql("ORDER BY ").join(", ", order, |s, term| {
        match &term.target {
            OrderTarget::Field(by) => field(s, table, by),
            OrderTarget::Related { relation, field: by } => {
                field(s, &unqualified(relation), &TypedField::unknown(by.name.clone(), by.path.clone()));
            }
        }
        match term.direction {
            Some(OrderDirection::Asc) => s.sql(" ASC"),
            Some(OrderDirection::Desc) => s.sql(" DESC"),
            None => s,
        };
        match term.nulls {
            Some(OrderNulls::First) => s.sql(" NULLS FIRST"),
            Some(OrderNulls::Last) => s.sql(" NULLS LAST"),
            None => s,
        };
    });
}

pub(super) fn limit_offset(s: &mut Snippet, range: RowRange) {
    if let Some(limit) = range.limit {
        s.sql(" LIMIT ").number_param(limit);
    }
    if range.offset > 0 {
        s.sql(" OFFSET ").number_param(range.offset);
    }
}

/// A filter's value, parsed by the domain's own function where there is one.
fn value(s: &mut Snippet, text: &str, by: &TypedField) {
    match &by.transform {
        Some(function) => s.catalog_sql(function).sql("(").text_param(text).sql(")"),
        None => s.text_param(text),
    };
}

fn quantified(s: &mut Snippet, quantifier: Option<Quantifier>, inner: impl FnOnce(&mut Snippet)) {
    let Some(quantifier) = quantifier else { return inner(s) };
    s.sql(match quantifier {
        Quantifier::Any => "ANY(",
        Quantifier::All => "ALL(",
    });
    inner(s);
    s.sql(")");
}

fn filter(s: &mut Snippet, table: &QualifiedIdentifier, by: &TypedField, op: &OpExpr) {
    let OpExpr::Op { negated, operation } = op else { return };
    if *negated {
        s.sql("NOT ");
    }
    field(s, table, by);
    match operation {
        Operation::Simple { operator, value: text } => {
            s.sql(simple_operator(*operator));
            value(s, text, by);
        }
        Operation::Quantified { operator, quantifier, value: text } => {
            s.sql(quant_operator(*operator));
            quantified(s, *quantifier, |s| match operator {
                QuantOperator::Like | QuantOperator::ILike => {
                    s.text_param(&text.replace('*', "%"));
                }
                _ => value(s, text, by),
            });
        }
        // The keyword cannot be a parameter.
        Operation::Is(is) => {
            s.sql(match is {
                IsValue::Null => " IS NULL",
                IsValue::NotNull => " IS NOT NULL",
                IsValue::True => " IS TRUE",
                IsValue::False => " IS FALSE",
                IsValue::Unknown => " IS UNKNOWN",
            });
        }
        Operation::IsDistinctFrom(text) => {
            s.sql(" IS DISTINCT FROM ").text_param(text);
        }
        // An array and not a list: one statement for any number of values, and an empty one is allowed.
        Operation::In(items) => {
            let array = match items.as_slice() {
                [only] if only.is_empty() => "{}".to_owned(),
                items => array_literal(items.iter().map(String::as_str)),
            };
            match &by.transform {
                Some(function) => {
                    s.sql(" = ANY (SELECT ").catalog_sql(function).sql("(unnest(").text_param(&array).sql("::text[])))")
                }
                None => s.sql(" = ANY (").text_param(&array).sql(")"),
            };
        }
        Operation::Fts { operator, language: search_language, value: text } => {
            s.sql(fts_operator(*operator));
            language(s, search_language.as_deref());
            s.text_param(text).sql(")");
        }
    }
}

/// What a filter on an embedding itself becomes: in the query its subquery's row, in the count query an EXISTS.
pub(super) type NullEmbedWriter<'a> = &'a dyn Fn(&mut Snippet, bool, &str);

pub(super) fn null_embed(s: &mut Snippet, negated: bool, join_alias: &str) {
    s.ident(join_alias).sql(if negated { " IS DISTINCT FROM NULL" } else { " IS NOT DISTINCT FROM NULL" });
}

pub(super) fn logic(
    s: &mut Snippet,
    table: &QualifiedIdentifier,
    node: &LogicNode,
    write_null_embed: NullEmbedWriter<'_>,
) {
    match node {
        LogicNode::Expr { negated, operator, children } => {
            s.sql(if *negated { "NOT (" } else { "(" });
            let separator = match operator {
                LogicOperator::And => " AND ",
                LogicOperator::Or => " OR ",
            };
            s.join(separator, children, |s, child| logic(s, table, child, write_null_embed)).sql(")");
        }
        LogicNode::Filter { field: by, op } => filter(s, table, by, op),
        LogicNode::NullEmbed { negated, join_alias } => write_null_embed(s, *negated, join_alias),
    }
}

pub(super) fn join_condition(s: &mut Snippet, condition: &JoinCondition) {
    let (left, right) = (&condition.left, &condition.right);
    s.column(&left.0, &left.1).sql(" = ").column(&right.0, &right.1);
}

/// `GROUP BY` what is not aggregated, when something is.
pub(super) fn group_by(s: &mut Snippet, table: &QualifiedIdentifier, tree: &ReadPlanTree) {
    let (select, embeds) = (&tree.plan.select, &tree.plan.embeds);
    if !tree.plan.aggregates() {
        return;
    }
    let mut first = true;
    let mut term = |s: &mut Snippet| {
        s.sql(if first { " GROUP BY " } else { ", " });
        first = false;
    };
    for selected in select.iter().filter(|f| f.aggregate.is_none()) {
        term(s);
        match &selected.alias {
            Some(alias) => {
                s.ident(alias);
            }
            None => field(s, table, &selected.field),
        }
    }
    for embed in embeds {
        match embed {
            Embed::Json { is_empty: true, .. } => {}
            Embed::Json { name, .. } => {
                term(s);
                s.ident(name);
            }
            Embed::Spread { fields, join_alias } => {
                for spread in fields.iter().filter(|f| f.aggregate.is_none()) {
                    term(s);
                    s.column(&unqualified(join_alias), spread.alias.as_deref().unwrap_or(&spread.name));
                }
            }
        }
    }
}
