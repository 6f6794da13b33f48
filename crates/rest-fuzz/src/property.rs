//! What must be true of every request, whatever is in it.

use bytes::Bytes;
use http::{HeaderValue, Request};
use rest::api_request::ApiRequest;
use rest::config::Config;
use rest::error::{self, Error};
use rest::plan::{ActionPlan, action_plan};
use rest::query::{MainQuery, main_query};
use rest::schema_cache::SchemaCache;

use crate::generate::{Input, Pair};
use crate::schema;
use crate::sql_text::{SqlText, Vocabulary};
use seeded::Random;

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// It is no HTTP request.
    Nothing,
    /// It was refused while it was read.
    Parsing,
    /// It was refused while it was planned.
    Planning,
    /// It is answered without a statement, or with one of no text of the client's.
    NoStatement,
    Statement,
}

/// The schema and the configurations that requests are planned against.
pub struct Fuzzer {
    cache: SchemaCache,
    configs: [Config; 2],
    vocabulary: Vocabulary,
}

impl Default for Fuzzer {
    fn default() -> Self {
        let closed = Config { db_anon_role: Some("anon".to_owned()), ..Config::default() };
        let open = Config {
            db_aggregates_enabled: true,
            db_plan_enabled: true,
            db_max_rows: Some(1000),
            db_tx_end: base::settings::TxEnd::CommitAllowOverride,
            ..closed.clone()
        };
        Self { cache: schema::cache(), configs: [closed, open], vocabulary: Vocabulary::default() }
    }
}

impl Fuzzer {
    /// Tries both requests.
    ///
    /// # Errors
    /// What is wrong with what became of them.
    pub fn check(&self, seed: u64, pair: &Pair) -> Result<Reached, String> {
        let config = &self.configs[Random::new(seed).below(self.configs.len())];
        let (reached, first) = self.run(config, &pair.first)?;
        let (_, second) = self.run(config, &pair.second)?;
        if pair.damaged {
            return Ok(reached);
        }
        // The text of a statement depends on nothing that a value is, and on names only where they are quoted.
        match (first, second) {
            (Some(first), Some(second)) => {
                // Arrays with members that PostgreSQL cuts off are left to it, so there the length of a name may show.
                let cut_off = first.iter().chain(&second).any(SqlText::is_cut_off);
                let skeleton = if cut_off { SqlText::without_arrays } else { SqlText::without_order };
                let skeletons = |texts: &[SqlText]| texts.iter().map(skeleton).collect::<Vec<_>>();
                let (first, second) = (skeletons(&first), skeletons(&second));
                if first == second {
                    Ok(reached)
                } else {
                    Err(format!("other texts make another statement:\n{first:#?}\n{second:#?}"))
                }
            }
            (None, None) => Ok(reached),
            _ => Err("of two requests that differ in texts only, one is refused".to_owned()),
        }
    }

    /// Tries one request, which need not mean anything.
    ///
    /// # Errors
    /// What is wrong with what became of it.
    pub fn check_one(&self, input: &Input) -> Result<Reached, String> {
        self.run(&self.configs[1], input).map(|(reached, _)| reached)
    }

    fn run(&self, config: &Config, input: &Input) -> Result<(Reached, Option<Vec<SqlText>>), String> {
        let Some((parts, body)) = http_request(input) else { return Ok((Reached::Nothing, None)) };
        let mut request = match ApiRequest::parse(config, &parts, &body) {
            Ok(request) => request,
            Err(error) => return refused(&error).map(|()| (Reached::Parsing, None)),
        };
        request.preferences.settle_timezone(|name| name == "Europe/Berlin");
        // For `Content-Location` and `Preference-Applied`.
        let _ = request.preferences.applied();
        let plan = match action_plan(&request, config, &self.cache) {
            Ok(plan) => plan,
            Err(error) => return refused(&error).map(|()| (Reached::Planning, None)),
        };
        let query = match main_query(&plan, &request, config, self.cache.readers) {
            Ok(query) => query,
            Err(error) => return refused(&error).map(|()| (Reached::Planning, None)),
        };
        let ActionPlan::Crud(_) = plan else { return Ok((Reached::NoStatement, None)) };
        let texts = check_statements(&self.vocabulary, &query, input)?;
        Ok((Reached::Statement, Some(texts)))
    }
}

/// Statements of our words, quoted identifiers and parameters; and the values are in the parameters.
fn check_statements(vocabulary: &Vocabulary, query: &MainQuery, input: &Input) -> Result<Vec<SqlText>, String> {
    let mut texts = Vec::new();
    for statement in [&query.main, &query.explain_count, &query.pre_request].into_iter().flatten() {
        let text = vocabulary.read(&statement.sql).map_err(|what| format!("{what}\n{}", statement.sql))?;
        if text.parameters != statement.params.len() {
            return Err(format!("{} parameters for\n{}", statement.params.len(), statement.sql));
        }
        texts.push(text);
    }
    let params = query.main.iter().flat_map(|statement| &statement.params).flatten();
    let given: Vec<u8> = params.flat_map(|param| param.iter().copied().chain([b'\n'])).collect();
    let given = String::from_utf8_lossy(&given);
    if let Some(mark) = input.values.iter().find(|mark| !given.contains(mark.as_str())) {
        return Err(format!("the value {mark} is in no parameter of\n{:?}", query.main));
    }
    Ok(texts)
}

/// What is refused is the client's mistake, and told as one.
fn refused(error: &Error) -> Result<(), String> {
    let (status, _, body) = error::render(error, false);
    if status.is_server_error() || status.is_success() || body.is_empty() {
        return Err(format!("refused with {status}: {error}"));
    }
    Ok(())
}

fn http_request(input: &Input) -> Option<(http::request::Parts, Bytes)> {
    let mut builder = Request::builder().method(input.method).uri(&input.target);
    for (name, value) in &input.headers {
        builder = builder.header(*name, HeaderValue::from_bytes(value).ok()?);
    }
    let (parts, ()) = builder.body(()).ok()?.into_parts();
    Some((parts, Bytes::from(input.body.clone())))
}
