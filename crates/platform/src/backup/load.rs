//! Loads a dump into a fresh database, in a session that logged in as the project's owner: whatever its defaults, checks
//! and functions do while it is loaded, they do with no more rights than the owner has anyway.

use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::error::BackupError;
use super::hand_over::Taker;
use super::read::Loadable;
use super::{store, template_part};

/// Longest that one statement may run: a dump can hold anything.
const LONGEST_STATEMENT: Duration = Duration::from_secs(3 * 3600);
/// Longest time that no data is taken.
const LONGEST_WRITE: Duration = Duration::from_secs(600);
/// Statements that are tried again at the end, because what they need may come later in the dump.
const MOST_LATER: usize = 10_000;
/// Bytes of them.
const MOST_LATER_BYTES: usize = 16 * 1024 * 1024;
/// Characters of a statement that an error shows.
const SHOWN: usize = 200;

/// Names of roles that are others here: pairs of the dump's and ours.
pub(super) struct RoleNames(pub(super) Vec<(String, String)>);

impl RoleNames {
    /// The statement with our names. The dump quotes every name.
    fn translate(&self, statement: String) -> String {
        const KINDS: [&str; 5] = ["ALTER ", "GRANT ", "REVOKE ", "CREATE POLICY ", "SET SESSION AUTHORIZATION "];
        if self.0.is_empty() || !KINDS.iter().any(|kind| statement.starts_with(kind)) {
            return statement;
        }
        let name = |name: &str| pg::ident::quote_ident(name);
        let names = |text: &str| {
            self.0.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(&name(theirs), &name(ours)))
        };
        // Texts stay what they are.
        let (mut in_name, mut in_text) = (false, false);
        let (mut translated, mut bare) = (String::with_capacity(statement.len()), String::new());
        for c in statement.chars() {
            match c {
                '"' if !in_text => in_name = !in_name,
                '\'' if !in_name => {
                    if !in_text {
                        translated.push_str(&names(&std::mem::take(&mut bare)));
                    }
                    in_text = !in_text;
                    translated.push(c);
                    continue;
                }
                _ => {}
            }
            if in_text { translated.push(c) } else { bare.push(c) }
        }
        translated + &names(&bare)
    }
}

/// One statement that failed, or has to wait.
struct Failed {
    text: String,
    line: u64,
    message: String,
    code: Option<SqlState>,
}

impl From<Failed> for BackupError {
    fn from(failed: Failed) -> Self {
        let statement = failed.text.chars().take(SHOWN).collect();
        Self::Load { line: failed.line, statement, message: failed.message }
    }
}

/// Loads everything that comes; ends when the sender does. Schemas of `extensions` are there already.
///
/// The database is whole only if reading the file ended well, too.
pub(super) async fn load(
    client: &Client,
    mut loadables: Taker,
    roles: &RoleNames,
    extensions: &[String],
) -> Result<(), BackupError> {
    client.batch_execute(store::CLEAR).await?;
    let (mut later, mut later_bytes): (Vec<Failed>, usize) = (Vec::new(), 0);
    // Whether statements are those of a role that the dump names, instead of an object's owner.
    let mut as_another = false;
    while let Some(loadable) = loadables.take().await {
        let Loadable::Statement { text, line, copies } = loadable else { continue };
        if template_part::is_left_out(&text) || !as_another && template_part::is_superusers_grant(&text, extensions) {
            continue;
        }
        let text = roles.translate(text);
        if let Some(role) = text.strip_prefix("SET SESSION AUTHORIZATION ") {
            as_another = true;
            // Somebody who is no member of it does as the owner what that role did.
            let _ = execute(client, store::set_role(role), line).await;
            continue;
        }
        if text == "RESET SESSION AUTHORIZATION" {
            as_another = false;
            client.batch_execute(store::RESET_ROLE).await?;
            continue;
        }
        if copies {
            copy_in(client, text, line, &mut loadables).await?;
            continue;
        }
        let Err(mut failed) = execute(client, text, line).await else { continue };
        match &failed.code {
            Some(code) if template_part::has_already(&failed.text, code, extensions) => {}
            // A grant that allows it may stand further down.
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                later_bytes += failed.text.len();
                if later.len() >= MOST_LATER || later_bytes > MOST_LATER_BYTES {
                    failed.message.insert_str(0, "more statements are refused than can be tried again: ");
                    return Err(failed.into());
                }
                later.push(failed);
            }
            _ => return Err(failed.into()),
        }
    }
    for failed in later {
        // As the login role itself, who is a member of all others.
        client.batch_execute(store::LOGIN_ROLE).await?;
        execute(client, failed.text, failed.line).await?;
    }
    Ok(store::analyze(client).await?)
}

async fn execute(client: &Client, text: String, line: u64) -> Result<(), Failed> {
    match tokio::time::timeout(LONGEST_STATEMENT, client.batch_execute(&text)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(text, line, &error)),
        Err(_) => Err(Failed { text, line, message: "it ran too long".to_owned(), code: None }),
    }
}

async fn copy_in(client: &Client, text: String, line: u64, loadables: &mut Taker) -> Result<(), BackupError> {
    let sink = match client.copy_in::<_, Bytes>(text.as_str()).await {
        Ok(sink) => sink,
        Err(error) => return Err(failed(text, line, &error).into()),
    };
    let mut sink = std::pin::pin!(sink);
    let stalled = |text: String| Failed { text, line, message: "no data was taken for long".to_owned(), code: None };
    loop {
        match loadables.take().await {
            Some(Loadable::CopyData(data)) => match tokio::time::timeout(LONGEST_WRITE, sink.send(data)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(failed(text, line, &error).into()),
                Err(_) => return Err(stalled(text).into()),
            },
            Some(Loadable::CopyEnd) => break,
            // The file ended in the middle; the reader says why. Dropping the sink takes the rows back.
            Some(Loadable::Statement { .. }) | None => return Ok(()),
        }
    }
    match tokio::time::timeout(LONGEST_STATEMENT, sink.as_mut().finish()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failed(text, line, &error).into()),
        Err(_) => Err(stalled(text).into()),
    }
}

fn failed(text: String, line: u64, error: &tokio_postgres::Error) -> Failed {
    let message = match error.as_db_error() {
        Some(db) => {
            let mut message = format!("{} (SQLSTATE {})", db.message(), db.code().code());
            for more in [db.detail(), db.hint(), db.where_()].into_iter().flatten() {
                message.push_str("\n  ");
                message.push_str(more);
            }
            message
        }
        None => web::error::chain(error).to_string(),
    };
    Failed { text, line, message, code: error.code().cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roles_are_translated_and_texts_are_not() {
        let roles = RoleNames(vec![("proj_a".to_owned(), "proj_b".to_owned())]);
        for (statement, expected) in [
            ("ALTER TABLE \"public\".\"t\" OWNER TO \"proj_a\"", "ALTER TABLE \"public\".\"t\" OWNER TO \"proj_b\""),
            (
                "CREATE POLICY \"it's\" ON \"t\" TO \"proj_a\" USING ((a <> 'of \"proj_a\", it''s'::text))",
                "CREATE POLICY \"it's\" ON \"t\" TO \"proj_b\" USING ((a <> 'of \"proj_a\", it''s'::text))",
            ),
            ("COMMENT ON TABLE \"proj_a\" IS 'x'", "COMMENT ON TABLE \"proj_a\" IS 'x'"),
        ] {
            assert_eq!(roles.translate(statement.to_owned()), expected);
        }
    }
}
