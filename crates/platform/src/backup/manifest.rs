//! What a backup says about itself: a header before the dump and an end behind it, both lines of comment, so that the
//! file stays SQL that anybody can read.

use std::collections::BTreeMap;

use base::Secret;
use pg::statements::Piece;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::objects::Objects;

/// The format that this program writes; it reads no newer one. In the first, rows are hashed with SHA-256.
pub(super) const FORMAT: u32 = 2;

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
    #[serde(flatten)]
    pub(super) hash: RowsHash,
}

/// Hash of a table's rows as COPY writes them, hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RowsHash {
    Sha256(String),
    Blake3(String),
}

/// Makes a [`RowsHash`].
pub(super) enum RowsHasher {
    Sha256(Box<Context>),
    Blake3(Box<blake3::Hasher>),
}

impl RowsHasher {
    /// What files of a format have.
    fn of_format(format: u32) -> Self {
        if format < 2 { Self::Sha256(Box::new(Context::new(&SHA256))) } else { Self::Blake3(Box::default()) }
    }

    /// What can be compared with `other`.
    pub(super) fn like(other: &RowsHash) -> Self {
        Self::of_format(match other {
            RowsHash::Sha256(_) => 1,
            RowsHash::Blake3(_) => 2,
        })
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(context) => context.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    pub(super) fn finish(self) -> RowsHash {
        match self {
            Self::Sha256(context) => RowsHash::Sha256(base::random::to_hex(context.finish().as_ref())),
            Self::Blake3(hasher) => RowsHash::Blake3(hasher.finalize().to_hex().to_string()),
        }
    }
}

/// Counts what is in a dump.
pub(super) struct Tally {
    format: u32,
    end: End,
    open: Option<(String, u64, RowsHasher)>,
}

impl Tally {
    /// As a file of some format has it.
    pub(super) fn of_format(format: u32) -> Self {
        Self { format, end: End::default(), open: None }
    }

    pub(super) fn count(&mut self, piece: &Piece<'_>) {
        match piece {
            Piece::Statement { text, copies, .. } => {
                self.end.statements += 1;
                self.end.objects.count(text);
                self.open = copies.then(|| (copied_columns(text).to_owned(), 0, RowsHasher::of_format(self.format)));
            }
            Piece::CopyData { bytes, rows } => {
                if let Some((_, count, hash)) = &mut self.open {
                    *count += rows;
                    hash.update(bytes);
                }
            }
            Piece::CopyEnd => {
                if let Some((columns, rows, hash)) = self.open.take() {
                    self.end.tables.push(TableTally { columns, rows, hash: hash.finish() });
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
        let sql = "SET a = 1;\nCOPY public.t (a, b) FROM stdin;\n1\t2\n3\t4\n\\.\n";
        let rows = b"1\t2\n3\t4\n";
        let check = |format, hash: RowsHash, json: &str| {
            let (mut tally, mut scanner) = (Tally::of_format(format), StatementScanner::default());
            let mut count = |piece: Piece<'_>| -> Result<(), ()> {
                tally.count(&piece);
                Ok(())
            };
            scanner.feed(sql.as_bytes(), &mut count).unwrap();
            scanner.finish(&mut count).unwrap();
            let tables = vec![TableTally { columns: "public.t (a, b)".to_owned(), rows: 2, hash }];
            assert_eq!(tally.finish(), End { statements: 2, tables: tables.clone(), objects: Objects::default() });
            assert_eq!(serde_json::to_string(&tables[0]).unwrap(), json);
            assert_eq!(serde_json::from_str::<TableTally>(json).unwrap(), tables[0]);
        };
        let json = |name: &str, hash: &str| format!(r#"{{"columns":"public.t (a, b)","rows":2,"{name}":"{hash}"}}"#);
        let sha256 = base::digest::sha256_hex(rows);
        check(1, RowsHash::Sha256(sha256.clone()), &json("sha256", &sha256));
        let blake3 = blake3::hash(rows).to_hex().to_string();
        check(2, RowsHash::Blake3(blake3.clone()), &json("blake3", &blake3));
    }
}
