//! Which of the things that an error would name the role may know of.

use std::collections::HashSet;

use pg::{Query, Rows};

use crate::error::Subject;
use crate::text_array::text_array;

/// Subjects with their places in the parameters of the query.
#[derive(Default)]
pub(crate) struct VisibleObjects {
    relations: Vec<(String, String)>,
    routines: Vec<u32>,
    columns: Vec<(String, String)>,
}

impl VisibleObjects {
    pub(crate) fn of(subjects: &[Subject]) -> Self {
        let mut objects = Self::default();
        for subject in subjects {
            match subject {
                Subject::Relation(name) => objects.relations.push(((*name.schema).into(), (*name.name).into())),
                Subject::Routines(oids) => objects.routines.extend(oids),
                Subject::Column { relation, column } => objects.columns.push((relation.clone(), column.clone())),
            }
        }
        objects
    }

    pub(crate) fn query(&self, schemas: &[String]) -> Query {
        let texts = |items: &mut dyn Iterator<Item = &str>| Some(text_array(items));
        let oids: Vec<String> = self.routines.iter().map(ToString::to_string).collect();
        Query {
            sql: include_str!("visible_objects.sql").into(),
            params: vec![
                texts(&mut self.relations.iter().map(|(schema, _)| schema.as_str())),
                texts(&mut self.relations.iter().map(|(_, name)| name.as_str())),
                texts(&mut oids.iter().map(String::as_str)),
                texts(&mut self.columns.iter().map(|(relation, _)| relation.as_str())),
                texts(&mut self.columns.iter().map(|(_, name)| name.as_str())),
                texts(&mut schemas.iter().map(String::as_str)),
            ],
        }
    }

    /// Reads the result of [`VisibleObjects::query`]: whether a subject is visible.
    pub(crate) fn read(&self, rows: &Rows) -> impl Fn(&Subject) -> bool {
        let places: HashSet<(&str, usize)> = rows
            .rows
            .iter()
            .filter_map(|row| Some((row.text(0)?, usize::try_from(row.int(1)?).ok()?.checked_sub(1)?)))
            .collect();
        let found = |kind: &'static str, place: usize| places.contains(&(kind, place));
        let places_of = |kind, count: usize| (0..count).filter(move |&place| found(kind, place));
        let relations: HashSet<(String, String)> =
            places_of("relation", self.relations.len()).map(|place| self.relations[place].clone()).collect();
        let routines: HashSet<u32> =
            places_of("routine", self.routines.len()).map(|place| self.routines[place]).collect();
        let columns: HashSet<(String, String)> =
            places_of("column", self.columns.len()).map(|place| self.columns[place].clone()).collect();
        move |subject| match subject {
            Subject::Relation(name) => relations.contains(&((*name.schema).to_owned(), (*name.name).to_owned())),
            Subject::Routines(oids) => oids.iter().any(|oid| routines.contains(oid)),
            Subject::Column { relation, column } => columns.contains(&(relation.clone(), column.clone())),
        }
    }
}
