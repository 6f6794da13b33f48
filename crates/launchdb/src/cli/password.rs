//! Passwords that are typed: from the terminal, where they are not shown, or the first line of standard input.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::Context as _;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::exit::{self, Exit, ResultExt as _};

/// Asks for a password in these words.
pub fn ask(what: &str) -> Result<String, Exit> {
    let stdin = std::io::stdin();
    let _hidden = stdin.is_terminal().then(|| {
        let _ = write!(std::io::stderr(), "{what}: ");
        let _ = std::io::stderr().flush();
        Hidden::begin()
    });
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("cannot read the password").exit(exit::FAILURE)?;
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(Exit::message(exit::USAGE, "there is no password on standard input"));
    }
    Ok(password)
}

/// The terminal shows nothing of what is typed until this is dropped.
struct Hidden(Option<rustix::termios::Termios>);

impl Hidden {
    fn begin() -> Self {
        let stdin = std::io::stdin();
        let Ok(before) = tcgetattr(&stdin) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        let changed = tcsetattr(&stdin, OptionalActions::Flush, &silent).is_ok();
        Self(changed.then_some(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
            // The Enter was not shown either.
            let _ = writeln!(std::io::stderr());
        }
    }
}
