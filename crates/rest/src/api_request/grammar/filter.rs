//! Filters (`column=operator.value`) and logic trees (`and=(...)`, `or=(...)`).

use std::borrow::Cow;

use super::super::parser::{Fail, Parsed, Parser};
use super::super::types::{
    EmbedPath, Filter, FtsOperator, IsValue, LogicOperator, LogicTree, OpExpr, Operation, QuantOperator, Quantifier,
    SimpleOperator,
};
use crate::limit;

const SIMPLE_OPERATORS: [(&str, SimpleOperator); 9] = [
    ("neq", SimpleOperator::NotEqual),
    ("cs", SimpleOperator::Contains),
    ("cd", SimpleOperator::Contained),
    ("ov", SimpleOperator::Overlap),
    ("sl", SimpleOperator::StrictlyLeft),
    ("sr", SimpleOperator::StrictlyRight),
    ("nxr", SimpleOperator::NotExtendsRight),
    ("nxl", SimpleOperator::NotExtendsLeft),
    ("adj", SimpleOperator::Adjacent),
];

/// Tried in this order: what starts like another comes first.
const QUANT_OPERATORS: [(&str, QuantOperator); 9] = [
    ("eq", QuantOperator::Eq),
    ("gte", QuantOperator::Gte),
    ("gt", QuantOperator::Gt),
    ("lte", QuantOperator::Lte),
    ("lt", QuantOperator::Lt),
    ("like", QuantOperator::Like),
    ("ilike", QuantOperator::ILike),
    ("match", QuantOperator::Match),
    ("imatch", QuantOperator::IMatch),
];

const FTS_OPERATORS: [(&str, FtsOperator); 4] = [
    ("fts", FtsOperator::Fts),
    ("plfts", FtsOperator::Plain),
    ("phfts", FtsOperator::Phrase),
    ("wfts", FtsOperator::Websearch),
];

const IS_VALUES: [(&str, IsValue); 5] = [
    ("null", IsValue::Null),
    ("not_null", IsValue::NotNull),
    ("true", IsValue::True),
    ("false", IsValue::False),
    ("unknown", IsValue::Unknown),
];

/// Where a value ends.
#[derive(Clone, Copy)]
enum ValueIn {
    /// At the end of the parameter.
    Parameter,
    /// At a comma or bracket of the logic tree, unless quoted or in an array literal.
    LogicTree,
}

/// The path in front of `and` and `or`, and which of them it is, with `not.` when it is negated.
pub(in super::super) struct LogicKey {
    pub(in super::super) path: EmbedPath,
    pub(in super::super) operator: String,
}

impl<'a, const RECORD: bool> Parser<'a, RECORD> {
    /// `not.operator(modifier).value`, the whole parameter.
    pub(in super::super) fn filter_value(&mut self) -> Parsed<OpExpr> {
        self.operation(ValueIn::Parameter)
    }

    /// As [`Self::filter_value`]; what does not start like an operation is an argument.
    pub(in super::super) fn filter_value_or_argument(&mut self) -> Parsed<OpExpr> {
        self.or(Self::filter_value, |p| Ok(OpExpr::NoOp(p.rest().to_owned())))
    }

    fn operation(&mut self, value: ValueIn) -> Parsed<OpExpr> {
        let negated = self.negation()?;
        let operation = self.label("operator (eq, gt, ...)", |p| {
            p.or(Self::in_list, |p| {
                p.or(Self::is, |p| {
                    p.or(
                        |p| p.is_distinct(value),
                        |p| {
                            p.or(
                                |p| p.attempt(|p| p.full_text(value)),
                                |p| p.or(|p| p.attempt(|p| p.simple(value)), |p| p.attempt(|p| p.quantified(value))),
                            )
                        },
                    )
                })
            })
        })?;
        Ok(OpExpr::Op { negated, operation })
    }

    fn negation(&mut self) -> Parsed<bool> {
        let negated = self.optional(|p| {
            p.attempt(|p| {
                p.string("not")?;
                p.delimiter()
            })
        })?;
        Ok(negated.is_some())
    }

    /// The first of several fixed texts, each tried from the start.
    fn one_of<T: Copy>(&mut self, table: &[(&'static str, T)]) -> Parsed<T> {
        for (text, value) in table {
            if self.attempt(|p| p.string(text)).is_ok() {
                return Ok(*value);
            }
        }
        Err(Fail)
    }

    fn in_list(&mut self) -> Parsed<Operation> {
        self.attempt(|p| {
            p.string("in")?;
            p.delimiter()
        })?;
        self.lexeme(|p| p.char('('))?;
        let mut count = 0;
        let element = |p: &mut Self| {
            count += 1;
            p.within(limit::LIST_VALUES, count)?;
            p.list_element()
        };
        let values = self.separated(element, |p| p.char(','))?;
        self.lexeme(|p| p.char(')'))?;
        Ok(Operation::In(values))
    }

    fn list_element(&mut self) -> Parsed<String> {
        self.or(|p| p.attempt(Self::quoted_element), |p| Ok(Cow::Borrowed(p.many_chars(|c| !is_list_end(c), &[]))))
            .map(Cow::into_owned)
    }

    /// A quoted value with nothing behind its second quote.
    fn quoted_element(&mut self) -> Parsed<Cow<'a, str>> {
        let value = self.quoted_value()?;
        self.not_followed_by(|c| !is_list_end(c), &[])?;
        Ok(value)
    }

    fn is(&mut self) -> Parsed<Operation> {
        self.attempt(|p| {
            p.string("is")?;
            p.delimiter()
        })?;
        self.label("isVal: (null, not_null, true, false, unknown)", |p| {
            for (text, value) in IS_VALUES {
                if p.attempt(|p| p.string_ignoring_case(text)).is_ok() {
                    return Ok(Operation::Is(value));
                }
            }
            Err(Fail)
        })
    }

    fn is_distinct(&mut self, value: ValueIn) -> Parsed<Operation> {
        self.attempt(|p| {
            p.string("isdistinct")?;
            p.delimiter()
        })?;
        Ok(Operation::IsDistinctFrom(self.value(value)?))
    }

    fn full_text(&mut self, value: ValueIn) -> Parsed<Operation> {
        let operator = self.one_of(&FTS_OPERATORS)?;
        let language = self.optional(|p| {
            p.attempt(|p| {
                p.char('(')?;
                let language = p.identifier()?.to_owned();
                p.char(')')?;
                Ok(language)
            })
        })?;
        self.delimiter()?;
        Ok(Operation::Fts { operator, language, value: self.value(value)? })
    }

    fn simple(&mut self, value: ValueIn) -> Parsed<Operation> {
        let operator = self.label("unknown single value operator", |p| p.one_of(&SIMPLE_OPERATORS))?;
        self.delimiter()?;
        Ok(Operation::Simple { operator, value: self.value(value)? })
    }

    fn quantified(&mut self, value: ValueIn) -> Parsed<Operation> {
        let operator = self.label("unknown single value operator", |p| p.one_of(&QUANT_OPERATORS))?;
        let quantifier = self.optional(|p| {
            p.attempt(|p| {
                p.char('(')?;
                let quantifier = p.or(
                    |p| p.attempt(|p| p.string("any")).map(|()| Quantifier::Any),
                    |p| p.string("all").map(|()| Quantifier::All),
                )?;
                p.char(')')?;
                Ok(quantifier)
            })
        })?;
        self.delimiter()?;
        Ok(Operation::Quantified { operator, quantifier, value: self.value(value)? })
    }

    fn value(&mut self, place: ValueIn) -> Parsed<String> {
        match place {
            ValueIn::Parameter => Ok(self.all().to_owned()),
            ValueIn::LogicTree => self
                .or(
                    |p| p.attempt(Self::quoted_element),
                    |p| {
                        p.or(
                            |p| p.attempt(Self::array_literal).map(Cow::Borrowed),
                            |p| Ok(Cow::Borrowed(p.many_chars(|c| !is_list_end(c), &[]))),
                        )
                    },
                )
                .map(Cow::into_owned),
        }
    }

    /// `{...}` without braces inside.
    fn array_literal(&mut self) -> Parsed<&'a str> {
        let all = self.rest();
        self.string("{")?;
        let inner = self.many_chars(|c| !matches!(c, '{' | '}'), &[]);
        self.string("}")?;
        Ok(&all[..inner.len() + 2])
    }

    /// `and(...)`, `not.or(...)`, `column.operator.value`
    pub(in super::super) fn logic_tree(&mut self) -> Parsed<LogicTree> {
        self.node(limit::CONDITIONS)?;
        self.or(
            |p| p.attempt(Self::logic_filter).map(LogicTree::Filter),
            |p| {
                let negated = p.label("negation operator (not)", Self::negation)?;
                let operator = p.label("logic operator (and, or)", |p| {
                    p.or(
                        |p| p.attempt(|p| p.string("and")).map(|()| LogicOperator::And),
                        |p| p.string("or").map(|()| LogicOperator::Or),
                    )
                })?;
                p.lexeme(|p| p.char('('))?;
                p.enter(limit::LOGIC_DEPTH)?;
                let children = p.separated(Self::logic_tree, |p| p.lexeme(|p| p.char(',')))?;
                p.leave();
                p.lexeme(|p| p.char(')'))?;
                Ok(LogicTree::Expr { negated, operator, children })
            },
        )
    }

    fn logic_filter(&mut self) -> Parsed<Filter> {
        let field = self.field()?;
        self.delimiter()?;
        let op = self.operation(ValueIn::LogicTree)?;
        Ok(Filter { field, op })
    }

    /// The key of a logic tree: `and`, `not.or`, `clients.and`, `clients.not.or`.
    pub(in super::super) fn logic_key(&mut self) -> Parsed<LogicKey> {
        let mut path = self.separated(|p| p.field_name().map(Cow::into_owned), Self::delimiter)?;
        let negated = path.iter().any(|name| name == "not");
        let operator = path.pop().unwrap_or_default();
        path.retain(|name| name != "not");
        let operator = if negated { format!("not.{operator}") } else { operator };
        Ok(LogicKey { path, operator })
    }
}

fn is_list_end(c: char) -> bool {
    matches!(c, ',' | ')')
}
