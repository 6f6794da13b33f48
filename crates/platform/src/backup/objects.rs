//! How many objects of those kinds a dump makes that let people in or keep them out. Rows alone would not show that a policy
//! did not come back.

use std::fmt;

use super::template_part;

/// Numbers of a dump, or of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Objects {
    pub(super) policies: i64,
    /// Tables whose policies count.
    pub(super) guarded_tables: i64,
    /// Those that run our own functions aside: they are put back by the baseline.
    pub(super) triggers: i64,
    /// Functions, procedures and aggregates.
    pub(super) functions: i64,
}

impl Objects {
    /// Counts one statement of a dump.
    pub(super) fn count(&mut self, statement: &str) {
        let ends = |end: &str| statement.trim_end_matches(';').ends_with(end);
        let mut words = statement.split(' ');
        match (words.next(), words.next()) {
            (Some("CREATE"), Some("POLICY")) => self.policies += 1,
            (Some("CREATE"), Some("TRIGGER" | "CONSTRAINT")) if !template_part::is_left_out(statement) => {
                self.triggers += 1;
            }
            (Some("CREATE"), Some("FUNCTION" | "PROCEDURE" | "AGGREGATE")) => self.functions += 1,
            (Some("ALTER"), Some("TABLE")) if ends(" ENABLE ROW LEVEL SECURITY") => self.guarded_tables += 1,
            _ => {}
        }
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policies, guarded_tables, triggers, functions } = self;
        write!(
            f,
            "{policies} policies, {guarded_tables} tables that they guard, {triggers} triggers and {functions} functions"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_by_what_they_make() {
        let mut objects = Objects::default();
        for statement in [
            "CREATE POLICY \"p\" ON \"public\".\"t\" USING (true)",
            "ALTER TABLE \"public\".\"t\" ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE \"public\".\"t\" FORCE ROW LEVEL SECURITY",
            "CREATE TRIGGER \"x\" AFTER INSERT ON \"public\".\"t\" FOR EACH ROW EXECUTE FUNCTION \"public\".\"y\"()",
            "CREATE TRIGGER \"x\" AFTER INSERT ON \"auth\".\"t\" FOR EACH ROW EXECUTE FUNCTION \"_launchdb\".\"y\"()",
            "CREATE CONSTRAINT TRIGGER \"z\" AFTER INSERT ON \"public\".\"t\" FOR EACH ROW EXECUTE FUNCTION \"public\".\"y\"()",
            "CREATE FUNCTION \"public\".\"y\"() RETURNS trigger LANGUAGE plpgsql AS $$ CREATE POLICY $$",
            "CREATE PROCEDURE \"public\".\"p\"() LANGUAGE sql AS $$ select 1 $$",
            "COMMENT ON POLICY \"p\" ON \"public\".\"t\" IS 'CREATE POLICY '",
        ] {
            objects.count(statement);
        }
        assert_eq!(objects, Objects { policies: 1, guarded_tables: 1, triggers: 2, functions: 2 });
    }
}
