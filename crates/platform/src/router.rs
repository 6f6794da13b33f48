//! The routes of the platform API: one table, from which both the router and the OpenAPI document are made.

use axum::extract::State;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post};
use axum::{Json, Router};
use http::Method;
use serde_json::Value;

use crate::backup::routes as backups;
use crate::error::Error;
use crate::openapi::{self, Field, field, required};
use crate::platform::Platform;
use crate::rotation::routes as rotation;
use crate::{
    api_keys, audit, certificates, connection, domains, extensions, owner_password, owners, projects, s3_keys,
    settings, signing_keys, slow_queries, sql, usage, user_migrations,
};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Everybody,
    /// Needs an owner's token.
    Owner,
}

/// One operation.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// Unique; clients are generated with it as the function's name.
    pub(crate) operation_id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    pub(crate) query: &'static [Field],
    pub(crate) body: &'static [Field],
    pub(crate) status: u16,
    /// Name of the answer's schema; empty for an answer without a body.
    pub(crate) schema: &'static str,
    pub(crate) handler: MethodRouter<Platform>,
}

impl Route {
    fn new(
        method: Method,
        path: &'static str,
        operation_id: &'static str,
        summary: &'static str,
        handler: MethodRouter<Platform>,
    ) -> Self {
        let access = Access::Owner;
        Self { method, path, operation_id, summary, access, query: &[], body: &[], status: 200, schema: "", handler }
    }

    fn get(path: &'static str, id: &'static str, summary: &'static str, handler: MethodRouter<Platform>) -> Self {
        Self::new(Method::GET, path, id, summary, handler)
    }

    fn post(path: &'static str, id: &'static str, summary: &'static str, handler: MethodRouter<Platform>) -> Self {
        Self::new(Method::POST, path, id, summary, handler)
    }

    fn patch(path: &'static str, id: &'static str, summary: &'static str, handler: MethodRouter<Platform>) -> Self {
        Self::new(Method::PATCH, path, id, summary, handler)
    }

    fn delete(path: &'static str, id: &'static str, summary: &'static str, handler: MethodRouter<Platform>) -> Self {
        Self::new(Method::DELETE, path, id, summary, handler)
    }

    fn open(self) -> Self {
        Self { access: Access::Everybody, ..self }
    }

    fn query(self, query: &'static [Field]) -> Self {
        Self { query, ..self }
    }

    fn body(self, body: &'static [Field]) -> Self {
        Self { body, ..self }
    }

    fn answers(self, status: u16, schema: &'static str) -> Self {
        Self { status, schema, ..self }
    }
}

const CREDENTIALS: &[Field] = &[
    required("email", "string", "The owner's e-mail address."),
    required("password", "string", "At least 8 characters for a new owner."),
];

const AUDIT_PAGE: &[Field] = &[
    field("limit", "integer", "Entries on a page: 1 to 500."),
    field("before", "integer", "Only entries older than this: next_before of the page before."),
];

pub(crate) fn routes() -> Vec<Route> {
    let mut routes = owner_routes();
    routes.extend(project_routes());
    routes.extend(project_part_routes());
    routes
}

fn owner_routes() -> Vec<Route> {
    vec![
        Route::get("/api/health", "get_health", "Whether the control plane can serve.", get(get_health))
            .open()
            .answers(200, "Health"),
        Route::get("/api/openapi.json", "get_openapi", "This document.", get(get_openapi)).open().answers(200, "Any"),
        Route::get(
            "/api/tls/ask",
            "ask_tls",
            "Whether the server's proxy may get a certificate for a host name.",
            get(certificates::ask_tls),
        )
        .open()
        .query(const { &[required("domain", "string", "The host name.")] })
        .answers(200, ""),
        Route::post("/api/owners/signup", "signup_owner", "Sign up, where it is allowed.", post(owners::signup_owner))
            .open()
            .body(CREDENTIALS)
            .answers(201, "Session"),
        Route::post("/api/owners/login", "login_owner", "Get a token.", post(owners::login_owner))
            .open()
            .body(CREDENTIALS)
            .answers(200, "Session"),
        Route::post("/api/owners/logout", "logout_owner", "End the token.", post(owners::logout_owner))
            .answers(204, ""),
        Route::get("/api/owners/me", "get_me", "The owner of the token.", get(owners::get_me)).answers(200, "Owner"),
        Route::patch(
            "/api/owners/me",
            "update_me",
            "Change the password; the owner's other sessions end.",
            patch(owner_password::update_me),
        )
        .body(
            const {
                &[
                    required("old_password", "string", "The present password."),
                    required("password", "string", "The new one: at least 8 characters."),
                ]
            },
        )
        .answers(200, "Owner"),
        Route::post(
            "/api/owners/set-password",
            "set_owner_password",
            "Give an owner a new password and end the owner's sessions (administrators).",
            post(owner_password::set_password),
        )
        .body(
            const {
                &[
                    required("email", "string", "The owner's e-mail address."),
                    field("password", "string", "Made and returned once when absent."),
                ]
            },
        )
        .answers(200, "NewOwner"),
        Route::get(
            "/api/rotations",
            "get_rotations",
            "How far the change of the installation's keys is (administrators).",
            get(rotation::get_rotations),
        )
        .answers(200, "Any"),
        Route::post(
            "/api/rotations/master-key",
            "rotate_master_key",
            "A new master key; every secret is sealed with it in the background (administrators).",
            post(rotation::rotate_master_key),
        )
        .answers(202, "Any"),
        Route::post(
            "/api/rotations/internal-key",
            "rotate_internal_key",
            "A new internal key, shown this once; the one before is accepted until it is ended (administrators).",
            post(rotation::rotate_internal_key),
        )
        .answers(201, "Any"),
        Route::delete(
            "/api/rotations/internal-key",
            "end_previous_internal_key",
            "Accept only the newest internal key (administrators).",
            delete(rotation::end_previous_internal_key),
        )
        .answers(204, ""),
        Route::get(
            "/api/audit",
            "list_server_audit_entries",
            "Logins, owners and purged projects, newest first (administrators).",
            get(audit::list_server_audit_entries),
        )
        .query(AUDIT_PAGE)
        .answers(200, "AuditEntries"),
        Route::get(
            "/api/domains",
            "list_waiting_domains",
            "Domains that projects claim and that wait for approval (administrators).",
            get(domains::list_waiting_domains),
        )
        .answers(200, "WaitingDomains"),
        Route::post(
            "/api/domains/{domain}/approve",
            "approve_domain",
            "Give a domain to a project that claims it (administrators).",
            post(domains::approve_domain),
        )
        .body(const { &[required("project_id", "string", "The project.")] })
        .answers(200, "Domain"),
        Route::post("/api/owners", "create_owner", "Make another owner (administrators).", post(owners::create_owner))
            .body(
                const {
                    &[
                        required("email", "string", "The new owner's e-mail address."),
                        field("password", "string", "Made and returned once when absent."),
                        field("is_admin", "boolean", "Whether the new owner is an administrator."),
                    ]
                },
            )
            .answers(201, "NewOwner"),
    ]
}

fn project_routes() -> Vec<Route> {
    const ID: &str = "/api/projects/{id}";
    const NAME: &[Field] = &[required("name", "string", "Unique among the owner's projects; at most 100 characters.")];
    vec![
        Route::post("/api/projects", "create_project", "Make a project.", post(projects::create_project))
            .body(
                const {
                    &[
                        required("name", "string", "Unique among the owner's projects; at most 100 characters."),
                        field(
                            "id",
                            "string",
                            "An id of the operator's choice (administrators), ^proj_[a-z0-9]{3,40}$.",
                        ),
                    ]
                },
            )
            .answers(201, "Project"),
        Route::get(
            "/api/projects",
            "list_projects",
            "The owner's projects, oldest first.",
            get(projects::list_projects),
        )
        .query(
            const {
                &[
                    field("include_deleted", "boolean", "Deleted projects that can still be restored, too."),
                    field("limit", "integer", "Projects on a page: 1 to 1000."),
                    field("offset", "integer", "Projects to leave out: next_offset of the page before."),
                ]
            },
        )
        .answers(200, "Projects"),
        Route::get(ID, "get_project", "One project.", get(projects::get_project)).answers(200, "Project"),
        Route::patch(ID, "update_project", "Rename a project.", patch(projects::update_project))
            .body(NAME)
            .answers(200, "Project"),
        Route::delete(
            ID,
            "delete_project",
            "Delete a project; it can be restored until purge_after.",
            delete(projects::delete_project),
        )
        .answers(200, "Project"),
        Route::post(
            "/api/projects/{id}/suspend",
            "suspend_project",
            "Stop serving a project; nothing is lost.",
            post(projects::suspend_project),
        )
        .answers(200, "Project"),
        Route::post(
            "/api/projects/{id}/resume",
            "resume_project",
            "Serve a suspended project again.",
            post(projects::resume_project),
        )
        .answers(200, "Project"),
        Route::post(
            "/api/projects/{id}/restore",
            "restore_project",
            "Bring a deleted project back.",
            post(projects::restore_project),
        )
        .answers(200, "Project"),
    ]
}

fn project_part_routes() -> Vec<Route> {
    const KEYS: &str = "/api/projects/{id}/keys";
    const SETTINGS: &str = "/api/projects/{id}/settings";
    const S3_KEYS: &str = "/api/projects/{id}/s3-keys";
    const SIGNING_KEYS: &str = "/api/projects/{id}/signing-keys";
    const EXTENSIONS: &str = "/api/projects/{id}/extensions";
    const DOMAINS: &str = "/api/projects/{id}/domains";
    const MIGRATIONS: &str = "/api/projects/{id}/migrations";
    const BACKUPS: &str = "/api/projects/{id}/backups";
    vec![
        Route::get(
            "/api/projects/{id}/connection",
            "get_connection",
            "URLs, keys and database URIs, whole.",
            get(connection::get_connection),
        )
        .answers(200, "Connection"),
        Route::get(KEYS, "list_keys", "The project's keys, shortened.", get(api_keys::list_keys)).answers(200, "Keys"),
        Route::post(KEYS, "create_key", "Make a key; it is shown this once.", post(api_keys::create_key))
            .body(
                const {
                    &[
                        required("name", "string", "Unique among the project's keys in use."),
                        required("kind", "string", "\"publishable\" (role anon) or \"secret\" (role service_role)."),
                    ]
                },
            )
            .answers(201, "NewKey"),
        Route::delete(
            "/api/projects/{id}/keys/{key_id}",
            "revoke_key",
            "Revoke a key; the next request with it is refused.",
            delete(api_keys::revoke_key),
        )
        .answers(200, "Key"),
        Route::post(
            "/api/projects/{id}/keys/rotate-jwt-secret",
            "rotate_jwt_secret",
            "A new JWT secret and new legacy keys; those before are accepted until they expire or are ended.",
            post(api_keys::rotate_jwt_secret),
        )
        .body(const { &[field("end_old_tokens", "boolean", "End every token and legacy key of before at once.")] })
        .answers(200, "LegacyKeys"),
        Route::delete(
            "/api/projects/{id}/keys/previous-jwt-secrets",
            "end_previous_jwt_secrets",
            "End every token and legacy key that an earlier JWT secret signed.",
            delete(api_keys::end_previous_jwt_secrets),
        )
        .answers(204, ""),
        Route::post(
            "/api/projects/{id}/database/rotate-passwords",
            "rotate_database_passwords",
            "New passwords for the owner's role and the services'; sessions that are open stay.",
            post(projects::rotate_database_passwords),
        )
        .answers(200, "Connection"),
        Route::get(S3_KEYS, "list_s3_keys", "Access keys for the S3 protocol.", get(s3_keys::list_s3_keys))
            .answers(200, "S3Keys"),
        Route::post(
            S3_KEYS,
            "create_s3_key",
            "Make an access key for the S3 protocol (role service_role); its secret is shown this once.",
            post(s3_keys::create_s3_key),
        )
        .body(const { &[required("name", "string", "Unique among the project's access keys.")] })
        .answers(201, "NewS3Key"),
        Route::delete(
            "/api/projects/{id}/s3-keys/{key_id}",
            "delete_s3_key",
            "Delete an access key; the next request with it is refused.",
            delete(s3_keys::delete_s3_key),
        )
        .answers(200, "S3Key"),
        Route::get(
            SIGNING_KEYS,
            "list_signing_keys",
            "The key pairs that sign users' tokens.",
            get(signing_keys::list_signing_keys),
        )
        .answers(200, "SigningKeys"),
        Route::post(
            SIGNING_KEYS,
            "create_signing_key",
            "Make a standby key (ES256): published, but not used yet.",
            post(signing_keys::create_signing_key),
        )
        .answers(201, "SigningKeys"),
        Route::post(
            "/api/projects/{id}/signing-keys/rotate",
            "rotate_signing_keys",
            "Sign with the standby key; the one before verifies until it is revoked.",
            post(signing_keys::rotate_signing_keys),
        )
        .answers(200, "SigningKeys"),
        Route::delete(
            "/api/projects/{id}/signing-keys/{kid}",
            "revoke_signing_key",
            "Revoke a key pair; tokens that it signed end at once.",
            delete(signing_keys::revoke_signing_key),
        )
        .answers(200, "SigningKeys"),
        Route::get(DOMAINS, "list_domains", "The project's custom domains.", get(domains::list_domains))
            .answers(200, "Domains"),
        Route::post(
            DOMAINS,
            "create_domain",
            "Claim a domain; it counts once an administrator approved it, at once for one.",
            post(domains::create_domain),
        )
        .body(const { &[required("domain", "string", "A host name such as api.example.org; no wildcard.")] })
        .answers(201, "Domain"),
        Route::delete(
            "/api/projects/{id}/domains/{domain}",
            "delete_domain",
            "Give a domain up.",
            delete(domains::delete_domain),
        )
        .answers(200, "Domain"),
        Route::get(
            EXTENSIONS,
            "list_extensions",
            "Extensions of the database: those the owner installs by SQL, and those installed here.",
            get(extensions::list_extensions),
        )
        .answers(200, "Extensions"),
        Route::post(
            EXTENSIONS,
            "install_extension",
            "Install an extension that PostgreSQL lets no owner install, such as vector or postgis.",
            post(extensions::install_extension),
        )
        .body(const { &[required("name", "string", "One that the list shows with install: api.")] })
        .answers(201, "Extension"),
        Route::delete(
            "/api/projects/{id}/extensions/{extension}",
            "remove_extension",
            "Remove an extension that nothing uses.",
            delete(extensions::remove_extension),
        )
        .answers(204, ""),
        Route::get(SETTINGS, "get_settings", "All settings; secrets are masked.", get(settings::get_settings))
            .answers(200, "Settings"),
        Route::patch(
            SETTINGS,
            "update_settings",
            "Change settings; null puts a default back.",
            patch(settings::update_settings),
        )
        .body(
            const {
                &[
                    field("auth", "object", "Settings of the auth service."),
                    field("data_api", "object", "Settings of the data API."),
                    field("storage", "object", "Settings of the storage service."),
                    field("limits", "object", "Limits of the gateway."),
                    field("general", "object", "Settings of the whole project."),
                ]
            },
        )
        .answers(200, "Settings"),
        Route::post("/api/projects/{id}/sql", "run_sql", "Run SQL as the project's owner role.", post(sql::run_sql))
            .body(
                const {
                    &[
                        required("query", "string", "One statement, or several without params and read_only."),
                        field("params", "array", "Values for $1, $2, ..."),
                        field("read_only", "boolean", "Run in a transaction that cannot write."),
                        field(
                            "timeout_ms",
                            "integer",
                            "Milliseconds until it is cancelled: 1 to 300000, 30000 by default.",
                        ),
                    ]
                },
            )
            .answers(200, "SqlResult"),
        Route::get(
            "/api/projects/{id}/audit",
            "list_audit_entries",
            "The audit log, newest first.",
            get(audit::list_audit_entries),
        )
        .query(AUDIT_PAGE)
        .answers(200, "AuditEntries"),
        Route::get(
            "/api/projects/{id}/usage",
            "get_usage",
            "Size and activity of the database.",
            get(usage::get_usage),
        )
        .answers(200, "Usage"),
        Route::get(
            "/api/projects/{id}/slow-queries",
            "list_slow_queries",
            "Requests of the data API whose statements took long (data_api.slow_query_ms), newest first.",
            get(slow_queries::list_slow_queries),
        )
        .query(const { &[field("limit", "integer", "How many: 1 to 200, 50 by default.")] })
        .answers(200, "SlowQueries"),
        Route::get(
            MIGRATIONS,
            "list_migrations",
            "The migrations of the application that were applied, in order.",
            get(user_migrations::list_migrations),
        )
        .answers(200, "Any"),
        Route::post(
            MIGRATIONS,
            "apply_migrations",
            "Apply migrations that were not yet, in order, each in a transaction of its own.",
            post(user_migrations::apply_migrations),
        )
        .body(
            const {
                &[
                    required("migrations", "array", "Objects of version (digits), name and sql."),
                    field("dry_run", "boolean", "Apply all of them in one transaction and take it back."),
                ]
            },
        )
        .answers(200, "Any"),
        Route::get(BACKUPS, "list_backups", "The project's backups, newest first.", get(backups::list_backups))
            .answers(200, "Any"),
        Route::post(
            BACKUPS,
            "create_backup",
            "Begin a backup; it is listed when it is whole.",
            post(backups::create_backup),
        )
        .answers(202, "Any"),
    ]
}

impl Platform {
    /// Everything below `/api`.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        for route in routes() {
            router = router.route(route.path, route.handler);
        }
        router
            .fallback(|| async { Error::NoSuchRoute })
            .method_not_allowed_fallback(|| async { Error::MethodNotAllowed })
            .with_state(self.clone())
    }
}

async fn get_health(State(platform): State<Platform>) -> Response {
    web::health::respond(&platform.health().await)
}

async fn get_openapi(State(platform): State<Platform>) -> Json<Value> {
    Json(openapi::document(&routes(), &platform.config().public_url))
}
