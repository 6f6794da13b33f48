//! The operator's defaults in place of ours, for projects whose settings do not say.

use serde_json::{Map, Value};

use crate::store::settings::Sections;

/// What counts where a project has set nothing; none leaves our default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingDefaults {
    /// Of `auth.jwt_exp`: how long an access token is valid, in seconds.
    pub jwt_exp: Option<i64>,
    /// Of `auth.sessions_inactivity_timeout`: how long a refresh token that nobody uses is good, in seconds.
    pub sessions_inactivity_timeout: Option<i64>,
}

impl SettingDefaults {
    /// Puts the defaults into the full values of a section.
    pub(super) fn fill(&self, section: &str, values: &mut Map<String, Value>, stored: &Sections) {
        if section != "auth" {
            return;
        }
        let defaults = [("jwt_exp", self.jwt_exp), ("sessions_inactivity_timeout", self.sessions_inactivity_timeout)];
        for (name, default) in defaults {
            let is_set = stored.get(section).is_some_and(|stored| stored.contains_key(name));
            if let (Some(default), false) = (default, is_set) {
                values.insert(name.to_owned(), default.into());
            }
        }
    }
}
