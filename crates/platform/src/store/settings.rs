//! Settings of projects: only what differs from the defaults, one row a section.

use std::collections::HashMap;

use base::ProjectRef;
use serde_json::{Map, Value};
use tokio_postgres::types::Json;
use tokio_postgres::{Error, GenericClient};

pub(crate) type Sections = HashMap<String, Map<String, Value>>;

pub(crate) async fn settings_map(db: &impl GenericClient, id: &ProjectRef) -> Result<Sections, Error> {
    const SQL: &str = "select section, settings from platform.project_settings where project_id = $1";
    let rows = db.query(SQL, &[&id.as_str()]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get::<_, Json<Map<String, Value>>>(1).0)).collect())
}

pub(crate) async fn settings_put(
    db: &impl GenericClient,
    id: &ProjectRef,
    section: &str,
    settings: &Map<String, Value>,
) -> Result<(), Error> {
    const SQL: &str = "insert into platform.project_settings (project_id, section, settings) values ($1, $2, $3)
        on conflict (project_id, section) do update set settings = excluded.settings, updated_at = now()";
    db.execute(SQL, &[&id.as_str(), &section, &Json(settings)]).await.map(drop)
}

/// The automatic grants of old Supabase projects on new objects in `public`, on or off. Runs as the owner of the
/// project's tables, in the project's database.
pub(crate) const LEGACY_DEFAULT_PRIVILEGES_ON: &str = include_str!("legacy_default_privileges_on.sql");
pub(crate) const LEGACY_DEFAULT_PRIVILEGES_OFF: &str = include_str!("legacy_default_privileges_off.sql");
