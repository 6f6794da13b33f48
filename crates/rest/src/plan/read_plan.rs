//! The tree of what is read: one node for the request's target and one for each embedded resource.

use std::sync::Arc;

use crate::api_request::types::{
    AggregateFunction, Field, JoinType, JsonPath, LogicOperator, OpExpr, OrderDirection, OrderNulls,
};
use crate::identifier::QualifiedIdentifier;
use crate::range_query::RowRange;
use crate::schema_cache::Relationship;

/// A plan and those of the resources embedded in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlanTree {
    pub plan: ReadPlan,
    pub children: Vec<ReadPlanTree>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlan {
    pub select: Vec<SelectField>,
    pub from: QualifiedIdentifier,
    pub from_alias: Option<String>,
    /// All of them must hold.
    pub filters: Vec<LogicNode>,
    pub order: Vec<OrderBy>,
    pub range: RowRange,
    /// As the request calls it.
    pub name: String,
    pub alias: Option<String>,
    pub hint: Option<String>,
    pub join_type: Option<JoinType>,
    /// How this is joined to the parent; none at the root.
    pub relationship: Option<Relationship>,
    /// For a computed relationship: the name of the parent's row in the parent's query.
    pub parent_row: Option<QualifiedIdentifier>,
    pub join_conditions: Vec<JoinCondition>,
    /// The name of this embedding's subquery in the parent's query.
    pub join_alias: String,
    pub spread: Option<Spread>,
    /// What the parent selects of its children.
    pub embeds: Vec<Embed>,
    /// For an embedding that is an array in its parent: the members of its rows in the order of `jsonb`, when the rows are
    /// to be put together from them.
    pub members: Option<Vec<Member>>,
    pub depth: usize,
}

/// One member of a row as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub kind: MemberKind,
}

/// How a value becomes the text that `jsonb` prints of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// Its own text is JSON already.
    Plain,
    /// `to_json` gives it.
    Scalar,
    /// Only `to_jsonb` does.
    Other,
}

impl ReadPlan {
    /// Whether rows are made one by aggregating, here or from what is spread into them.
    pub fn aggregates(&self) -> bool {
        self.select.iter().any(|field| field.aggregate.is_some())
            || self.embeds.iter().any(|embed| match embed {
                Embed::Spread { fields, .. } => fields.iter().any(|field| field.aggregate.is_some()),
                Embed::Json { .. } => false,
            })
    }

    /// What the result is called in the parent.
    pub fn output_name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.name)
    }

    pub fn is_inner(&self) -> bool {
        self.join_type == Some(JoinType::Inner)
    }
}

/// `left.0.left.1 = right.0.right.1`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinCondition {
    pub left: (QualifiedIdentifier, Arc<str>),
    pub right: (QualifiedIdentifier, Arc<str>),
}

/// A spread embedding puts its fields into the parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    ToOne,
    ToMany {
        /// What has to be selected only to order by it: (relation when not its own, field).
        order_select: Vec<(Option<String>, SelectField)>,
        order: Vec<OrderBy>,
    },
}

/// A named thing in a query with what is known of its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypedField {
    pub name: String,
    pub path: JsonPath,
    /// The path goes into something that is not JSON.
    pub to_json: bool,
    /// Searched as text: `to_tsvector([language], field)`.
    pub to_tsvector: Option<Option<String>>,
    /// The declared type, domains by their own name; empty when unknown.
    pub nominal_type: Arc<str>,
    /// The type beneath a domain; empty when unknown.
    pub base_type: Arc<str>,
    /// A function that turns the value into what is needed (SQL from the catalog).
    pub transform: Option<Arc<str>>,
    /// The column's default (SQL from the catalog).
    pub default: Option<Arc<str>>,
    /// Stands for the whole row; for counting.
    pub full_row: bool,
}

impl TypedField {
    pub fn unknown(name: impl Into<String>, path: JsonPath) -> Self {
        Self { name: name.into(), path, ..Self::default() }
    }

    /// The field `*` without more.
    pub fn is_star(&self) -> bool {
        self.name == "*" && self.path.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectField {
    pub field: TypedField,
    pub aggregate: Option<AggregateFunction>,
    pub aggregate_cast: Option<String>,
    pub cast: Option<String>,
    pub alias: Option<String>,
}

impl SelectField {
    pub fn plain(field: TypedField) -> Self {
        Self { field, aggregate: None, aggregate_cast: None, cast: None, alias: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogicNode {
    Expr {
        negated: bool,
        operator: LogicOperator,
        children: Vec<LogicNode>,
    },
    Filter {
        field: TypedField,
        op: OpExpr,
    },
    /// Whether an embedding found something; `negated` is `not.is.null`.
    NullEmbed {
        negated: bool,
        join_alias: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderBy {
    pub target: OrderTarget,
    pub direction: Option<OrderDirection>,
    pub nulls: Option<OrderNulls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderTarget {
    Field(TypedField),
    /// A field of an embedded to-one relation, by the name of its subquery.
    Related {
        relation: String,
        field: Field,
    },
}

/// What a parent selects of an embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Embed {
    Json {
        name: String,
        join_alias: String,
        to_one: bool,
        /// Nothing is selected, it only filters: `clients()`.
        is_empty: bool,
    },
    Spread {
        fields: Vec<SpreadField>,
        join_alias: String,
    },
}

impl Embed {
    pub fn join_alias(&self) -> &str {
        match self {
            Self::Json { join_alias, .. } | Self::Spread { join_alias, .. } => join_alias,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadField {
    pub name: String,
    pub aggregate: Option<AggregateFunction>,
    pub aggregate_cast: Option<String>,
    pub alias: Option<String>,
}

impl SpreadField {
    pub fn plain(name: &str) -> Self {
        Self { name: name.to_owned(), aggregate: None, aggregate_cast: None, alias: None }
    }
}
