//! The `Prefer` header (RFC 7240; PostgREST docs, "Prefer Header").

use http::HeaderMap;

use crate::error::Error;
use crate::limit;

/// How duplicate keys of an insert are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferResolution {
    MergeDuplicates,
    IgnoreDuplicates,
}

/// What the answer to a write carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferRepresentation {
    /// The rows.
    Full,
    /// `Location` of the one row that was created; needs SELECT on the primary key.
    HeadersOnly,
    Minimal,
}

/// How the total is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferCount {
    Exact,
    /// The query planner's estimate.
    Planned,
    /// Exact up to `db-max-rows`, the planner's estimate above.
    Estimated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferTransaction {
    Commit,
    Rollback,
}

/// What columns get that are named in `columns=` but missing in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferMissing {
    /// The column's default.
    Default,
    Null,
}

/// Whether unknown preferences are errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferHandling {
    Strict,
    Lenient,
}

/// What the client prefers. The first of several values of a preference counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    pub resolution: Option<PreferResolution>,
    pub representation: Option<PreferRepresentation>,
    pub count: Option<PreferCount>,
    /// None unless the configuration allows it (`db-tx-end` with `allow-override`).
    pub transaction: Option<PreferTransaction>,
    pub missing: Option<PreferMissing>,
    pub handling: Option<PreferHandling>,
    /// Not checked before [`Self::settle_timezone`].
    pub timezone: Option<String>,
    /// Most rows that may be affected; honoured with `handling=strict` only.
    pub max_affected: Option<i64>,
    /// What is not known, in order.
    pub invalid: Vec<String>,
    /// How many of `invalid` came before the time zone.
    invalid_before_timezone: usize,
}

impl Preferences {
    /// Reads all `Prefer` headers.
    ///
    /// # Errors
    /// [`limit::PREFERENCES_GIVEN`].
    pub fn parse(headers: &HeaderMap, allow_transaction_override: bool) -> Result<Self, Error> {
        let mut preferences = Self::default();
        let mut count = 0;
        for header in headers.get_all("prefer") {
            // Names and values are ASCII; bytes that are no UTF-8 can only be unknown.
            let text = String::from_utf8_lossy(header.as_bytes());
            if text.is_empty() {
                continue;
            }
            for preference in text.split(',') {
                count += 1;
                limit::PREFERENCES_GIVEN.check(count)?;
                preferences.add(preference.trim_ascii(), allow_transaction_override);
            }
        }
        Ok(preferences)
    }

    fn add(&mut self, preference: &str, allow_transaction_override: bool) {
        match preference {
            "resolution=merge-duplicates" => first(&mut self.resolution, PreferResolution::MergeDuplicates),
            "resolution=ignore-duplicates" => first(&mut self.resolution, PreferResolution::IgnoreDuplicates),
            "return=representation" => first(&mut self.representation, PreferRepresentation::Full),
            "return=minimal" => first(&mut self.representation, PreferRepresentation::Minimal),
            "return=headers-only" => first(&mut self.representation, PreferRepresentation::HeadersOnly),
            "count=exact" => first(&mut self.count, PreferCount::Exact),
            "count=planned" => first(&mut self.count, PreferCount::Planned),
            "count=estimated" => first(&mut self.count, PreferCount::Estimated),
            "tx=commit" | "tx=rollback" if !allow_transaction_override => {}
            "tx=commit" => first(&mut self.transaction, PreferTransaction::Commit),
            "tx=rollback" => first(&mut self.transaction, PreferTransaction::Rollback),
            "missing=default" => first(&mut self.missing, PreferMissing::Default),
            "missing=null" => first(&mut self.missing, PreferMissing::Null),
            "handling=strict" => first(&mut self.handling, PreferHandling::Strict),
            "handling=lenient" => first(&mut self.handling, PreferHandling::Lenient),
            other => {
                if let Some(timezone) = other.strip_prefix("timezone=") {
                    if self.timezone.is_none() {
                        self.timezone = Some(timezone.to_owned());
                        self.invalid_before_timezone = self.invalid.len();
                    }
                } else if let Some(rows) = other.strip_prefix("max-affected=") {
                    if self.max_affected.is_none() {
                        self.max_affected = rows.parse().ok();
                    }
                } else {
                    self.invalid.push(other.to_owned());
                }
            }
        }
    }

    /// Whether `handling=strict` was asked for.
    pub fn is_strict(&self) -> bool {
        self.handling == Some(PreferHandling::Strict)
    }

    /// Drops a time zone that `knows_timezone` does not know: it is one of the unknown preferences then.
    pub fn settle_timezone(&mut self, knows_timezone: impl FnOnce(&str) -> bool) {
        if let Some(timezone) = self.timezone.take_if(|timezone| !knows_timezone(timezone)) {
            self.invalid.insert(self.invalid_before_timezone, format!("timezone={timezone}"));
        }
    }

    /// Refuses unknown preferences with `handling=strict` (PGRST122).
    pub fn check(&self) -> Result<(), Error> {
        if self.is_strict() && !self.invalid.is_empty() {
            return Err(Error::InvalidPreferences(self.invalid.clone()));
        }
        Ok(())
    }

    /// Whether the total is counted by counting rows.
    pub fn should_count(&self) -> bool {
        matches!(self.count, Some(PreferCount::Exact | PreferCount::Estimated))
    }

    /// Whether the planner's estimate of the total is needed.
    pub fn should_explain_count(&self) -> bool {
        matches!(self.count, Some(PreferCount::Planned | PreferCount::Estimated))
    }

    /// `Preference-Applied` for these preferences; leave out those that were not honoured before asking.
    pub fn applied(&self) -> Option<String> {
        let mut text = String::new();
        let mut add = |part: &str| {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(part);
        };
        if let Some(resolution) = self.resolution {
            add(match resolution {
                PreferResolution::MergeDuplicates => "resolution=merge-duplicates",
                PreferResolution::IgnoreDuplicates => "resolution=ignore-duplicates",
            });
        }
        if let Some(missing) = self.missing {
            add(match missing {
                PreferMissing::Default => "missing=default",
                PreferMissing::Null => "missing=null",
            });
        }
        if let Some(representation) = self.representation {
            add(match representation {
                PreferRepresentation::Full => "return=representation",
                PreferRepresentation::Minimal => "return=minimal",
                PreferRepresentation::HeadersOnly => "return=headers-only",
            });
        }
        if let Some(count) = self.count {
            add(match count {
                PreferCount::Exact => "count=exact",
                PreferCount::Planned => "count=planned",
                PreferCount::Estimated => "count=estimated",
            });
        }
        if let Some(transaction) = self.transaction {
            add(match transaction {
                PreferTransaction::Commit => "tx=commit",
                PreferTransaction::Rollback => "tx=rollback",
            });
        }
        if let Some(handling) = self.handling {
            add(match handling {
                PreferHandling::Strict => "handling=strict",
                PreferHandling::Lenient => "handling=lenient",
            });
        }
        if let Some(timezone) = &self.timezone {
            add(&format!("timezone={timezone}"));
        }
        if let Some(rows) = self.max_affected.filter(|_| self.is_strict()) {
            add(&format!("max-affected={rows}"));
        }
        (!text.is_empty()).then_some(text)
    }
}

fn first<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(values: &[&'static str]) -> Preferences {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_static(value));
        }
        Preferences::parse(&headers, true).unwrap()
    }

    #[test]
    fn preferences_are_read_and_told() {
        let check = |values: &[&'static str], applied: Option<&str>, invalid: &[&str]| {
            let preferences = parse(values);
            assert_eq!(preferences.applied().as_deref(), applied, "{values:?}");
            assert_eq!(preferences.invalid, invalid, "{values:?}");
        };
        check(&[], None, &[]);
        check(
            &["resolution=ignore-duplicates, count=exact, timezone=America/Los_Angeles, max-affected=100"],
            Some("resolution=ignore-duplicates, count=exact, timezone=America/Los_Angeles"),
            &[],
        );
        check(
            &["count=exact,    tx=commit   ,return=representation , missing=default, handling=strict, anything"],
            Some("missing=default, return=representation, count=exact, tx=commit, handling=strict"),
            &["anything"],
        );
        check(&["tx=commit, tx=rollback"], Some("tx=commit"), &[]);
        check(
            &["resolution=ignore-duplicates", "resolution=merge-duplicates", "Count=exact"],
            Some("resolution=ignore-duplicates"),
            &["Count=exact"],
        );
        check(&["handling=strict, max-affected=2"], Some("handling=strict, max-affected=2"), &[]);
        check(&["handling=strict, max-affected=x"], Some("handling=strict"), &[]);
    }

    #[test]
    fn strict_handling_refuses_what_is_not_known() {
        let check = |value: &'static str, expected: Result<(), &[&str]>| {
            let expected = expected
                .map_err(|invalid| Error::InvalidPreferences(invalid.iter().map(ToString::to_string).collect()));
            let mut preferences = parse(&["", value]);
            preferences.settle_timezone(|timezone| timezone == "UTC");
            assert_eq!(preferences.check(), expected, "{value}");
        };
        check("handling=strict, timezone=UTC, count=exact", Ok(()));
        check("anything, timezone=x", Ok(()));
        check("handling=strict, a, timezone=x, b", Err(&["a", "timezone=x", "b"]));
        check("handling=strict, return=everything", Err(&["return=everything"]));
    }

    #[test]
    fn transactions_are_overridden_only_where_allowed() {
        let mut headers = HeaderMap::new();
        headers.append("prefer", HeaderValue::from_static("tx=rollback, handling=strict"));
        let preferences = Preferences::parse(&headers, false).unwrap();
        assert_eq!(preferences.transaction, None);
        assert_eq!(preferences.check(), Ok(()));
    }
}
