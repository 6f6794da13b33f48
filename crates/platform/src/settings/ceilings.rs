//! The operator's ceilings over what owners may set for their projects.

use base::settings::{DataApiSettings, LimitSettings, StorageSettings};
use serde_json::{Map, Value};

use crate::error::{Error, Problem};

/// Largest values of some settings; above them nothing is stored, and what was stored before counts as the ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// Of `limits.max_body_bytes`.
    pub max_body_bytes: u64,
    /// Of `data_api.db_pool`.
    pub db_pool: u32,
    /// Of the timeouts in `data_api.statement_timeout_ms`, for which 0 (no limit) is above every ceiling; 0 here is none.
    pub statement_timeout_ms: u32,
    /// Of `storage.fileSizeLimit`, in bytes.
    pub file_size_limit: u64,
    /// Whether `data_api.instance` may be `dedicated`: whether this server has a postgrest-manager.
    pub dedicated_instances: bool,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            max_body_bytes: 50 * 1024 * 1024,
            db_pool: 30,
            statement_timeout_ms: 300_000,
            file_size_limit: 50 * 1024 * 1024,
            dedicated_instances: false,
        }
    }
}

const ROLES: [&str; 3] = ["anon", "authenticated", "service_role"];

impl Ceilings {
    /// Refuses a patch of settings that goes beyond; names every value that does.
    pub(crate) fn check(&self, patch: &Map<String, Value>) -> Result<(), Error> {
        let mut problems = Vec::new();
        let mut look = |path: [&str; 3], ceiling: u64, zero_is_unlimited: bool, setting: &str| {
            let path = path.iter().filter(|part| !part.is_empty());
            let value = path.clone().try_fold(None, |value: Option<&Value>, part| {
                Some(Some(match value {
                    None => patch.get(*part)?,
                    Some(value) => value.get(*part)?,
                }))
            });
            let Some(number) = value.flatten().and_then(Value::as_u64) else { return };
            if number > ceiling || (zero_is_unlimited && number == 0) {
                let field = path.copied().collect::<Vec<_>>().join(".");
                let least = if zero_is_unlimited { "must be from 1 to" } else { "must be at most" };
                problems.push(Problem::new(field, format!("{least} {ceiling}, the operator's ceiling ({setting})")));
            }
        };
        look(["limits", "max_body_bytes", ""], self.max_body_bytes, false, "LAUNCHDB_PROJECT_BODY_MB");
        look(["storage", "fileSizeLimit", ""], self.file_size_limit, false, "MAX_FILE_SIZE_MB");
        look(["data_api", "db_pool", ""], u64::from(self.db_pool), false, "LAUNCHDB_PROJECT_DB_POOL");
        if self.statement_timeout_ms > 0 {
            for role in ROLES {
                let path = ["data_api", "statement_timeout_ms", role];
                look(path, u64::from(self.statement_timeout_ms), true, "LAUNCHDB_PROJECT_STATEMENT_SECONDS");
            }
        }
        let instance = patch.get("data_api").and_then(|section| section.get("instance"));
        if !self.dedicated_instances && instance.and_then(Value::as_str) == Some("dedicated") {
            let text = "cannot be dedicated: this server has no postgrest-manager (LAUNCHDB_POSTGREST_MANAGER_URL)";
            problems.push(Problem::new("data_api.instance", text));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
    }

    pub(crate) fn storage(&self, settings: StorageSettings) -> StorageSettings {
        StorageSettings { file_size_limit: settings.file_size_limit.min(self.file_size_limit), ..settings }
    }

    pub(crate) fn data_api(&self, mut settings: DataApiSettings) -> DataApiSettings {
        settings.db_pool = settings.db_pool.min(self.db_pool);
        let timeouts = &mut settings.statement_timeout_ms;
        for timeout in [&mut timeouts.anon, &mut timeouts.authenticated, &mut timeouts.service_role] {
            if self.statement_timeout_ms > 0 && (*timeout == 0 || *timeout > self.statement_timeout_ms) {
                *timeout = self.statement_timeout_ms;
            }
        }
        settings
    }

    pub(crate) fn limits(&self, mut settings: LimitSettings) -> LimitSettings {
        settings.max_body_bytes = settings.max_body_bytes.min(self.max_body_bytes);
        settings
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_above_is_refused_by_name_and_cut_where_it_is_stored() {
        let ceilings =
            Ceilings { max_body_bytes: 2_000_000, db_pool: 5, statement_timeout_ms: 9_000, ..Ceilings::default() };
        let check = |patch: Value, refused: &[&str]| {
            let Value::Object(patch) = patch else { panic!("an object") };
            let problems = match ceilings.check(&patch) {
                Ok(()) => Vec::new(),
                Err(Error::Invalid(problems)) => problems,
                Err(error) => panic!("{error}"),
            };
            let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
            assert_eq!(fields, refused, "{patch:?}");
            assert!(problems.iter().all(|problem| problem.problem.contains("LAUNCHDB_")), "{problems:?}");
        };
        check(json!({"limits": {"max_body_bytes": 2_000_000}, "data_api": {"db_pool": 5}}), &[]);
        check(json!({"limits": {"max_body_bytes": null}, "data_api": 7}), &[]);
        check(
            json!({
                "limits": {"max_body_bytes": 2_000_001},
                "data_api": {"db_pool": 6, "statement_timeout_ms": {"anon": 9_001, "service_role": 0}},
            }),
            &[
                "limits.max_body_bytes",
                "data_api.db_pool",
                "data_api.statement_timeout_ms.anon",
                "data_api.statement_timeout_ms.service_role",
            ],
        );
        let data_api = ceilings.data_api(DataApiSettings::default());
        assert_eq!((data_api.db_pool, data_api.statement_timeout_ms.anon), (5, 3_000));
        let limits = LimitSettings { max_body_bytes: 1 << 30, ..LimitSettings::default() };
        assert_eq!(ceilings.limits(limits).max_body_bytes, 2_000_000);
    }
}
