//! Extensions, asked in the project's own database as its owner.

/// Name, whether the owner may install it by SQL, default version, installed version, schema, comment.
pub(crate) const EXTENSIONS: &str = "select a.name, coalesce(v.trusted, false), a.default_version, a.installed_version,
        n.nspname, a.comment
    from pg_catalog.pg_available_extensions a
    left join pg_catalog.pg_available_extension_versions v on v.name = a.name and v.version = a.default_version
    left join pg_catalog.pg_extension e on e.extname = a.name
    left join pg_catalog.pg_namespace n on n.oid = e.extnamespace
    where a.name <> 'plpgsql'
    order by a.name";
