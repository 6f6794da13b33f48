//! What an exchange begins with: role, claims and settings of its caller. It is the same for every request of a caller
//! unless stored code looks at the request itself, so that it is written once and kept.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use base::Caller;
use foldhash::fast::RandomState;
use pg::Query;
use pg::claims::{Claims, SchemaCheck};
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

/// Callers whose session is kept.
const KEPT: usize = 64;

/// The claims statement, and the scope of what is prepared behind it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Role and search path, which prepared statements depend on.
    pub(crate) scope: Arc<str>,
    pub(crate) setup: Arc<Query>,
}

/// What a session is made of.
#[derive(Clone)]
pub(crate) struct SessionParams<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) search_path: &'a Arc<str>,
    /// Whether the pool's sessions start with another one.
    pub(crate) sets_search_path: bool,
    pub(crate) read_only: bool,
    /// Settings of the role that the session makes as itself, before it takes the role.
    pub(crate) role_settings: &'a [(String, String)],
    /// `statement_timeout` in milliseconds, when it is another than the session's.
    pub(crate) statement_timeout_ms: Option<u32>,
    pub(crate) schema: Option<SchemaCheck<'a>>,
}

impl SessionParams<'_> {
    /// Writes the session, with further settings of the request.
    pub(crate) fn write(&self, request_settings: &[(&str, &str)]) -> Session {
        let timeout = self.statement_timeout_ms.map(|ms| ms.to_string());
        let mut settings: Vec<(&str, &str)> = Vec::with_capacity(2 + request_settings.len());
        if self.sets_search_path {
            settings.push(("search_path", self.search_path));
        }
        settings.extend(timeout.as_deref().map(|ms| ("statement_timeout", ms)));
        settings.extend(request_settings);
        let before_role: Vec<(&str, &str)> = self.role_settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let role = self.caller.role.as_str();
        let claims = Claims {
            role,
            jwt_claims: &self.caller.claims,
            read_only: self.read_only,
            before_role: &before_role,
            settings: &settings,
            schema: self.schema,
        };
        let mut scope = String::with_capacity(role.len() + self.search_path.len() + 1);
        scope.push_str(role);
        scope.push('\n');
        scope.push_str(self.search_path);
        Session { scope: scope.into(), setup: claims.statement().into() }
    }
}

/// What a kept session depends on (settings of roles are the same as long as the instance lives). It holds the texts whose addresses it compares, so that no other can get them.
struct Key {
    role: Arc<str>,
    claims: Arc<str>,
    search_path: Arc<str>,
    read_only: bool,
    statement_timeout_ms: Option<u32>,
    schema_version: Option<i64>,
}

impl Key {
    fn of(params: &SessionParams<'_>) -> Self {
        Self {
            role: params.caller.role.0.clone(),
            claims: params.caller.claims.clone(),
            search_path: params.search_path.clone(),
            read_only: params.read_only,
            statement_timeout_ms: params.statement_timeout_ms,
            schema_version: match params.schema {
                Some(SchemaCheck::Version(version)) => Some(version),
                // Such a session has settings of the request, so that it is not kept.
                Some(SchemaCheck::Unaffected { .. }) | None => None,
            },
        }
    }

    fn numbers(&self) -> (bool, Option<u32>, Option<i64>) {
        (self.read_only, self.statement_timeout_ms, self.schema_version)
    }
}

/// A token that is used again brings the same texts: comparing their addresses is enough, and a copy is only written anew.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.role, &other.role)
            && Arc::ptr_eq(&self.claims, &other.claims)
            && Arc::ptr_eq(&self.search_path, &other.search_path)
            && self.numbers() == other.numbers()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for text in [&self.role, &self.claims, &self.search_path] {
            Arc::as_ptr(text).addr().hash(state);
        }
        self.numbers().hash(state);
    }
}

/// The sessions of one instance's callers.
#[derive(Default)]
pub(crate) struct Sessions {
    kept: OnceLock<Cache<Key, Session, UnitWeighter, RandomState>>,
}

impl Sessions {
    /// The session of a request that needs no settings of its own.
    pub(crate) fn get(&self, params: &SessionParams<'_>) -> Session {
        if matches!(params.schema, Some(SchemaCheck::Unaffected { .. })) {
            return params.write(&[]);
        }
        let kept = self.kept.get_or_init(|| {
            Cache::with(KEPT, KEPT as u64, UnitWeighter, RandomState::default(), DefaultLifecycle::default())
        });
        let key = Key::of(params);
        if let Some(session) = kept.get(&key) {
            return session;
        }
        let session = params.write(&[]);
        kept.insert(key, session.clone());
        session
    }
}
