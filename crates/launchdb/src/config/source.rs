//! Where settings come from: named strings in layers, the first layer that has a name wins.
//!
//! This is the only file of the project that touches the process environment. Everything behind it works on a
//! [`Source`], so tests build one from pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Problem;

/// Named strings with the place each came from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    layers: Vec<Layer>,
}

#[derive(Clone)]
struct Layer {
    origin: String,
    values: BTreeMap<String, String>,
}

// Values may be secrets: only names are ever printed.
impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").field("origin", &self.origin).field("names", &self.values.keys()).finish()
    }
}

impl Source {
    /// A source with one layer, as tests need it.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut source = Self::default();
        source.push_layer("given values", pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())));
        source
    }

    /// The process environment, then `.env` in the working folder, then `.env` beside the binary.
    ///
    /// Names and values that are not UTF-8 are skipped when nothing of ours could carry the name, and reported otherwise.
    pub fn of_process() -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => environment.push((name, value)),
                Err(_) if super::is_known_name(&name) => {
                    problems.push(Problem::new(&name, "is not valid UTF-8", "write it as plain text"));
                }
                Err(_) => {}
            }
        }
        let mut source = Self::default();
        source.push_layer("the environment", environment);

        let mut read = BTreeSet::new();
        let beside_binary = std::env::current_exe()
            .ok()
            .and_then(|exe| exe.canonicalize().ok())
            .and_then(|exe| exe.parent().map(Path::to_path_buf));
        for folder in [std::env::current_dir().ok(), beside_binary].into_iter().flatten() {
            let file = folder.join(".env");
            if read.insert(file.clone()) {
                match source.push_file(&file) {
                    Ok(()) => {}
                    Err(problem) => problems.push(problem),
                }
            }
        }
        if problems.is_empty() { Ok(source) } else { Err(problems) }
    }

    /// Adds a layer behind the present ones.
    pub fn push_layer(&mut self, origin: impl Into<String>, values: impl IntoIterator<Item = (String, String)>) {
        self.layers.push(Layer { origin: origin.into(), values: values.into_iter().collect() });
    }

    /// Adds the values of a `.env` file as a layer behind the present ones; a file that does not exist adds nothing.
    pub fn push_file(&mut self, file: &Path) -> Result<(), Problem> {
        let name = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => {
                return Err(Problem::new(&name, &format!("cannot be read: {e}"), "mend its rights, or remove it"));
            }
        };
        let values = parse_env_file(&text)
            .map_err(|e| Problem::new(&name, &e.to_string(), "write one KEY=value a line; see .env.example"))?;
        self.push_layer(name, values);
        Ok(())
    }

    /// The value of a name. An empty value counts as none, because Compose passes unset variables as empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).map(|(_, value)| value)
    }

    /// The place the value of a name came from, in words.
    pub fn origin(&self, name: &str) -> Option<&str> {
        self.find(name).map(|(origin, _)| origin)
    }

    fn find(&self, name: &str) -> Option<(&str, &str)> {
        self.layers.iter().find_map(|layer| {
            let value = layer.values.get(name)?;
            (!value.is_empty()).then_some((layer.origin.as_str(), value.as_str()))
        })
    }

    /// Every name with this prefix that has a value, sorted.
    pub fn names_with_prefix(&self, prefix: &str) -> BTreeSet<&str> {
        self.layers
            .iter()
            .flat_map(|layer| &layer.values)
            .filter(|(name, value)| name.starts_with(prefix) && !value.is_empty())
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

/// The working folder; where relative paths and `./.launchdb` are looked for.
pub fn working_folder() -> std::io::Result<PathBuf> {
    std::env::current_dir()
}

/// This program's own file; a replaced one is found under its name.
pub fn own_program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map(PathBuf::from).unwrap_or_else(|| path.clone()))
}

/// The value of `PATH`, for finding PostgreSQL's programs.
pub fn executable_path() -> Option<std::ffi::OsString> {
    std::env::var_os("PATH")
}

/// One variable of the environment alone, not of a file.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Variables of the environment alone, also empty ones: what `postgrest` reads.
pub fn variables_with_prefix(prefix: &str) -> Vec<(String, String)> {
    let own = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok().filter(|name| name.starts_with(prefix))?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(own).collect()
}

/// Why a `.env` file was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct EnvFileError {
    /// Counted from 1.
    pub line: usize,
    pub what: &'static str,
}

/// Reads `KEY=value` lines.
///
/// Blank lines and lines starting with `#` are skipped; `export ` before a key is allowed. A value is taken as it is,
/// up to ` #`; in double quotes `\n`, `\t`, `\"`, `\\` and `\$` are escapes; in single quotes nothing is. Nothing is expanded.
pub fn parse_env_file(text: &str) -> Result<Vec<(String, String)>, EnvFileError> {
    let mut values = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let fail = |what| EnvFileError { line: index + 1, what };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let (key, rest) = line.split_once('=').ok_or_else(|| fail("there is no \"=\""))?;
        let key = key.trim_end();
        let valid = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && key.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !valid {
            return Err(fail("the key is not made of letters, digits and \"_\""));
        }
        values.push((key.to_owned(), env_value(rest.trim_start()).map_err(fail)?));
    }
    Ok(values)
}

pub(super) fn env_value(rest: &str) -> Result<String, &'static str> {
    let (value, tail) = if let Some(quoted) = rest.strip_prefix('\'') {
        let (value, tail) = quoted.split_once('\'').ok_or("a single quote is not closed")?;
        (value.to_owned(), tail)
    } else if let Some(quoted) = rest.strip_prefix('"') {
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().ok_or("a double quote is not closed")? {
                (at, '"') => break at + 1,
                (_, '\\') => match chars.next().ok_or("a double quote is not closed")?.1 {
                    'n' => value.push('\n'),
                    't' => value.push('\t'),
                    c @ ('"' | '\\' | '$') => value.push(c),
                    c => value.extend(['\\', c]),
                },
                (_, c) => value.push(c),
            }
        };
        (value, &quoted[end..])
    } else {
        // Base64 ends in "=" and passwords may hold "#": only a "#" after white space starts a comment.
        let end = rest
            .char_indices()
            .find(|(at, c)| *c == '#' && (*at == 0 || rest[..*at].ends_with(char::is_whitespace)))
            .map_or(rest.len(), |(at, _)| at);
        return Ok(rest[..end].trim_end().to_owned());
    };
    let tail = tail.trim_start();
    if tail.is_empty() || tail.starts_with('#') { Ok(value) } else { Err("there is text behind the closing quote") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse_env_file(text).unwrap()
    }

    #[test]
    fn env_files_are_read_as_people_write_them() {
        let text = "\u{feff}# a comment\n\nA=1\nexport B = two words # not this\nC=\"q\\\"uo\\nted\" # c\nD='$raw # kept'\n\
                    E=Zm9vYmE=\nF=a#b\nG=\nH=#nothing\r\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "q\"uo\nted"),
            ("D", "$raw # kept"),
            ("E", "Zm9vYmE="),
            ("F", "a#b"),
            ("G", ""),
            ("H", ""),
        ];
        assert_eq!(pairs(text), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line) in [("A=1\nnonsense", 2), ("A='x", 1), ("A=\"x", 1), ("A='x' y", 1), ("1A=x", 1), ("a-b=c", 1)]
        {
            assert_eq!(parse_env_file(text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn the_first_layer_wins_and_empty_is_unset() {
        let mut source = Source::from_pairs([("A", "first"), ("B", "")]);
        source.push_layer("a file", [("A".to_owned(), "second".to_owned()), ("B".to_owned(), "b".to_owned())]);
        assert_eq!(source.get("A"), Some("first"));
        assert_eq!((source.get("B"), source.origin("B")), (Some("b"), Some("a file")));
        assert_eq!(source.get("C"), None);
        assert!(!format!("{source:?}").contains("second"));
    }
}
