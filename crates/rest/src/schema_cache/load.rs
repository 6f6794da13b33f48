//! From the catalog to a [`SchemaCache`].

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Deserialize;

use super::relations::{self, RelationRows};
use super::{
    Column, HandlerTarget, IsolationLevel, MediaHandler, MediaHandlers, PgType, ReturnType, Routine, RoutineParam,
    SchemaCache, SettingReaders, Table, Timezones, Volatility, builtin_media_handlers, view,
};
use crate::config::Config;
use crate::identifier::QualifiedIdentifier;
use crate::media_type::MediaType;
use crate::text_array::text_array;

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
        let (mut names, schemas) = (Interner::default(), &config.db_schemas);
        let relation_rows = RelationRows {
            tables: tables(rows("tables")?, &mut names)?,
            keys: rows("keys")?.rows.iter().map(|row| column_json("keys", row, 0)).collect::<Result<_, _>>()?,
            views: views(rows("views")?, &mut names)?,
            computed: json("computed_relationships", rows("computed_relationships")?)?,
        };
        let (tables, relationships) = relations::build(relation_rows, &mut names, |schema| {
            schemas.iter().any(|exposed| AsRef::<str>::as_ref(exposed) == schema)
        });
        let readers: ReaderRow = json("setting_readers", rows("setting_readers")?)?;
        Ok(Self {
            tables,
            relationships,
            routines: routines(rows("routines")?, &mut names)?,
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
            version_rows: Box::default(),
            read_after: None,
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

/// A result of one row and one column, read.
fn json<'a, T: Deserialize<'a>>(query: &'static str, rows: &'a pg::Rows) -> Result<T, LoadError> {
    column_json(query, rows.rows.first().ok_or(LoadError::Missing(query))?, 0)
}

fn column_json<'a, T: Deserialize<'a>>(query: &'static str, row: &'a pg::Row, column: usize) -> Result<T, LoadError> {
    let text = row.text(column).ok_or(LoadError::Missing(query))?;
    serde_json::from_str(text).map_err(|source| LoadError::Malformed { query, source })
}

/// A text that is not copied out of the result unless it is escaped there.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// (headers, cookies, method, path, response)
#[derive(Deserialize)]
struct ReaderRow(bool, bool, bool, bool, bool, bool);

fn views(rows: &pg::Rows, names: &mut Interner) -> Result<HashMap<u32, view::View>, LoadError> {
    let mut views = HashMap::with_capacity(rows.rows.len());
    for row in &rows.rows {
        let missing = || LoadError::Missing("views");
        let oid = row.int(0).and_then(|oid| u32::try_from(oid).ok()).ok_or_else(missing)?;
        let (schema, name) = (row.text(1).ok_or_else(missing)?, row.text(2).ok_or_else(missing)?);
        let columns: Vec<(i32, Text<'_>)> = column_json("views", row, 3)?;
        views.insert(
            oid,
            view::View {
                name: names.qi(schema, name),
                columns: columns.into_iter().map(|(number, name)| (number, names.get(&name))).collect(),
                origins: view::origins(row.text(4).unwrap_or("")),
            },
        );
    }
    Ok(views)
}

/// (oid, schema, name, description, is a view, has heirs, insertable, updatable, deletable, columns)
#[derive(Deserialize)]
struct TableRow<'a>(
    u32,
    #[serde(borrow)] Text<'a>,
    #[serde(borrow)] Text<'a>,
    Option<Box<str>>,
    bool,
    bool,
    bool,
    bool,
    bool,
    #[serde(borrow)] Vec<ColumnRow<'a>>,
);

/// (name, description, nullable, number of the type, default)
#[derive(Deserialize)]
struct ColumnRow<'a>(#[serde(borrow)] Text<'a>, Option<Box<str>>, bool, usize, #[serde(borrow)] Option<Text<'a>>);

/// (type without modifiers, as declared, most characters, values of an enum)
#[derive(Deserialize)]
struct ColumnTypeRow<'a>(#[serde(borrow)] Text<'a>, #[serde(borrow)] Text<'a>, Option<i32>, Option<Arc<[Box<str>]>>);

struct ColumnType {
    data_type: Arc<str>,
    nominal_type: Arc<str>,
    max_length: Option<i32>,
    enum_values: Arc<[Box<str>]>,
}

/// The tables, their primary keys still unknown.
fn tables(rows: &pg::Rows, names: &mut Interner) -> Result<Vec<Table>, LoadError> {
    const QUERY: &str = "tables";
    let mut types: Vec<ColumnType> = Vec::new();
    let mut tables = Vec::with_capacity(rows.rows.len());
    for row in &rows.rows {
        if row.text(0) == Some("t") {
            let (number, column_type): (usize, ColumnTypeRow<'_>) = column_json(QUERY, row, 1)?;
            let ColumnTypeRow(data_type, nominal_type, max_length, enum_values) = column_type;
            if number != types.len() {
                return Err(LoadError::Missing(QUERY));
            }
            types.push(ColumnType {
                data_type: names.get(&data_type),
                nominal_type: names.get(&nominal_type),
                max_length,
                enum_values: enum_values.unwrap_or_default(),
            });
            continue;
        }
        let TableRow(oid, schema, name, description, is_view, has_heirs, insertable, updatable, deletable, columns) =
            column_json(QUERY, row, 1)?;
        let columns = columns.into_iter().map(|ColumnRow(name, description, nullable, number, default)| {
            let column_type = types.get(number).ok_or(LoadError::Missing(QUERY))?;
            Ok(Column {
                name: names.get(&name),
                description,
                nullable,
                data_type: column_type.data_type.clone(),
                nominal_type: column_type.nominal_type.clone(),
                max_length: column_type.max_length,
                default: default.map(|expression| names.get(&expression)),
                enum_values: column_type.enum_values.clone(),
            })
        });
        let columns = columns.collect::<Result<_, LoadError>>()?;
        tables.push(Table {
            oid,
            schema: names.get(&schema),
            name: names.get(&name),
            description,
            is_view,
            has_heirs,
            insertable,
            updatable,
            deletable,
            pk_columns: Box::default(),
            columns,
        });
    }
    Ok(tables)
}

/// (function's schema and name, table's, foreign table's, to one)
pub(super) type ComputedRow = (String, String, String, String, String, String, bool);

#[derive(Deserialize)]
struct RoutineRow<'a> {
    oid: u32,
    #[serde(borrow)]
    schema: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    description: Option<Box<str>>,
    /// Of all parameters, those of the result included.
    types: Vec<u32>,
    #[serde(borrow)]
    names: Option<Vec<Text<'a>>>,
    /// A letter for each parameter; none when all are for input.
    #[serde(borrow)]
    modes: Option<Text<'a>>,
    /// Input parameters before the first with a default.
    required: usize,
    #[serde(borrow)]
    return_schema: Text<'a>,
    #[serde(borrow)]
    return_name: Text<'a>,
    returns_set: bool,
    is_composite: bool,
    is_alias: bool,
    #[serde(borrow)]
    volatility: Text<'a>,
    has_variadic: bool,
    isolation_level: Option<String>,
    settings: Option<Vec<(String, Box<str>)>>,
}

/// The type of a parameter: its name, the same without a length, and whether it takes a whole body.
struct ParamType {
    name: Arc<str>,
    max_length: Arc<str>,
    takes_body: bool,
}

impl RoutineRow<'_> {
    /// The input parameters; None when the function cannot be called, because those without a name cannot be given.
    fn params(
        &self,
        types: &HashMap<u32, ParamType>,
        names: &mut Interner,
    ) -> Result<Option<Vec<RoutineParam>>, LoadError> {
        let modes = self.modes.as_deref().unwrap_or_default().as_bytes();
        let mut params = Vec::with_capacity(self.types.len());
        let (mut unnamed, mut takes_body) = (0, false);
        for (index, oid) in self.types.iter().enumerate() {
            let mode = modes.get(index).copied().unwrap_or(b'i');
            if !matches!(mode, b'i' | b'b' | b'v') {
                continue;
            }
            let name = self.names.as_ref().and_then(|names| names.get(index)).map_or("", |name| name);
            let param_type = types.get(oid).ok_or(LoadError::Missing("routines"))?;
            if name.is_empty() {
                unnamed += 1;
                takes_body |= param_type.takes_body;
            }
            params.push(RoutineParam {
                name: names.get(name),
                data_type: param_type.name.clone(),
                max_length_type: param_type.max_length.clone(),
                required: params.len() < self.required,
                variadic: mode == b'v',
            });
        }
        // Parameters are given by name; one alone may lack it if its type can take a whole body.
        let callable = unnamed == 0 || (params.len() == 1 && takes_body);
        Ok(callable.then_some(params))
    }
}

type Routines = HashMap<QualifiedIdentifier, Vec<Arc<Routine>>>;

fn routines(rows: &pg::Rows, names: &mut Interner) -> Result<Routines, LoadError> {
    const QUERY: &str = "routines";
    let mut types: HashMap<u32, ParamType> = HashMap::new();
    let mut routines: Routines = HashMap::new();
    for row in &rows.rows {
        if row.text(0) == Some("t") {
            let (oid, name, max_length, takes_body): (u32, Text<'_>, Text<'_>, bool) = column_json(QUERY, row, 1)?;
            types.insert(oid, ParamType { name: names.get(&name), max_length: names.get(&max_length), takes_body });
            continue;
        }
        let row: RoutineRow<'_> = column_json(QUERY, row, 1)?;
        let Some(params) = row.params(&types, names)? else { continue };
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
            params: params.into(),
            return_type: if row.returns_set { ReturnType::SetOf(pg_type) } else { ReturnType::Single(pg_type) },
            volatility: match &*row.volatility {
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
    routines.shrink_to_fit();
    Ok(routines)
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
#[derive(Deserialize)]
pub(super) struct KeyColumn<'a>(
    pub(super) i32,
    #[serde(borrow)] pub(super) Text<'a>,
    pub(super) Option<i32>,
    #[serde(borrow)] pub(super) Option<Text<'a>>,
);

/// A row of the query `keys`: name, table, foreign table, columns, whether one-to-one.
#[derive(Deserialize)]
pub(super) struct KeyRow<'a> {
    #[serde(borrow)]
    pub(super) constraint: Text<'a>,
    pub(super) oid: u32,
    #[serde(borrow)]
    pub(super) schema: Text<'a>,
    #[serde(borrow)]
    pub(super) table: Text<'a>,
    pub(super) foreign_oid: u32,
    #[serde(borrow)]
    pub(super) foreign_schema: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) foreign_table: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) columns: Option<Vec<KeyColumn<'a>>>,
    pub(super) one_to_one: bool,
}
