//! `select=`

use std::borrow::Cow;

use super::super::parser::{Fail, Parsed, Parser};
use super::super::types::{AggregateFunction, Field, JoinType, JsonPath, SelectItem, SelectTree};
use crate::limit;

enum EmbedParameter<'a> {
    Hint(Cow<'a, str>),
    Join(JoinType),
}

impl<'a, const RECORD: bool> Parser<'a, RECORD> {
    /// Zero or more items.
    pub(in super::super) fn select(&mut self) -> Parsed<Vec<SelectTree>> {
        let start = self.rest().len();
        match self.separated(Self::select_tree, |p| p.lexeme(|p| p.char(','))) {
            Err(Fail) if self.rest().len() == start => Ok(Vec::new()),
            result => result,
        }
    }

    fn select_tree(&mut self) -> Parsed<SelectTree> {
        self.node(limit::SELECT_ITEMS)?;
        self.or(
            |p| {
                let item = p.attempt(Self::spread_relation)?;
                Ok(SelectTree { item, children: p.children()? })
            },
            |p| {
                p.or(
                    |p| {
                        let item = p.attempt(Self::relation)?;
                        Ok(SelectTree { item, children: p.children()? })
                    },
                    |p| Ok(SelectTree { item: p.select_field()?, children: Vec::new() }),
                )
            },
        )
    }

    fn children(&mut self) -> Parsed<Vec<SelectTree>> {
        self.char('(')?;
        self.enter(limit::EMBED_DEPTH)?;
        let children = self.select()?;
        self.leave();
        self.char(')')?;
        Ok(children)
    }

    /// `...relation!hint!inner`, a bracket ahead.
    fn spread_relation(&mut self) -> Parsed<SelectItem> {
        self.lexeme(|p| {
            p.string("...")?;
            let relation = p.field_name()?.into_owned();
            let (hint, join_type) = p.embed_parameters()?;
            p.bracket_ahead()?;
            Ok(SelectItem::Spread { relation, hint, join_type })
        })
    }

    /// `alias:relation!hint!inner`, a bracket ahead.
    fn relation(&mut self) -> Parsed<SelectItem> {
        self.lexeme(|p| {
            let alias = p.alias()?;
            let relation = p.field_name()?;
            if relation == "count" {
                // `count()` is an aggregate.
                return Err(Fail);
            }
            let (hint, join_type) = p.embed_parameters()?;
            p.bracket_ahead()?;
            let alias = alias.map(Cow::into_owned);
            Ok(SelectItem::Relation { relation: relation.into_owned(), alias, hint, join_type })
        })
    }

    fn bracket_ahead(&mut self) -> Parsed<()> {
        self.attempt(|p| p.look_ahead(|p| p.string("(")))
    }

    /// `name:`, but not the colons of a cast.
    fn alias(&mut self) -> Parsed<Option<Cow<'a, str>>> {
        self.optional(|p| {
            p.attempt(|p| {
                let name = p.field_name()?;
                p.char(':')?;
                p.not_followed_by(|c| c == ':', &[r#"":""#])?;
                Ok(name)
            })
        })
    }

    fn embed_parameters(&mut self) -> Parsed<(Option<String>, Option<JoinType>)> {
        let mut hint = None;
        let mut join = None;
        for _ in 0..2 {
            match self.optional(Self::embed_parameter)? {
                Some(EmbedParameter::Hint(name)) => hint = hint.or(Some(name.into_owned())),
                Some(EmbedParameter::Join(join_type)) => join = join.or(Some(join_type)),
                None => {}
            }
        }
        Ok((hint, join))
    }

    fn embed_parameter(&mut self) -> Parsed<EmbedParameter<'a>> {
        self.char('!')?;
        self.or(
            |p| p.attempt(|p| p.string("left")).map(|()| EmbedParameter::Join(JoinType::Left)),
            |p| {
                p.or(
                    |p| p.attempt(|p| p.string("inner")).map(|()| EmbedParameter::Join(JoinType::Inner)),
                    |p| p.attempt(Self::field_name).map(EmbedParameter::Hint),
                )
            },
        )
    }

    pub(super) fn select_field(&mut self) -> Parsed<SelectItem> {
        self.lexeme(|p| p.or(|p| p.attempt(Self::star), |p| p.or(|p| p.attempt(Self::count), Self::column)))
    }

    fn star(&mut self) -> Parsed<SelectItem> {
        self.string("*")?;
        self.item_end()?;
        Ok(SelectItem::Field { field: star_field(), aggregate: None, aggregate_cast: None, cast: None, alias: None })
    }

    /// `alias:count()::cast`
    fn count(&mut self) -> Parsed<SelectItem> {
        let alias = self.alias()?;
        self.string("count()")?;
        let aggregate_cast = self.cast()?;
        self.item_end()?;
        Ok(SelectItem::Field {
            field: star_field(),
            aggregate: Some(AggregateFunction::Count),
            aggregate_cast,
            cast: None,
            alias: alias.map(Cow::into_owned),
        })
    }

    /// `alias:column->path::cast.aggregate()::cast`
    fn column(&mut self) -> Parsed<SelectItem> {
        let alias = self.alias()?;
        let field = self.field()?;
        let cast = self.cast()?;
        let aggregate = self.optional(|p| {
            p.attempt(|p| {
                p.char('.')?;
                let aggregate = p.aggregate()?;
                p.string("()")?;
                Ok(aggregate)
            })
        })?;
        let aggregate_cast = self.cast()?;
        self.item_end()?;
        Ok(SelectItem::Field { field, aggregate, aggregate_cast, cast, alias: alias.map(Cow::into_owned) })
    }

    fn cast(&mut self) -> Parsed<Option<String>> {
        self.optional(|p| {
            p.string("::")?;
            p.identifier().map(str::to_owned)
        })
    }

    fn aggregate(&mut self) -> Parsed<AggregateFunction> {
        let start = self.rest().len();
        for (name, function) in
            [("sum", AggregateFunction::Sum), ("avg", AggregateFunction::Avg), ("count", AggregateFunction::Count)]
        {
            match self.string(name) {
                Ok(()) => return Ok(function),
                Err(Fail) if self.rest().len() == start => {}
                Err(Fail) => return Err(Fail),
            }
        }
        self.or(
            |p| p.attempt(|p| p.string("max")).map(|()| AggregateFunction::Max),
            |p| p.attempt(|p| p.string("min")).map(|()| AggregateFunction::Min),
        )
    }

    fn item_end(&mut self) -> Parsed<()> {
        self.ahead(")", |p| p.ahead(",", Self::end))
    }
}

fn star_field() -> Field {
    Field { name: "*".to_owned(), path: JsonPath::new() }
}
