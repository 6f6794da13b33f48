//! From the catalog to a [`SchemaCache`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::relations::{self, RelationRows};
use super::{
    Column, HandlerTarget, IsolationLevel, MediaHandler, MediaHandlers, PgType, ReturnType, Routine, RoutineParam,
    SchemaCache, SettingReaders, Table, Timezones, Volatility, builtin_media_handlers, view,
};
use crate::config::Config;
use crate::identifier::QualifiedIdentifier;
use crate::media_type::MediaType;

/// A statement that reads a part of the catalog.
#[derive(Clone, Debug)]
pub struct CatalogQuery {
    pub name: &'static str,
    pub query: pg::Query,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the catalog query {0} is missing from the results or gave no row")]
    Missing(&'static str),
    #[error("the catalog query {query} gave something unexpected: {source}")]
    Malformed { query: &'static str, source: serde_json::Error },
}

/// What [`SchemaCache::load`] needs, to be run in this order in one REPEATABLE READ transaction by any role that may
/// connect. The first statement empties `search_path` for that transaction, so that all names come out qualified.
pub fn queries(config: &Config) -> Vec<CatalogQuery> {
    let schemas = text_array(config.db_schemas.iter().map(AsRef::as_ref));
    let hoisted = text_array(config.db_hoisted_tx_settings.iter().map(AsRef::as_ref));
    let with_search_path =
        text_array(config.db_schemas.iter().chain(config.db_extra_search_path.iter()).map(AsRef::as_ref));
    let query = |name, sql: &str, params: Vec<&Bytes>| CatalogQuery {
        name,
        query: pg::Query { sql: sql.into(), params: params.into_iter().map(|p| Some(p.clone())).collect() },
    };
    vec![
        query("search_path", "select pg_catalog.set_config('search_path', '', true)", vec![]),
        query("tables", include_str!("tables.sql"), vec![&schemas]),
        query("keys", include_str!("keys.sql"), vec![]),
        query("views", include_str!("views.sql"), vec![&with_search_path]),
        query("computed_relationships", include_str!("computed_relationships.sql"), vec![&schemas]),
        query("routines", include_str!("routines.sql"), vec![&schemas, &hoisted]),
        query("representations", include_str!("representations.sql"), vec![]),
        query("media_handlers", include_str!("media_handlers.sql"), vec![&schemas]),
        query("setting_readers", include_str!("setting_readers.sql"), vec![]),
    ]
}

/// Reads the names of time zones; for [`timezones_from`].
pub fn timezones_query() -> pg::Query {
    pg::Query { sql: include_str!("timezones.sql").into(), params: Vec::new() }
}

/// # Errors
/// When the result is not that of [`timezones_query`].
pub fn timezones_from(rows: &pg::Rows) -> Result<Timezones, LoadError> {
    json("timezones", rows)
}

/// A PostgreSQL array literal.
fn text_array<'a>(items: impl Iterator<Item = &'a str>) -> Bytes {
    let mut out = String::from("{");
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('"');
        for c in item.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out.into()
}

impl SchemaCache {
    /// Builds the cache from the results of [`queries`], in their order. `version` stays 0.
    ///
    /// # Errors
    /// When a result is missing or is not of the shape its query gives.
    pub fn load(config: &Config, results: &[pg::Rows]) -> Result<Self, LoadError> {
        let names = queries(config);
        let rows = |name: &'static str| {
            let index = names.iter().position(|q| q.name == name).ok_or(LoadError::Missing(name))?;
            results.get(index).ok_or(LoadError::Missing(name))
        };
        let relation_rows = RelationRows {
            tables: json("tables", rows("tables")?)?,
            keys: json("keys", rows("keys")?)?,
            views: views(rows("views")?)?,
            computed: json("computed_relationships", rows("computed_relationships")?)?,
        };
        let (mut names, schemas) = (Interner::default(), &config.db_schemas);
        let (tables, relationships) = relations::build(relation_rows, &mut names, |schema| {
            schemas.iter().any(|exposed| AsRef::<str>::as_ref(exposed) == schema)
        });
        let readers: ReaderRow = json("setting_readers", rows("setting_readers")?)?;
        Ok(Self {
            tables,
            relationships,
            routines: routines(json("routines", rows("routines")?)?, &mut names),
            representations: json::<Vec<(Arc<str>, Arc<str>, Arc<str>)>>("representations", rows("representations")?)?
                .into_iter()
                .map(|(source, target, function)| ((source, target), function))
                .collect(),
            media_handlers: media_handlers(json("media_handlers", rows("media_handlers")?)?),
            readers: SettingReaders {
                headers: readers.0,
                cookies: readers.1,
                method: readers.2,
                path: readers.3,
                response: readers.4,
                writes: readers.5,
            },
            timezones: OnceLock::new(),
            version: 0,
        })
    }
}

/// One copy of each text that comes up again and again: schemas, types, columns called `id`.
#[derive(Default)]
pub(super) struct Interner(HashSet<Arc<str>>);

impl Interner {
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        match self.0.get(text) {
            Some(known) => known.clone(),
            None => {
                let new: Arc<str> = text.into();
                self.0.insert(new.clone());
                new
            }
        }
    }

    pub(super) fn qi(&mut self, schema: &str, name: &str) -> QualifiedIdentifier {
        QualifiedIdentifier { schema: self.get(schema), name: self.get(name) }
    }
}

fn json<T: DeserializeOwned>(query: &'static str, rows: &pg::Rows) -> Result<T, LoadError> {
    let text = rows.rows.first().and_then(|row| row.bytes(0)).ok_or(LoadError::Missing(query))?;
    serde_json::from_slice(&text).map_err(|source| LoadError::Malformed { query, source })
}

/// (headers, cookies, method, path, response)
#[derive(Deserialize)]
struct ReaderRow(bool, bool, bool, bool, bool, bool);

fn views(rows: &pg::Rows) -> Result<HashMap<u32, view::View>, LoadError> {
    let mut views = HashMap::with_capacity(rows.rows.len());
    for row in &rows.rows {
        let missing = || LoadError::Missing("views");
        let oid = row.int(0).and_then(|oid| u32::try_from(oid).ok()).ok_or_else(missing)?;
        let (schema, name) = (row.text(1).ok_or_else(missing)?, row.text(2).ok_or_else(missing)?);
        let columns: Vec<(i32, Arc<str>)> = serde_json::from_str(row.text(3).unwrap_or("[]"))
            .map_err(|source| LoadError::Malformed { query: "views", source })?;
        views.insert(
            oid,
            view::View {
                name: QualifiedIdentifier::new(schema, name),
                columns: columns.into_iter().collect(),
                origins: view::origins(row.text(4).unwrap_or("")),
            },
        );
    }
    Ok(views)
}

#[derive(Deserialize)]
pub(super) struct TableRow {
    pub(super) oid: u32,
    schema: String,
    name: String,
    description: Option<Box<str>>,
    is_view: bool,
    insertable: bool,
    updatable: bool,
    deletable: bool,
    columns: Vec<ColumnRow>,
}

#[derive(Deserialize)]
struct ColumnRow {
    name: String,
    description: Option<Box<str>>,
    nullable: bool,
    data_type: String,
    nominal_type: String,
    max_length: Option<i32>,
    default: Option<Box<str>>,
    enum_values: Option<Box<[Box<str>]>>,
}

impl TableRow {
    /// The table, its primary key still unknown.
    pub(super) fn into_table(self, names: &mut Interner) -> Table {
        Table {
            schema: names.get(&self.schema),
            name: names.get(&self.name),
            description: self.description,
            is_view: self.is_view,
            insertable: self.insertable,
            updatable: self.updatable,
            deletable: self.deletable,
            pk_columns: Box::default(),
            columns: self
                .columns
                .into_iter()
                .map(|column| Column {
                    name: names.get(&column.name),
                    description: column.description,
                    nullable: column.nullable,
                    data_type: names.get(&column.data_type),
                    nominal_type: names.get(&column.nominal_type),
                    max_length: column.max_length,
                    default: column.default,
                    enum_values: column.enum_values.unwrap_or_default(),
                })
                .collect(),
        }
    }
}

/// (function's schema and name, table's, foreign table's, to one)
pub(super) type ComputedRow = (String, String, String, String, String, String, bool);

#[derive(Deserialize)]
struct RoutineRow {
    oid: u32,
    schema: String,
    name: String,
    description: Option<Box<str>>,
    params: Vec<(String, String, String, bool, bool)>,
    return_schema: String,
    return_name: String,
    returns_set: bool,
    is_composite: bool,
    is_alias: bool,
    volatility: String,
    has_variadic: bool,
    isolation_level: Option<String>,
    settings: Option<Vec<(String, Box<str>)>>,
}

fn routines(rows: Vec<RoutineRow>, names: &mut Interner) -> HashMap<QualifiedIdentifier, Vec<Arc<Routine>>> {
    let mut routines: HashMap<QualifiedIdentifier, Vec<Arc<Routine>>> = HashMap::new();
    for row in rows {
        let qi = names.qi(&row.schema, &row.name);
        let returned = names.qi(&row.return_schema, &row.return_name);
        let pg_type = if row.is_composite {
            PgType::Composite { name: returned, is_alias: row.is_alias }
        } else {
            PgType::Scalar(returned)
        };
        let routine = Routine {
            oid: row.oid,
            schema: qi.schema.clone(),
            name: qi.name.clone(),
            description: row.description,
            params: row
                .params
                .into_iter()
                .map(|(name, data_type, max_length_type, required, variadic)| RoutineParam {
                    name: names.get(&name),
                    data_type: names.get(&data_type),
                    max_length_type: names.get(&max_length_type),
                    required,
                    variadic,
                })
                .collect(),
            return_type: if row.returns_set { ReturnType::SetOf(pg_type) } else { ReturnType::Single(pg_type) },
            volatility: match row.volatility.as_str() {
                "i" => Volatility::Immutable,
                "s" => Volatility::Stable,
                _ => Volatility::Volatile,
            },
            has_variadic: row.has_variadic,
            isolation_level: row.isolation_level.as_deref().map(IsolationLevel::parse),
            settings: row
                .settings
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (names.get(&name), value))
                .collect(),
        };
        routines.entry(qi).or_default().push(Arc::new(routine));
    }
    for overloads in routines.values_mut() {
        overloads.sort_by(|a, b| a.compare(b));
        overloads.shrink_to_fit();
    }
    routines
}

fn media_handlers(rows: Vec<(String, String, String, String, String, String)>) -> MediaHandlers {
    let mut handlers = builtin_media_handlers();
    for (schema, name, target_schema, target_name, asked, answered) in rows {
        let target = if target_schema == "pg_catalog" && target_name == "anyelement" {
            HandlerTarget::AnyElement
        } else {
            HandlerTarget::Relation(QualifiedIdentifier::new(&target_schema, &target_name))
        };
        let handler =
            MediaHandler::Custom { function: QualifiedIdentifier::new(&schema, &name), target: target.clone() };
        handlers.insert((target, MediaType::parse(&asked)), (handler, MediaType::parse(&answered)));
    }
    handlers
}

/// (number, name) of a column and of the one it refers to.
pub(super) type KeyColumn = (i32, String, Option<i32>, Option<String>);

/// A row of the query `keys`: name, table, foreign table, columns, whether one-to-one.
#[derive(Deserialize)]
pub(super) struct KeyRow {
    pub(super) constraint: String,
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) foreign_oid: u32,
    pub(super) foreign_schema: Option<String>,
    pub(super) foreign_table: Option<String>,
    pub(super) columns: Option<Vec<KeyColumn>>,
    pub(super) one_to_one: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_escaped() {
        assert_eq!(text_array(["a", "b\"c", "d\\e"].into_iter()), Bytes::from_static(br#"{"a","b\"c","d\\e"}"#));
        assert_eq!(text_array([].into_iter()), Bytes::from_static(b"{}"));
    }
}
