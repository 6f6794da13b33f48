//! Exit codes, as `launchdb --help` documents them, and the error that carries one.

/// Anything that has no code of its own.
pub const FAILURE: u8 = 1;
/// The command line is wrong (clap's own code).
pub const USAGE: u8 = 2;
/// No server answers.
pub const UNREACHABLE: u8 = 3;
/// The project or key does not exist, or belongs to somebody else.
pub const NOT_FOUND: u8 = 4;
/// No or a wrong token, or too few rights.
pub const NOT_ALLOWED: u8 = 5;
/// The server refused a value: bad, or already taken.
pub const REFUSED: u8 = 6;
/// Settings are missing, weak or contradict each other.
pub const CONFIG: u8 = 10;
/// A port is used by another program.
pub const PORT_USED: u8 = 11;
/// Another LaunchDB runs on the data folder.
pub const DATA_LOCKED: u8 = 12;
/// The data folder is not ours, is newer than this program, or has wrong rights.
pub const DATA_REFUSED: u8 = 13;
/// PostgreSQL is missing, has a wrong version or does not start.
pub const POSTGRES: u8 = 14;

/// The table of codes for `--help`.
pub const HELP: &str = "\
Exit codes:
   0  done
   1  failed
   2  wrong command line
   3  no server answers
   4  not found
   5  not allowed (token missing, wrong or too weak)
   6  refused by the server (bad value, or a name that is taken)
  10  settings missing, weak or contradictory
  11  a port is in use
  12  another LaunchDB runs on the data folder
  13  the data folder is foreign, newer than this program, or has wrong rights
  14  PostgreSQL is missing, too old, or does not start";

/// An error that ends the program with this code; printed once, by `main`.
#[derive(Debug)]
pub struct Exit {
    pub code: u8,
    pub error: anyhow::Error,
}

impl Exit {
    pub fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }

    pub fn message(code: u8, text: impl Into<String>) -> Self {
        Self { code, error: anyhow::Error::msg(text.into()) }
    }

    /// The error with its causes; a cause that the text before it ends with already is not said again.
    pub fn text(&self) -> String {
        let mut text = self.error.to_string();
        for cause in self.error.chain().skip(1).map(ToString::to_string) {
            if !text.ends_with(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
        }
        text
    }
}

/// Says at the call site with which code an error ends the program.
pub trait ResultExt<T> {
    fn exit(self, code: u8) -> Result<T, Exit>;
}

impl<T, E: Into<anyhow::Error>> ResultExt<T> for Result<T, E> {
    fn exit(self, code: u8) -> Result<T, Exit> {
        self.map_err(|error| Exit::new(code, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let text = |messages: [&str; 3]| {
            let error = anyhow::Error::msg(messages[2].to_owned());
            Exit::new(FAILURE, error.context(messages[1].to_owned()).context(messages[0].to_owned())).text()
        };
        assert_eq!(text(["a", "b", "c"]), "a: b: c");
        assert_eq!(text(["cannot read: gone", "gone", "gone"]), "cannot read: gone");
    }
}
