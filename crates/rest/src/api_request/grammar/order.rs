//! `order=`

use super::super::parser::{Parsed, Parser};
use super::super::types::{OrderDirection, OrderNulls, OrderTerm};
use crate::limit;

impl<const RECORD: bool> Parser<'_, RECORD> {
    pub(in super::super) fn order(&mut self) -> Parsed<Vec<OrderTerm>> {
        self.separated(
            |p| {
                p.node(limit::ORDER_TERMS)?;
                p.lexeme(|p| p.or(|p| p.attempt(Self::related_order_term), Self::order_term))
            },
            |p| p.char(','),
        )
    }

    /// `column->path.direction.nulls`
    fn order_term(&mut self) -> Parsed<OrderTerm> {
        let field = self.field()?;
        let (direction, nulls) = self.order_modifiers()?;
        Ok(OrderTerm { relation: None, field, direction, nulls })
    }

    /// `relation(column->path).direction.nulls`
    fn related_order_term(&mut self) -> Parsed<OrderTerm> {
        let relation = self.field_name()?;
        self.char('(')?;
        let field = self.field()?;
        self.char(')')?;
        let (direction, nulls) = self.order_modifiers()?;
        Ok(OrderTerm { relation: Some(relation.into_owned()), field, direction, nulls })
    }

    fn order_modifiers(&mut self) -> Parsed<(Option<OrderDirection>, Option<OrderNulls>)> {
        let direction = self.optional(|p| {
            p.or(|p| p.modifier("asc", OrderDirection::Asc), |p| p.modifier("desc", OrderDirection::Desc))
        })?;
        let nulls = self.or(
            |p| {
                let nulls = p.optional(|p| {
                    p.or(|p| p.modifier("nullsfirst", OrderNulls::First), |p| p.modifier("nullslast", OrderNulls::Last))
                })?;
                p.term_end()?;
                Ok(nulls)
            },
            |p| p.term_end().map(|()| None),
        )?;
        Ok((direction, nulls))
    }

    fn modifier<T>(&mut self, name: &'static str, value: T) -> Parsed<T> {
        self.attempt(|p| {
            p.delimiter()?;
            p.string(name)
        })
        .map(|()| value)
    }

    fn term_end(&mut self) -> Parsed<()> {
        self.or(|p| p.attempt(|p| p.look_ahead(|p| p.char(','))), |p| p.attempt(Self::end))
    }
}
