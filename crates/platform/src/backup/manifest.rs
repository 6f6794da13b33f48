//! What a backup says about itself: a header before the dump and an end behind it, both lines of comment, so that the
//! file stays SQL that anybody can read.

use std::collections::BTreeMap;

use base::Secret;
use pg::statements::Piece;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::objects::Objects;

/// The format of the header that this program writes; it reads no newer one.
pub(super) const FORMAT: u32 = 1;

/// What the lines begin with, behind the dashes.
pub(super) const HEADER: &str = "launchdb-backup: ";
pub(super) const END: &str = "launchdb-backup-end: ";

/// Longest statement of a dump in bytes. pg_dump cuts large objects into small ones, so that nobody needs more; whoever
/// makes more makes no backup, instead of one that takes the memory of who restores it.
pub(super) const LONGEST_STATEMENT: usize = 8 * 1024 * 1024;

/// The header.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: u32,
    /// The database's name; a project's is its id.
    pub(super) database: String,
    /// Unix seconds.
    pub(super) taken_at: i64,
    pub(super) launchdb_version: String,
    /// None in a backup of the platform's database.
    pub(super) project: Option<ProjectPart>,
    /// The role that owns the platform's database; files of older versions do not say.
    #[serde(default)]
    pub(super) platform_role: Option<String>,
}

/// What the platform's database knows of a project. Secrets are in plain text here: the file is encrypted, and a restored
/// project has to work under another master key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProjectPart {
    pub(super) name: String,
    pub(super) owner_email: String,
    /// Which files of the baseline the database has.
    pub(super) baseline_version: i32,
    /// The role that owns what is in the database.
    pub(super) owner_role: String,
    /// Oldest first.
    pub(super) extensions: Vec<String>,
    /// By kind.
    pub(super) secrets: BTreeMap<String, PlainSecret>,
    pub(super) api_keys: Vec<KeptKey>,
    /// None in backups of earlier versions, which tell nothing of them.
    #[serde(default)]
    pub(super) s3_keys: Option<Vec<KeptS3Key>>,
    /// By section.
    pub(super) settings: BTreeMap<String, Map<String, Value>>,
    pub(super) domains: Vec<KeptDomain>,
}

/// A secret that is written only here.
#[derive(Clone, Debug)]
pub(super) struct PlainSecret(pub(super) Secret<String>);

impl Serialize for PlainSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for PlainSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// An opaque key: its hash, never itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptKey {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) prefix: String,
    /// SHA-256 of the key, hex.
    pub(super) hash: String,
}

/// An access key of the S3 protocol, whose secret clients sign with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptS3Key {
    pub(super) name: String,
    pub(super) access_key_id: String,
    pub(super) secret: PlainSecret,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptDomain {
    pub(super) domain: String,
    pub(super) is_approved: bool,
}

/// The end: it shows that the dump is whole, and what was in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) statements: u64,
    pub(super) tables: Vec<TableTally>,
    /// Counted as the dump goes by, and written nowhere: files of every version have them.
    #[serde(skip)]
    pub(super) objects: Objects,
}

/// The data of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableTally {
    /// Table and columns as the dump names them: `public.t (a, b)`.
    pub(super) columns: String,
    pub(super) rows: u64,
    /// SHA-256 of the rows as COPY writes them, hex.
    pub(super) sha256: String,
}

/// Counts what is in a dump.
#[derive(Default)]
pub(super) struct Tally {
    end: End,
    open: Option<(String, u64, Context)>,
}

impl Tally {
    pub(super) fn count(&mut self, piece: &Piece<'_>) {
        match piece {
            Piece::Statement { text, copies, .. } => {
                self.end.statements += 1;
                self.end.objects.count(text);
                self.open = copies.then(|| (copied_columns(text).to_owned(), 0, Context::new(&SHA256)));
            }
            Piece::CopyData { bytes, rows } => {
                if let Some((_, count, hash)) = &mut self.open {
                    *count += rows;
                    hash.update(bytes);
                }
            }
            Piece::CopyEnd => {
                if let Some((columns, rows, hash)) = self.open.take() {
                    let sha256 = base::random::to_hex(hash.finish().as_ref());
                    self.end.tables.push(TableTally { columns, rows, sha256 });
                }
            }
            Piece::Note(_) | Piece::Meta { .. } => {}
        }
    }

    pub(super) fn finish(self) -> End {
        self.end
    }
}

/// What stands between `COPY` and `FROM stdin`.
fn copied_columns(statement: &str) -> &str {
    let rest = statement.get("COPY ".len()..).unwrap_or_default();
    rest.rsplit_once(" FROM ").map_or(rest, |(columns, _)| columns)
}

#[cfg(test)]
mod tests {
    use pg::statements::StatementScanner;

    use super::*;

    #[test]
    fn tables_are_counted() {
        let mut tally = Tally::default();
        let mut scanner = StatementScanner::default();
        let sql = "SET a = 1;\nCOPY public.t (a, b) FROM stdin;\n1\t2\n3\t4\n\\.\n";
        let mut count = |piece: Piece<'_>| -> Result<(), ()> {
            tally.count(&piece);
            Ok(())
        };
        scanner.feed(sql.as_bytes(), &mut count).unwrap();
        scanner.finish(&mut count).unwrap();
        let sha256 = base::digest::sha256_hex(b"1\t2\n3\t4\n");
        let tables = vec![TableTally { columns: "public.t (a, b)".to_owned(), rows: 2, sha256 }];
        assert_eq!(tally.finish(), End { statements: 2, tables, objects: Objects::default() });
    }
}
