//! The statements of requests: rows and their response in one row, with the columns of [`super::column`].

use super::query_builder as builder;
use super::snippet::{Snippet, array_literal};
use crate::identifier::QualifiedIdentifier;
use crate::media_type::{MediaType, PlanFormat};
use crate::plan::{CallPlan, ConflictResolution, MutatePlan, ReadPlanTree};
use crate::range_query::RowRange;
use crate::schema_cache::{HandlerTarget, MediaHandler, Routine};

/// How the rows that a request could have are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counting {
    /// Count them, not only those of the page.
    pub(super) total: bool,
    /// Stop counting above this many (`count=estimated`: more than `db-max-rows` are estimated).
    pub(super) stop_after: Option<u64>,
    /// All rows are on the page: neither a limit nor `db-max-rows` holds any back, and the page shows them one by one.
    pub(super) page_is_all: bool,
}

impl Counting {
    pub(super) fn new(total: bool, max_rows: Option<u64>, range: RowRange) -> Self {
        Self { total, stop_after: None, page_is_all: max_rows.is_none() && range.is_all() }
    }
}

/// What the final SELECT shows besides the body.
struct Summary<'a> {
    counting: Counting,
    /// What is counted.
    tree: &'a ReadPlanTree,
    routine: Option<&'a Routine>,
    handler: &'a MediaHandler,
    /// Stored code can set the response's headers and status.
    response_settings: bool,
    /// The execution plan is the answer.
    explains: bool,
    writes: bool,
}

pub(super) fn read(
    tree: &ReadPlanTree,
    counting: Counting,
    media_type: &MediaType,
    handler: &MediaHandler,
    response_settings: bool,
) -> Snippet {
    let mut s = Snippet::new();
    let explains = explain(&mut s, media_type);
    let summary = Summary { counting, tree, routine: None, handler, response_settings, explains, writes: false };
    // CSV looks at the rows twice.
    if *handler == MediaHandler::Csv {
        s.sql("WITH pgrst_rows AS (");
        builder::read(&mut s, tree);
        s.sql(") ");
        select(&mut s, &summary, None, None);
        s.sql(" FROM pgrst_rows _postgrest_t");
    } else {
        select(&mut s, &summary, None, None);
        s.sql(" FROM (");
        builder::read(&mut s, tree);
        s.sql(") _postgrest_t");
    }
    s
}

/// As [`read`] for JSON of one row at most, which needs no aggregate: the row is the body.
pub(super) fn read_one(tree: &ReadPlanTree, handler: &MediaHandler) -> Snippet {
    let mut s = Snippet::new();
    // The array's text is that of `json_agg`.
    let single = matches!(handler, MediaHandler::SingleJson { .. });
    s.sql(if single { "SELECT row_to_json(" } else { "SELECT json_build_array(" });
    s.sql("_postgrest_t) AS body FROM (");
    builder::read_one(&mut s, tree);
    s.sql(") _postgrest_t");
    s
}

/// As [`read`] for plain JSON, with a row for each element (see `pg::exchange::joined`): PostgreSQL then never holds the
/// whole result as one value, of which it would make several copies, and which could have 1 GB at most.
pub(super) fn read_rows(tree: &ReadPlanTree, counting: Counting, response_settings: bool) -> Snippet {
    let mut s = Snippet::new();
    let handler = &MediaHandler::Json;
    let summary = Summary { counting, tree, routine: None, handler, response_settings, explains: false, writes: false };
    s.sql("SELECT ");
    totals(&mut s, &summary, "count(*) OVER ()");
    response(&mut s, response_settings);
    s.sql(
        "null::int8 AS response_inserted, null::text AS header, j AS body, sum(octet_length(j)) OVER () AS length \
         FROM (SELECT row_to_json(_postgrest_t)::text AS j FROM (",
    );
    builder::read(&mut s, tree);
    s.sql(") _postgrest_t) _");
    s
}

pub(super) fn write(
    tree: &ReadPlanTree,
    plan: &MutatePlan,
    location: bool,
    media_type: &MediaType,
    handler: &MediaHandler,
    response_settings: bool,
) -> Snippet {
    let mut s = Snippet::new();
    let explains = explain(&mut s, media_type);
    s.sql("WITH pgrst_source AS (");
    builder::mutate(&mut s, plan);
    s.sql(")");
    let summary = Summary {
        counting: Counting::default(),
        tree,
        routine: None,
        handler,
        response_settings,
        explains,
        writes: true,
    };
    let merges = matches!(plan, MutatePlan::Insert { on_conflict: Some((ConflictResolution::MergeDuplicates, _)), .. });
    let inserted = merges.then_some("nullif(current_setting('pgrst.inserted', true), '')::int8");
    let pk_columns = match plan {
        MutatePlan::Insert { pk_columns, .. } if location => Some(&**pk_columns),
        _ => None,
    };
    let from = |s: &mut Snippet| match handler {
        // Without a body nothing has to be made of the rows.
        MediaHandler::None => {
            s.sql(" FROM pgrst_source _postgrest_t");
        }
        MediaHandler::Csv => {
            s.sql(" FROM pgrst_rows _postgrest_t");
        }
        _ => {
            s.sql(" FROM (");
            builder::read(s, tree);
            s.sql(") _postgrest_t");
        }
    };
    if *handler == MediaHandler::Csv {
        s.sql(", pgrst_rows AS (");
        builder::read(&mut s, tree);
        s.sql(")");
    }
    s.sql(" ");
    select(&mut s, &summary, pk_columns, inserted);
    from(&mut s);
    s
}

pub(super) fn call(
    tree: &ReadPlanTree,
    plan: &CallPlan,
    counting: Counting,
    media_type: &MediaType,
    handler: &MediaHandler,
    response_settings: bool,
) -> Snippet {
    let mut s = Snippet::new();
    let explains = explain(&mut s, media_type);
    s.sql("WITH pgrst_source AS (");
    builder::call(&mut s, plan);
    s.sql(")");
    let summary =
        Summary { counting, tree, routine: Some(&plan.routine), handler, response_settings, explains, writes: false };
    if *handler == MediaHandler::Csv {
        s.sql(", pgrst_rows AS (");
        builder::read(&mut s, tree);
        s.sql(") ");
        select(&mut s, &summary, None, None);
        s.sql(" FROM pgrst_rows _postgrest_t");
    } else {
        s.sql(" ");
        select(&mut s, &summary, None, None);
        s.sql(" FROM (");
        builder::read(&mut s, tree);
        s.sql(") _postgrest_t");
    }
    s
}

/// How many rows PostgreSQL expects.
pub(super) fn explain_count(tree: &ReadPlanTree) -> Snippet {
    let mut s = Snippet::new();
    s.sql("EXPLAIN (FORMAT JSON) ");
    builder::read_count(&mut s, tree);
    s
}

/// Whether the execution plan is asked for.
fn explain(s: &mut Snippet, media_type: &MediaType) -> bool {
    let MediaType::VndPlan { format, options, .. } = media_type else { return false };
    s.sql(match format {
        PlanFormat::Json => "EXPLAIN (FORMAT JSON",
        PlanFormat::Text => "EXPLAIN (FORMAT TEXT",
    });
    for (on, option) in [
        (options.analyze, ", ANALYZE"),
        (options.verbose, ", VERBOSE"),
        (options.settings, ", SETTINGS"),
        (options.buffers, ", BUFFERS"),
        (options.wal, ", WAL"),
    ] {
        if on {
            s.sql(option);
        }
    }
    s.sql(") ");
    true
}

/// `SELECT` with the columns of [`super::column`], without its FROM.
fn select(
    s: &mut Snippet,
    summary: &Summary<'_>,
    location: Option<&[std::sync::Arc<str>]>,
    inserted: Option<&'static str>,
) {
    // A function that returns one value returns one row.
    let page_total = if summary.routine.is_some_and(Routine::returns_single) { "1::int8" } else { "count(*)" };
    s.sql("SELECT ");
    totals(s, summary, page_total);
    // Who reads an execution plan knows the order that PostgREST has.
    let (as_postgrest, header_first) = (summary.explains, summary.explains && summary.writes);
    if header_first {
        header(s, location);
        s.sql(", ");
    }
    if as_postgrest {
        body(s, summary.routine, summary.handler);
        s.sql(" AS body, ");
    }
    response(s, summary.response_settings);
    s.sql(inserted.unwrap_or("null::int8")).sql(" AS response_inserted");
    if !header_first {
        s.sql(", ");
        header(s, location);
    }
    if !as_postgrest {
        s.sql(", ");
        body(s, summary.routine, summary.handler);
        s.sql(" AS body");
    }
}

/// What `Location` is made of.
fn header(s: &mut Snippet, location: Option<&[std::sync::Arc<str>]>) {
    match location {
        Some(pk_columns) => location_parameters(s, pk_columns),
        None => {
            s.sql("null::text");
        }
    }
    s.sql(" AS header");
}

/// The first two columns.
fn totals(s: &mut Snippet, summary: &Summary<'_>, page_total: &'static str) {
    let Counting { total, stop_after, page_is_all } = summary.counting;
    if !total {
        s.sql("null::int8");
    } else if page_is_all {
        s.sql(page_total);
    } else {
        s.sql("(SELECT count(*) FROM (");
        builder::read_count(s, summary.tree);
        if let Some(limit) = stop_after {
            s.sql(" LIMIT ").number_param(limit);
        }
        s.sql(") _)");
    }
    s.sql(" AS total_result_set, ").sql(page_total).sql(" AS page_total, ");
}

/// What functions set for the answer.
fn response(s: &mut Snippet, settings: bool) {
    s.sql(if settings {
        "nullif(current_setting('response.headers', true), '') AS response_headers, \
         nullif(current_setting('response.status', true), '') AS response_status, "
    } else {
        "null::text AS response_headers, null::text AS response_status, "
    });
}

/// `["key=eq.value"]` of the only row.
fn location_parameters(s: &mut Snippet, pk_columns: &[std::sync::Arc<str>]) {
    s.sql(
        "CASE WHEN count(*) = 1 THEN (\
         SELECT json_agg(pk.key || '=' || coalesce('eq.' || pk.value, 'is.null'))::text \
         FROM (SELECT row_to_json(_) AS row FROM pgrst_source _ LIMIT 1) r, json_each_text(r.row) pk \
         WHERE pk.key = ANY (",
    )
    .text_param(&array_literal(pk_columns.iter().map(|c| &**c)))
    .sql("::text[])) END");
}

/// The aggregate that makes the body.
fn body(s: &mut Snippet, routine: Option<&Routine>, handler: &MediaHandler) {
    let is = |test: fn(&Routine) -> bool| routine.is_some_and(test);
    match handler {
        MediaHandler::None => {
            s.sql("null::text");
        }
        MediaHandler::SingleJson { nulls_stripped } => {
            let scalar = is(Routine::returns_scalar);
            json(s, scalar, true, *nulls_stripped);
        }
        MediaHandler::Json | MediaHandler::ArrayJsonStrip => {
            let scalar = is(Routine::returns_scalar) || is(Routine::returns_set_of_scalar);
            let single = is(Routine::returns_scalar) || is(Routine::returns_single_composite);
            json(s, scalar, single, *handler == MediaHandler::ArrayJsonStrip);
        }
        MediaHandler::GeoJson => {
            s.sql(
                "json_build_object('type', 'FeatureCollection', 'features', \
                 coalesce(json_agg(ST_AsGeoJSON(_postgrest_t)::json), '[]'))",
            );
        }
        MediaHandler::Csv => {
            s.sql(
                "coalesce((SELECT string_agg(k, ',') FROM \
                 json_object_keys((SELECT row_to_json(_) FROM pgrst_rows _ LIMIT 1)) k), '') || E'\\n' || \
                 coalesce(string_agg(substring(_postgrest_t::text, 2, length(_postgrest_t::text) - 2), E'\\n'), '')",
            );
        }
        MediaHandler::Custom { function, target } => {
            s.qi(function).sql("(_postgrest_t");
            match target {
                _ if is(Routine::returns_scalar) => {
                    s.sql(".pgrst_scalar");
                }
                HandlerTarget::AnyElement => {}
                HandlerTarget::Relation(relation) => {
                    s.sql("::").qi(relation);
                }
            }
            s.sql(")");
        }
    }
}

/// Rows as a JSON array, or the first as what it is. The text is PostgreSQL's own: clients see its line breaks.
fn json(s: &mut Snippet, scalar: bool, single: bool, strip: bool) {
    s.sql("coalesce(").sql(if strip { "json_strip_nulls(" } else { "" });
    s.sql("json_agg(_postgrest_t").sql(if scalar { ".pgrst_scalar)" } else { ")" });
    s.sql(if single { "->0" } else { "" }).sql(if strip { ")" } else { "" });
    s.sql(if single { ", 'null')" } else { ", '[]')" });
}

/// Calls the function that looks at every request.
pub(super) fn pre_request(function: &QualifiedIdentifier) -> Snippet {
    let mut s = Snippet::new();
    s.sql("SELECT ").qi(function).sql("()");
    s
}
