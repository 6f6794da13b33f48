//! What a request asks for, in the API's own terms (PostgREST `ApiRequest.Types`). Nothing here knows the database.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::error::Error;
use crate::identifier::QualifiedIdentifier;
use crate::limit;

/// How a routine is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvokeMethod {
    /// GET or HEAD; `headers_only` for HEAD.
    Read { headers_only: bool },
    /// POST.
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// POST.
    Create,
    /// PATCH.
    Update,
    /// PUT.
    SingleUpsert,
    /// DELETE.
    Delete,
}

/// What is to be done, from path and method alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    RelationRead {
        target: QualifiedIdentifier,
        headers_only: bool,
    },
    RelationMutate {
        target: QualifiedIdentifier,
        mutation: Mutation,
    },
    Routine {
        target: QualifiedIdentifier,
        method: InvokeMethod,
    },
    /// The OpenAPI root document.
    SchemaRead {
        schema: String,
        headers_only: bool,
    },
    /// OPTIONS on a relation.
    RelationInfo(QualifiedIdentifier),
    /// OPTIONS on a routine.
    RoutineInfo(QualifiedIdentifier),
    /// OPTIONS on the root.
    SchemaInfo,
}

/// A request body after its media type was honoured.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// A JSON object or an array of objects with the same keys; `raw` goes to PostgreSQL as it came.
    Json {
        raw: Bytes,
        keys: BTreeSet<String>,
    },
    /// JSON passed on unread (with `columns=`, or to a routine with one JSON parameter).
    RawJson {
        raw: Bytes,
    },
    UrlEncoded {
        pairs: Vec<(String, String)>,
        keys: BTreeSet<String>,
    },
    /// Text, XML or binary for a routine's single unnamed parameter.
    Raw {
        raw: Bytes,
    },
}

/// Path of an embedded resource, for instance `["clients", "projects"]`; empty is the top level.
pub type EmbedPath = Vec<String>;

/// A column with the JSON or composite path behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    pub name: String,
    pub path: JsonPath,
}

pub type JsonPath = Vec<JsonOperation>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JsonOperation {
    /// `->`
    Arrow(JsonOperand),
    /// `->>`
    DoubleArrow(JsonOperand),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JsonOperand {
    Key(String),
    /// An array index, kept as the text of an integer with optional sign.
    Index(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateFunction {
    Sum,
    Avg,
    Max,
    Min,
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinType {
    Inner,
    Left,
}

/// One item of `select=`; children of relations are in [`SelectTree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectItem {
    /// `alias:field->path::cast.aggregate()::aggregate_cast`
    Field {
        field: Field,
        aggregate: Option<AggregateFunction>,
        aggregate_cast: Option<String>,
        cast: Option<String>,
        alias: Option<String>,
    },
    /// `alias:relation!hint!inner(...)`
    Relation { relation: String, alias: Option<String>, hint: Option<String>, join_type: Option<JoinType> },
    /// `...relation!hint!inner(...)`
    Spread { relation: String, hint: Option<String>, join_type: Option<JoinType> },
}

/// `select=` as a forest: only relations and spreads have children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectTree {
    pub item: SelectItem,
    pub children: Vec<SelectTree>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderDirection {
    Asc,
    Desc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderNulls {
    First,
    Last,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderTerm {
    /// The embedded relation the field belongs to (`order=relation(field)`).
    pub relation: Option<String>,
    pub field: Field,
    pub direction: Option<OrderDirection>,
    pub nulls: Option<OrderNulls>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogicOperator {
    And,
    Or,
}

/// `and(name.eq.N,or(id.eq.1,id.eq.2))`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogicTree {
    Expr { negated: bool, operator: LogicOperator, children: Vec<LogicTree> },
    Filter(Filter),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub field: Field,
    pub op: OpExpr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpExpr {
    Op {
        negated: bool,
        operation: Operation,
    },
    /// A query parameter of a GET rpc that is no filter: its value is an argument.
    NoOp(String),
}

impl LogicTree {
    /// Filters and operators.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Expr { children, .. } => 1 + children.iter().map(Self::size).sum::<usize>(),
            Self::Filter(_) => 1,
        }
    }

    /// Refuses values that PostgreSQL could not read for their nesting.
    pub(super) fn check_depth(&self) -> Result<(), Error> {
        match self {
            Self::Expr { children, .. } => children.iter().try_for_each(Self::check_depth),
            Self::Filter(filter) => filter.op.check_depth(),
        }
    }
}

impl OpExpr {
    /// Refuses values that PostgreSQL could not read for their nesting.
    pub(super) fn check_depth(&self) -> Result<(), Error> {
        match self {
            Self::NoOp(value) => limit::check_value_depth(value),
            Self::Op { operation, .. } => match operation {
                Operation::Simple { value, .. }
                | Operation::Quantified { value, .. }
                | Operation::IsDistinctFrom(value) => limit::check_value_depth(value),
                Operation::In(values) => values.iter().try_for_each(|value| limit::check_value_depth(value)),
                Operation::Fts { value, .. } => limit::check_search_depth(value),
                Operation::Is(_) => Ok(()),
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    Any,
    All,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Simple { operator: SimpleOperator, value: String },
    Quantified { operator: QuantOperator, quantifier: Option<Quantifier>, value: String },
    In(Vec<String>),
    Is(IsValue),
    IsDistinctFrom(String),
    Fts { operator: FtsOperator, language: Option<String>, value: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsValue {
    Null,
    NotNull,
    True,
    False,
    Unknown,
}

/// Operators that take the modifiers any and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantOperator {
    Eq,
    Gte,
    Gt,
    Lte,
    Lt,
    Like,
    ILike,
    Match,
    IMatch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimpleOperator {
    /// `neq`
    NotEqual,
    /// `cs`
    Contains,
    /// `cd`
    Contained,
    /// `ov`
    Overlap,
    /// `sl`
    StrictlyLeft,
    /// `sr`
    StrictlyRight,
    /// `nxr`
    NotExtendsRight,
    /// `nxl`
    NotExtendsLeft,
    /// `adj`
    Adjacent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FtsOperator {
    /// `fts`: to_tsquery
    Fts,
    /// `plfts`
    Plain,
    /// `phfts`
    Phrase,
    /// `wfts`
    Websearch,
}
