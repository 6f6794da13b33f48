//! Tables and the relationships between them, derived from keys: foreign keys and their inverses, the same through
//! views, many-to-many through junctions, and computed ones, which take precedence.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::load::{ComputedRow, Interner, KeyColumn, KeyRow};
use super::view::{Shown, View, shown_columns};
use super::{Cardinality, ColumnPairs, Junction, Relationship, Table};
use crate::identifier::QualifiedIdentifier;

/// A view that shows one column of a key many times makes a relationship for every combination, up to this many.
const MAX_COMBINATIONS: usize = 64;

pub(super) struct RelationRows<'a> {
    pub(super) tables: Vec<Table>,
    pub(super) keys: Vec<KeyRow<'a>>,
    pub(super) views: HashMap<u32, View>,
    pub(super) computed: Vec<ComputedRow>,
}

type Tables = HashMap<QualifiedIdentifier, Table>;
type Relationships = HashMap<(QualifiedIdentifier, Arc<str>), Vec<Relationship>>;

/// A column's number and name.
type Numbered = (i32, Arc<str>);

struct ForeignKey {
    constraint: Arc<str>,
    oid: u32,
    table: QualifiedIdentifier,
    foreign_oid: u32,
    foreign_table: QualifiedIdentifier,
    /// Column and referenced column.
    columns: Vec<(Numbered, Numbered)>,
    one_to_one: bool,
}

/// Primary keys by table, and foreign keys.
struct Keys {
    primary: HashMap<u32, Vec<Numbered>>,
    foreign: Vec<ForeignKey>,
}

impl Keys {
    fn from_rows(rows: Vec<KeyRow<'_>>, names: &mut Interner) -> Self {
        let mut keys = Self { primary: HashMap::new(), foreign: Vec::new() };
        for row in rows {
            let columns = row.columns.unwrap_or_default();
            match (row.foreign_schema, row.foreign_table) {
                (Some(foreign_schema), Some(foreign_table)) => keys.foreign.push(ForeignKey {
                    constraint: names.get(&row.constraint),
                    oid: row.oid,
                    table: names.qi(&row.schema, &row.table),
                    foreign_oid: row.foreign_oid,
                    foreign_table: names.qi(&foreign_schema, &foreign_table),
                    columns: columns
                        .into_iter()
                        .map(|KeyColumn(number, name, foreign_number, foreign_name)| {
                            let foreign_name = names.get(foreign_name.as_deref().unwrap_or_default());
                            ((number, names.get(&name)), (foreign_number.unwrap_or(0), foreign_name))
                        })
                        .collect(),
                    one_to_one: row.one_to_one,
                }),
                _ => {
                    let columns =
                        columns.into_iter().map(|KeyColumn(number, name, ..)| (number, names.get(&name))).collect();
                    keys.primary.insert(row.oid, columns);
                }
            }
        }
        keys
    }
}

/// Builds tables with their primary keys, and relationships between exposed relations.
pub(super) fn build(
    rows: RelationRows<'_>,
    names: &mut Interner,
    exposed: impl Fn(&str) -> bool,
) -> (Tables, Relationships) {
    let keys = Keys::from_rows(rows.keys, names);
    let shown: Vec<(QualifiedIdentifier, Shown)> = rows
        .views
        .values()
        .filter(|view| exposed(&view.name.schema))
        .map(|view| (names.qi(&view.name.schema, &view.name.name), shown_columns(view, &rows.views)))
        .collect();
    let view_keys = view_primary_keys(&shown, &keys);

    let mut tables = Tables::with_capacity(rows.tables.len());
    for mut table in rows.tables {
        let qi = QualifiedIdentifier { schema: table.schema.clone(), name: table.name.clone() };
        table.pk_columns = if table.is_view {
            view_keys.get(&qi).cloned().unwrap_or_default().into()
        } else {
            let mut columns: Vec<Arc<str>> =
                keys.primary.get(&table.oid).into_iter().flatten().map(|(_, name)| name.clone()).collect();
            columns.sort_unstable();
            columns.into()
        };
        tables.insert(qi, table);
    }

    let mut relationships = foreign_key_relationships(&keys, &shown);
    relationships.retain(|r| exposed(&r.foreign_table().schema));
    let private_keys = private_primary_keys(&keys, &exposed);
    let (joined, hidden): (Vec<_>, Vec<_>) = many_to_many(&relationships, |table| match tables.get(table) {
        Some(table) => &table.pk_columns,
        None => private_keys.get(table).map(Vec::as_slice).unwrap_or_default(),
    })
    .into_iter()
    .partition(|r| exposed(&junction(r).schema));
    relationships.retain(|r| exposed(&r.table().schema));
    relationships.extend(joined);
    add_inverses(&mut relationships);
    let computed = rows
        .computed
        .into_iter()
        .map(|row| computed(&row, names))
        .filter(|r| exposed(&r.table().schema) && exposed(&r.foreign_table().schema));
    let mut map = index(relationships, computed.collect());
    // What is joined by a table nobody may see has relationships all the same, only none to offer.
    for relationship in hidden {
        map.entry((relationship.table().clone(), relationship.foreign_table().schema.clone())).or_default();
    }
    (tables, map)
}

/// The columns with which views show the primary keys of the tables beneath them, whole keys only.
fn view_primary_keys(
    shown: &[(QualifiedIdentifier, Shown)],
    keys: &Keys,
) -> HashMap<QualifiedIdentifier, Vec<Arc<str>>> {
    let mut found = HashMap::new();
    for (view, columns) in shown {
        let mut pk_columns = Vec::new();
        let mut seen = None;
        // Columns are ordered by table, so each table comes up in one run.
        for (table, _) in columns.keys() {
            if seen.replace(*table) == Some(*table) {
                continue;
            }
            let Some(key) = keys.primary.get(table) else { continue };
            // Where a column is shown more than once, the first will do: nobody has to name it.
            let key: Option<Vec<_>> =
                key.iter().map(|(number, _)| columns.get(&(*table, *number))?.first().cloned()).collect();
            pk_columns.extend(key.unwrap_or_default());
        }
        if !pk_columns.is_empty() {
            found.insert(view.clone(), pk_columns);
        }
    }
    found
}

/// Many-to-one and one-to-one relationships, between tables and through views on either side.
fn foreign_key_relationships(keys: &Keys, shown: &[(QualifiedIdentifier, Shown)]) -> Vec<Relationship> {
    let mut by_table: HashMap<u32, Vec<&(QualifiedIdentifier, Shown)>> = HashMap::new();
    for view in shown {
        let tables: HashSet<u32> = view.1.keys().map(|(table, _)| *table).collect();
        for table in tables {
            by_table.entry(table).or_default().push(view);
        }
    }
    // The views that show all of these columns, with each way they do.
    let ways = |oid: u32, numbers: &[i32]| -> Vec<(QualifiedIdentifier, Vec<Arc<str>>)> {
        let mut ways = Vec::new();
        for (view, columns) in by_table.get(&oid).into_iter().flatten() {
            let key: Option<Vec<&Vec<Arc<str>>>> = numbers.iter().map(|n| columns.get(&(oid, *n))).collect();
            for combination in combinations(&key.unwrap_or_default()) {
                ways.push((view.clone(), combination));
            }
        }
        ways
    };

    let mut relationships = Vec::new();
    for key in &keys.foreign {
        let cardinality = |columns: ColumnPairs| {
            let constraint = key.constraint.clone();
            if key.one_to_one {
                Cardinality::OneToOne { constraint, columns, is_parent: false }
            } else {
                Cardinality::ManyToOne { constraint, columns }
            }
        };
        let pairs = |columns: Vec<Arc<str>>, foreign: Vec<Arc<str>>| columns.into_iter().zip(foreign).collect();
        let columns: Vec<Arc<str>> = key.columns.iter().map(|(c, _)| c.1.clone()).collect();
        let foreign: Vec<Arc<str>> = key.columns.iter().map(|(_, f)| f.1.clone()).collect();
        let from = ways(key.oid, &key.columns.iter().map(|(c, _)| c.0).collect::<Vec<_>>());
        let to = ways(key.foreign_oid, &key.columns.iter().map(|(_, f)| f.0).collect::<Vec<_>>());

        relationships.push(Relationship::ForeignKey {
            table: key.table.clone(),
            foreign_table: key.foreign_table.clone(),
            is_self: key.oid == key.foreign_oid,
            cardinality: cardinality(pairs(columns.clone(), foreign.clone())),
            table_is_view: false,
            foreign_table_is_view: false,
        });
        for (view, view_columns) in &from {
            relationships.push(Relationship::ForeignKey {
                table: view.clone(),
                foreign_table: key.foreign_table.clone(),
                is_self: false,
                cardinality: cardinality(pairs(view_columns.clone(), foreign.clone())),
                table_is_view: true,
                foreign_table_is_view: false,
            });
        }
        for (view, view_columns) in &to {
            relationships.push(Relationship::ForeignKey {
                table: key.table.clone(),
                foreign_table: view.clone(),
                is_self: false,
                cardinality: cardinality(pairs(columns.clone(), view_columns.clone())),
                table_is_view: false,
                foreign_table_is_view: true,
            });
        }
        for (view, view_columns) in &from {
            for (foreign_view, foreign_columns) in &to {
                relationships.push(Relationship::ForeignKey {
                    table: view.clone(),
                    foreign_table: foreign_view.clone(),
                    is_self: view == foreign_view,
                    cardinality: cardinality(pairs(view_columns.clone(), foreign_columns.clone())),
                    table_is_view: true,
                    foreign_table_is_view: true,
                });
            }
        }
    }
    relationships
}

/// Every way to pick one of each.
fn combinations(choices: &[&Vec<Arc<str>>]) -> Vec<Vec<Arc<str>>> {
    if choices.is_empty() {
        return Vec::new();
    }
    let mut all = vec![Vec::new()];
    for choice in choices {
        all = all
            .iter()
            .flat_map(|start| choice.iter().map(move |item| start.iter().chain([item]).cloned().collect()))
            .take(MAX_COMBINATIONS)
            .collect();
    }
    all
}

/// One foreign key of a junction and the relation it leads to.
struct Side<'a> {
    table: &'a QualifiedIdentifier,
    is_view: bool,
    constraint: &'a Arc<str>,
    columns: &'a ColumnPairs,
}

/// A table whose primary key contains two foreign keys joins what they refer to.
fn many_to_many<'a>(
    relationships: &'a [Relationship],
    pk_columns: impl Fn(&QualifiedIdentifier) -> &'a [Arc<str>],
) -> Vec<Relationship> {
    let mut by_table: HashMap<&QualifiedIdentifier, Vec<Side<'_>>> = HashMap::new();
    for relationship in relationships {
        let Relationship::ForeignKey {
            table,
            foreign_table,
            cardinality: Cardinality::ManyToOne { constraint, columns },
            foreign_table_is_view,
            ..
        } = relationship
        else {
            continue;
        };
        // Only what is part of the key can take part.
        let pk_columns = pk_columns(table);
        if columns.iter().all(|(column, _)| pk_columns.contains(column)) {
            by_table.entry(table).or_default().push(Side {
                table: foreign_table,
                is_view: *foreign_table_is_view,
                constraint,
                columns,
            });
        }
    }
    let swap = |columns: &ColumnPairs| -> ColumnPairs { columns.iter().map(|(a, b)| (b.clone(), a.clone())).collect() };
    let mut found = Vec::new();
    for (junction, sides) in &by_table {
        for source in sides {
            for target in sides.iter().filter(|target| target.constraint != source.constraint) {
                found.push(Relationship::ForeignKey {
                    table: source.table.clone(),
                    foreign_table: target.table.clone(),
                    is_self: source.table == target.table,
                    cardinality: Cardinality::ManyToMany(Junction {
                        table: (*junction).clone(),
                        source_constraint: source.constraint.clone(),
                        target_constraint: target.constraint.clone(),
                        source_columns: swap(source.columns),
                        target_columns: swap(target.columns),
                    }),
                    table_is_view: source.is_view,
                    foreign_table_is_view: target.is_view,
                });
            }
        }
    }
    found
}

/// The junction of a many-to-many relationship; the table itself for others.
fn junction(relationship: &Relationship) -> &QualifiedIdentifier {
    match relationship {
        Relationship::ForeignKey { cardinality: Cardinality::ManyToMany(junction), .. } => &junction.table,
        other => other.table(),
    }
}

/// Primary keys of tables that are not exposed but refer to others.
fn private_primary_keys(keys: &Keys, exposed: impl Fn(&str) -> bool) -> HashMap<QualifiedIdentifier, Vec<Arc<str>>> {
    let private = keys.foreign.iter().filter(|key| !exposed(&key.table.schema));
    private
        .filter_map(|key| {
            let columns = keys.primary.get(&key.oid)?;
            Some((key.table.clone(), columns.iter().map(|(_, name)| name.clone()).collect()))
        })
        .collect()
}

fn add_inverses(relationships: &mut Vec<Relationship>) {
    let inverses: Vec<Relationship> = relationships
        .iter()
        .filter_map(|relationship| match relationship {
            Relationship::ForeignKey {
                table,
                foreign_table,
                is_self,
                cardinality,
                table_is_view,
                foreign_table_is_view,
            } => Some(Relationship::ForeignKey {
                table: foreign_table.clone(),
                foreign_table: table.clone(),
                is_self: *is_self,
                cardinality: cardinality.inverse()?,
                table_is_view: *foreign_table_is_view,
                foreign_table_is_view: *table_is_view,
            }),
            Relationship::Computed { .. } => None,
        })
        .collect();
    relationships.extend(inverses);
}

fn computed(row: &ComputedRow, names: &mut Interner) -> Relationship {
    let (schema, name, table_schema, table, foreign_schema, foreign_table, to_one) = row;
    let (table, foreign_table) = (names.qi(table_schema, table), names.qi(foreign_schema, foreign_table));
    Relationship::Computed {
        function: names.qi(schema, name),
        is_self: table == foreign_table,
        table,
        foreign_table,
        to_one: *to_one,
    }
}

/// Indexes relationships for finding them. A computed relationship hides those its table has with a relation of the
/// function's name.
fn index(relationships: Vec<Relationship>, computed: Vec<Relationship>) -> Relationships {
    let hidden: HashSet<(QualifiedIdentifier, QualifiedIdentifier)> = computed
        .iter()
        .filter_map(|relationship| match relationship {
            Relationship::Computed { function, table, .. } => Some((table.clone(), function.clone())),
            Relationship::ForeignKey { .. } => None,
        })
        .collect();
    let mut map = Relationships::new();
    let detected = relationships
        .into_iter()
        .filter(|r| hidden.is_empty() || !hidden.contains(&(r.table().clone(), r.foreign_table().clone())));
    for relationship in detected.chain(computed) {
        // A function is found under the schema it lives in.
        let schema = match &relationship {
            Relationship::Computed { function, .. } => function.schema.clone(),
            Relationship::ForeignKey { foreign_table, .. } => foreign_table.schema.clone(),
        };
        map.entry((relationship.table().clone(), schema)).or_default().push(relationship);
    }
    for found in map.values_mut() {
        found.sort_unstable();
        found.shrink_to_fit();
    }
    map
}
