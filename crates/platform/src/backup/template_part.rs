//! Which statements of a dump tell of what a database has from its baseline already, and is not its owner's.

use tokio_postgres::error::SqlState;

/// Schemas that the baseline makes.
const SCHEMAS: [&str; 4] = ["auth", "storage", "realtime", "extensions"];

/// Whether a statement is never run: it tells of what only a superuser makes, and the baseline has made.
pub(super) fn is_left_out(statement: &str) -> bool {
    const KINDS: [&str; 4] =
        ["CREATE EVENT TRIGGER ", "ALTER EVENT TRIGGER ", "COMMENT ON EVENT TRIGGER ", "COMMENT ON EXTENSION "];
    let grants_on_catalog =
        is_grant(statement) && statement.split(" ON ").nth(1).is_some_and(|object| object.contains("\"pg_catalog\"."));
    // What is outside of texts and parentheses: neither the condition nor the arguments of a trigger.
    let runs = statement.starts_with("CREATE TRIGGER ").then(|| behind_bare(statement, " EXECUTE FUNCTION ")).flatten();
    let runs_ours = runs.is_some_and(|function| function.starts_with("\"_launchdb\"."));
    KINDS.iter().any(|kind| statement.starts_with(kind)) || grants_on_catalog || runs_ours
}

/// What stands behind `part` where that is in no text, no quoted name and no parentheses.
fn behind_bare<'a>(statement: &'a str, part: &str) -> Option<&'a str> {
    let (mut quote, mut depth) = (None, 0_u32);
    for (at, c) in statement.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            _ if depth == 0 && statement[at..].starts_with(part) => return Some(&statement[at + part.len()..]),
            _ => {}
        }
    }
    None
}

/// Whether a statement grants, or takes back, on a schema that is the superuser's: what the superuser granted there, the
/// baseline or the extension did. What the owner granted on it stands under the owner's name in a dump.
pub(super) fn is_superusers_grant(statement: &str, extensions: &[String]) -> bool {
    let object = statement.split(" ON SCHEMA ").nth(1).filter(|_| is_grant(statement));
    let schema = object.and_then(|object| object.split('"').nth(1));
    schema.is_some_and(|schema| SCHEMAS.contains(&schema) || extensions.iter().any(|name| name == schema))
}

fn is_grant(statement: &str) -> bool {
    statement.starts_with("GRANT ") || statement.starts_with("REVOKE ")
}

/// Whether a failure only says that the database has the object from its baseline, or is a schema of one of `extensions`.
pub(super) fn has_already(statement: &str, code: &SqlState, extensions: &[String]) -> bool {
    let is_of_baseline = |statement: &str| is_of_baseline(statement, extensions);
    let object = statement.strip_prefix("CREATE ");
    if *code == SqlState::DUPLICATE_SCHEMA {
        return object.is_some_and(|object| object.starts_with("SCHEMA "));
    }
    if *code == SqlState::DUPLICATE_OBJECT {
        return object.is_some_and(|object| object.starts_with("TYPE ")) && is_of_baseline(statement);
    }
    if *code == SqlState::DUPLICATE_FUNCTION {
        return is_of_baseline(statement);
    }
    // The second: the owner has a grant option from the superuser, and cannot give it to itself.
    let denials = [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::INVALID_GRANT_OPERATION];
    denials.contains(code) && is_of_baseline(statement)
}

/// Whether the first object that a statement names is in, or is, a schema of the baseline.
fn is_of_baseline(statement: &str, extensions: &[String]) -> bool {
    let owned_by_others = ["ALTER FUNCTION ", "ALTER PROCEDURE ", "ALTER SCHEMA ", "CREATE FUNCTION ", "CREATE TYPE "]
        .iter()
        .chain(&["GRANT ", "REVOKE ", "COMMENT ON FUNCTION ", "COMMENT ON SCHEMA ", "CREATE PROCEDURE "])
        .any(|kind| statement.starts_with(kind));
    let named = if is_grant(statement) { statement.split(" ON ").nth(1).unwrap_or_default() } else { statement };
    let first = named.split('"').nth(1).unwrap_or_default();
    let is_schema = SCHEMAS.contains(&first) || extensions.iter().any(|name| name == first);
    owned_by_others && is_schema || statement.starts_with("ALTER DEFAULT PRIVILEGES FOR ROLE \"supabase_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baselines_own_is_known() {
        for statement in [
            "CREATE EVENT TRIGGER \"launchdb_x\" ON ddl_command_end",
            "COMMENT ON EXTENSION \"citext\" IS 'x'",
            "CREATE TRIGGER \"x\" AFTER DELETE ON \"storage\".\"objects\" FOR EACH ROW EXECUTE FUNCTION \"_launchdb\".\"y\"()",
            "REVOKE ALL ON TABLE \"pg_catalog\".\"pg_db_role_setting\" FROM PUBLIC",
        ] {
            assert!(is_left_out(statement), "{statement}");
        }
        for statement in [
            "COMMENT ON TABLE \"public\".\"t\" IS ' ON \"pg_catalog\".'",
            "GRANT ALL ON TABLE \"public\".\"t\" TO \"anon\"",
            "CREATE EXTENSION IF NOT EXISTS \"citext\" WITH SCHEMA \"extensions\"",
            "CREATE TRIGGER \"x\" AFTER INSERT ON \"public\".\"t\" FOR EACH ROW EXECUTE FUNCTION \"public\".\"y\"()",
            "CREATE TRIGGER \"x\" AFTER INSERT ON \"public\".\"t\" FOR EACH ROW EXECUTE FUNCTION \"public\".\"y\"(' EXECUTE FUNCTION \"_launchdb\".')",
            "CREATE TRIGGER \"x\" AFTER INSERT ON \"public\".\"t\" FOR EACH ROW WHEN ((new.a = ' EXECUTE FUNCTION \"_launchdb\".y')) EXECUTE FUNCTION \"public\".\"y\"()",
            "CREATE TRIGGER \" EXECUTE FUNCTION \"\"_launchdb\"\".\" AFTER INSERT ON \"public\".\"t\" FOR EACH ROW EXECUTE FUNCTION \"public\".\"y\"()",
        ] {
            assert!(!is_left_out(statement), "{statement}");
        }
        for (statement, expected) in [
            ("GRANT USAGE ON SCHEMA \"auth\" TO \"anon\"", true),
            ("REVOKE ALL ON SCHEMA \"postgis\" FROM PUBLIC", true),
            ("GRANT USAGE ON SCHEMA \"public\" TO \"anon\"", false),
            ("GRANT ALL ON TABLE \"auth\".\"users\" TO \"anon\"", false),
        ] {
            assert_eq!(is_superusers_grant(statement, &["postgis".to_owned()]), expected, "{statement}");
        }
        let denied = SqlState::INSUFFICIENT_PRIVILEGE;
        for (statement, code, expected) in [
            ("CREATE SCHEMA \"mine\"", &SqlState::DUPLICATE_SCHEMA, true),
            ("CREATE TYPE \"auth\".\"aal_level\" AS ENUM ()", &SqlState::DUPLICATE_OBJECT, true),
            ("CREATE TYPE \"public\".\"aal_level\" AS ENUM ()", &SqlState::DUPLICATE_OBJECT, false),
            ("CREATE FUNCTION \"auth\".\"uid\"() RETURNS", &SqlState::DUPLICATE_FUNCTION, true),
            ("CREATE FUNCTION \"public\".\"uid\"() RETURNS", &SqlState::DUPLICATE_FUNCTION, false),
            ("ALTER SCHEMA \"auth\" OWNER TO \"supabase_admin\"", &denied, true),
            ("ALTER FUNCTION \"storage\".\"x\"() OWNER TO \"supabase_storage_admin\"", &denied, true),
            ("GRANT ALL ON FUNCTION \"auth\".\"uid\"() TO \"postgres\"", &denied, true),
            ("ALTER SCHEMA \"postgis\" OWNER TO \"supabase_admin\"", &denied, true),
            ("GRANT ALL ON SCHEMA \"auth\" TO \"postgres\"", &denied, true),
            ("GRANT ALL ON SCHEMA \"auth\" TO \"postgres\"", &SqlState::INVALID_GRANT_OPERATION, true),
            ("ALTER TABLE \"auth\".\"users\" OWNER TO \"x\"", &denied, false),
            ("CREATE TABLE \"auth\".\"users\" ()", &SqlState::DUPLICATE_TABLE, false),
        ] {
            assert_eq!(has_already(statement, code, &["postgis".to_owned()]), expected, "{statement}");
        }
    }
}
