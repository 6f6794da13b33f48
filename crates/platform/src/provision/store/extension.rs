//! Extensions of a project's database, as a superuser there.

use pg::ident::quote_ident;
use tokio_postgres::{Error, GenericClient};

/// Where extensions that can be moved end up.
const COMMON_SCHEMA: &str = "extensions";
/// Where an extension is made before it is moved; no owner can make a schema of this name.
const WORKBENCH: &str = "pg_launchdb_extension";

async fn extension_exists(db: &impl GenericClient, name: &str) -> Result<bool, Error> {
    const SQL: &str = "select exists (select from pg_extension where extname = $1)";
    db.query_one(SQL, &[&name]).await.map(|row| row.get(0))
}

/// Whether the version that would be installed can be moved to another schema; true when there is none, which installing
/// it tells better.
async fn extension_is_relocatable(db: &impl GenericClient, name: &str) -> Result<bool, Error> {
    const SQL: &str = "select relocatable from pg_available_extensions a
        join pg_available_extension_versions v on v.name = a.name and v.version = a.default_version
        where a.name = $1";
    Ok(db.query_opt(SQL, &[&name]).await?.is_none_or(|row| row.get(0)))
}

/// What an extension needs and is installed in a schema where somebody else than a superuser can make objects: the script
/// has that schema on its search path.
pub(in crate::provision) async fn requirements_in_open_schemas(
    db: &impl GenericClient,
    name: &str,
) -> Result<Vec<String>, Error> {
    const SQL: &str = "select needed.extname::text
        from pg_available_extensions a
        join pg_available_extension_versions v on v.name = a.name and v.version = a.default_version
        join pg_extension needed on needed.extname = any (v.requires)
        join pg_namespace n on n.oid = needed.extnamespace
        where a.name = $1 and exists (
            select from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as acl
            left join pg_roles grantee on grantee.oid = acl.grantee
            where acl.privilege_type = 'CREATE' and not coalesce(grantee.rolsuper, false))
        order by 1";
    Ok(db.query(SQL, &[&name]).await?.iter().map(|row| row.get(0)).collect())
}

/// Installs an extension that is not there yet, in a schema that nobody else can write to while its script runs.
pub(in crate::provision) async fn extension_install_in_tx(db: &impl GenericClient, name: &str) -> Result<(), Error> {
    if extension_exists(db, name).await? {
        return Ok(());
    }
    let extension = quote_ident(name);
    let sql = if extension_is_relocatable(db, name).await? {
        // The prefix pg_ is the system's, so that no owner can have made the schema; a superuser has to insist on it.
        format!(
            "set local allow_system_table_mods = on;
             create schema {WORKBENCH};
             create extension {extension} schema {WORKBENCH};
             alter extension {extension} set schema {COMMON_SCHEMA};
             drop schema {WORKBENCH};"
        )
    } else {
        format!(
            "create schema {extension};
             create extension {extension} schema {extension};
             grant usage on schema {extension} to public;"
        )
    };
    db.batch_execute(&sql).await
}

/// Takes an extension away, and the schema that it had to itself.
pub(in crate::provision) async fn extension_remove_in_tx(db: &impl GenericClient, name: &str) -> Result<(), Error> {
    const SCHEMA: &str = "select n.nspname::text from pg_extension e join pg_namespace n on n.oid = e.extnamespace
        where e.extname = $1";
    let Some(row) = db.query_opt(SCHEMA, &[&name]).await? else { return Ok(()) };
    let schema: String = row.get(0);
    let extension = quote_ident(name);
    db.batch_execute(&format!("drop extension {extension}")).await?;
    if schema == name {
        db.batch_execute(&format!("drop schema {extension}")).await?;
    }
    Ok(())
}
