//! A project's settings: validated by name and value, stored where they differ from the defaults, effective at once.

mod auth;
mod ceilings;
mod defaults;
pub(crate) mod rule;
mod sections;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use axum::Json;
use base::sealed::SealContext;
use base::settings::{DataApiSettings, LimitSettings, StorageSettings};
use base::{AuthSettings, Secret};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

pub use self::ceilings::Ceilings;
pub use self::defaults::SettingDefaults;
use self::rule::Rule;
use crate::error::{Error, Problem};
use crate::request::{Fields, ProjectCx};
use crate::sql;
use crate::store;
use crate::store::settings::Sections;

/// What is shown in place of a secret.
pub(crate) const MASK: &str = "********";

const SECTIONS: [&str; 5] = ["auth", "data_api", "storage", "limits", "general"];

fn rules(section: &str) -> Option<Vec<Rule>> {
    match section {
        "auth" => Some(auth::rules()),
        "data_api" => Some(sections::data_api()),
        "storage" => Some(sections::storage()),
        "limits" => Some(sections::limits()),
        "general" => Some(sections::general()),
        _ => None,
    }
}

fn section(name: &str, stored: &Sections) -> Map<String, Value> {
    let empty = Map::new();
    rule::effective_map(&rules(name).unwrap_or_default(), stored.get(name).unwrap_or(&empty))
}

fn typed<T: DeserializeOwned + Default>(name: &str, stored: &Sections) -> T {
    serde_json::from_value(Value::Object(section(name, stored))).unwrap_or_else(|error| {
        // Only an older or newer program could have stored such a value.
        tracing::error!(settings.section = name, cause = %error, "stored settings do not fit; using the defaults");
        T::default()
    })
}

/// The data API's settings as the engine reads them.
pub(crate) fn data_api(stored: &Sections) -> DataApiSettings {
    typed("data_api", stored)
}

/// The limits as the gateway reads them.
pub(crate) fn limits(stored: &Sections) -> LimitSettings {
    typed("limits", stored)
}

/// The settings of the storage service.
pub(crate) fn storage(stored: &Sections) -> StorageSettings {
    typed("storage", stored)
}

/// The auth settings as its service reads them; `secrets` by the names of their settings.
pub(crate) fn auth(
    stored: &Sections,
    secrets: BTreeMap<String, Secret<String>>,
    defaults: &SettingDefaults,
) -> AuthSettings {
    let mut values = section("auth", stored);
    defaults.fill("auth", &mut values, stored);
    AuthSettings::from_flat(values, secrets).unwrap_or_else(|error| {
        tracing::error!(settings.section = "auth", cause = %error, "stored settings do not fit; using the defaults");
        AuthSettings::default()
    })
}

fn flag(stored: &Sections, name: &str) -> bool {
    section("general", stored).get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// Whether the legacy `anon` and `service_role` JWTs are accepted.
pub(crate) fn legacy_keys_enabled(stored: &Sections) -> bool {
    flag(stored, "legacy_keys_enabled")
}

/// Name under which a secret setting is sealed in `platform.secrets`.
fn secret_kind(section: &str, name: &str) -> String {
    format!("{section}.{name}")
}

/// All sections with every key; secrets are masked when set.
fn view(stored: &Sections, secrets: &HashSet<String>, defaults: &SettingDefaults) -> Value {
    let mut out = Map::new();
    for name in SECTIONS {
        let mut values = section(name, stored);
        defaults.fill(name, &mut values, stored);
        for rule in rules(name).unwrap_or_default().iter().filter(|rule| rule.is_secret()) {
            let set = secrets.contains(&secret_kind(name, &rule.name));
            values.insert(rule.name.clone().into_owned(), if set { json!(MASK) } else { Value::Null });
        }
        out.insert(name.to_owned(), Value::Object(values));
    }
    Value::Object(out)
}

/// What a valid patch changes.
#[derive(Debug, Default)]
struct Change {
    /// Whole new content of the sections that the patch names.
    sections: Vec<(String, Map<String, Value>)>,
    /// Kind of secret and its new text; `None` forgets it.
    secrets: Vec<(String, Option<String>)>,
    /// `section.key` of everything named; for the audit log.
    keys: Vec<String>,
}

impl Change {
    /// A flag of the section `general` as it is after the change.
    fn flag_after(&self, stored: &Sections, name: &str) -> bool {
        match self.sections.iter().find(|(section, _)| section == "general") {
            Some((section, content)) => flag(&Sections::from([(section.clone(), content.clone())]), name),
            None => flag(stored, name),
        }
    }
}

/// Checks a patch against the rules and what is stored; an error has every problem.
fn plan(stored: &Sections, patch: &Map<String, Value>) -> Result<Change, Vec<Problem>> {
    let mut change = Change::default();
    let mut problems = Vec::new();
    for (name, patch) in patch {
        let Some(rules) = rules(name) else {
            problems.push(Problem::new(name, format!("is not a section; there are {}", SECTIONS.join(", "))));
            continue;
        };
        let Value::Object(patch) = patch else {
            problems.push(Problem::new(name, "must be an object"));
            continue;
        };
        let mut content = stored.get(name).cloned().unwrap_or_default();
        let secrets = rule::apply(&rules, name, &mut content, patch, &mut problems);
        change.keys.extend(patch.keys().map(|key| format!("{name}.{key}")));
        change.secrets.extend(secrets.into_iter().map(|(key, text)| (secret_kind(name, &key), text)));
        change.sections.push((name.clone(), content));
    }
    if problems.is_empty() { Ok(change) } else { Err(problems) }
}

pub(crate) async fn get_settings(cx: ProjectCx) -> Result<Json<Value>, Error> {
    read_view(&cx).await.map(Json)
}

async fn read_view(cx: &ProjectCx) -> Result<Value, Error> {
    let db = cx.platform().db().await?;
    let stored = store::settings::settings_map(&**db, &cx.project_ref).await?;
    let secrets = store::secret::secret_map(&**db, cx.project_ref.as_str()).await?;
    Ok(view(&stored, &secrets.into_keys().collect(), &cx.platform().config().setting_defaults))
}

pub(crate) async fn update_settings(cx: ProjectCx, mut fields: Fields) -> Result<Json<Value>, Error> {
    let patch: Map<String, Value> =
        fields.names().into_iter().map(|name| (name.clone(), fields.take_raw(&name).unwrap_or_default())).collect();
    fields.finish()?;
    cx.platform().config().ceilings.check(&patch)?;
    cx.require_present()?;
    let platform = cx.platform().clone();
    // To the end: what the owner's session has changed has to be written down.
    platform.to_the_end(async move { change(&cx, &patch).await }).await?.map(Json)
}

const DEFAULT_PRIVILEGES: &str = "legacy_default_privileges";

async fn change(cx: &ProjectCx, patch: &Map<String, Value>) -> Result<Value, Error> {
    let platform = cx.platform();
    let stored = {
        let db = platform.db().await?;
        store::settings::settings_map(&**db, &cx.project_ref).await?
    };
    let change = plan(&stored, patch).map_err(Error::Invalid)?;
    let wanted = change.flag_after(&stored, DEFAULT_PRIVILEGES);
    let moved = wanted != flag(&stored, DEFAULT_PRIVILEGES);
    let mut _alone = None;
    if moved {
        cx.require_active()?;
        platform.provisioner().write_gate().check().map_err(|_| Error::DiskNearlyFull)?;
        _alone = Some(platform.sql_sessions().alone(&cx.project_ref)?);
        let script = if wanted {
            store::settings::LEGACY_DEFAULT_PRIVILEGES_ON
        } else {
            store::settings::LEGACY_DEFAULT_PRIVILEGES_OFF
        };
        // The owner can make this wait: nothing that others need is held meanwhile. Before the commit: running it again
        // after a crash in between does no harm.
        sql::run_own(cx, script).await?;
    }
    let id = cx.project_ref.as_str();
    let mut db = platform.db().await?;
    let tx = db.transaction().await?;
    // Locks the project, so that two patches at once do not undo each other.
    store::project::project_touch_in_tx(&*tx, &cx.project_ref).await?;
    let stored = store::settings::settings_map(&*tx, &cx.project_ref).await?;
    let change = plan(&stored, patch).map_err(Error::Invalid)?;
    let after = change.flag_after(&stored, DEFAULT_PRIVILEGES);
    if (after != flag(&stored, DEFAULT_PRIVILEGES)) != moved || moved && after != wanted {
        // Another process changed it since.
        return Err(Error::ProjectBusy);
    }
    for (section, content) in &change.sections {
        store::settings::settings_put(&*tx, &cx.project_ref, section, content).await?;
    }
    for (kind, text) in &change.secrets {
        match text {
            Some(text) => {
                let context = SealContext { owner: id, kind };
                let sealed = platform.config().master_key.seal(context, text.as_bytes());
                store::secret::secret_put_in_tx(&*tx, id, kind, &sealed).await?;
            }
            None => store::secret::secret_delete(&*tx, id, kind).await?,
        }
    }
    let (actor, detail) = (cx.caller.actor(), json!({ "keys": change.keys }));
    store::audit::audit_insert(&*tx, &actor.entry(Some(&cx.project_ref), "settings.update", detail)).await?;
    tx.commit().await?;
    drop(db);
    platform.directory().refresh(&cx.project_ref).await?;
    read_view(cx).await
}
