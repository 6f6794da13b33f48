//! Which `request.*` settings the project's stored code can read, and whether it can set `response.*`. What nobody
//! reads need not be sent with each request.

/// All false when no stored code looks at the request beyond its claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingReaders {
    pub headers: bool,
    pub cookies: bool,
    pub method: bool,
    pub path: bool,
    /// Stored code may set `response.headers` or `response.status`.
    pub response: bool,
    /// Stored code may make settings of the transaction, which another request in the same transaction could read.
    pub writes: bool,
}

impl SettingReaders {
    /// For when it is not known what the code does.
    pub const ALL: Self = Self { headers: true, cookies: true, method: true, path: true, response: true, writes: true };
}
