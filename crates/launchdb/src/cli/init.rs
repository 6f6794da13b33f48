//! `launchdb init`: a `.env` with everything that `docker-compose.yml` or the systemd unit needs.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::output::print;
use crate::config::secrets::SECRET_KINDS;
use crate::exit::{self, Exit, ResultExt as _};

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Host name of the server, without https://
    #[arg(long, value_name = "NAME")]
    pub domain: String,
    /// E-mail address for certificates, and of the first owner
    #[arg(long, value_name = "ADDRESS")]
    pub email: String,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = ".env")]
    pub file: PathBuf,
    /// For a server with a PostgreSQL of its own, which makes and keeps its secrets itself
    #[arg(long)]
    pub embedded: bool,
}

/// Writes the file, mode 0600. One that is there stays as it is.
pub fn run(args: &InitArgs) -> Result<(), Exit> {
    if !crate::config::is_host_name(&args.domain) {
        let text = format!("\"{}\" is no host name: write it as db.example.org, without https://", args.domain);
        return Err(Exit::message(exit::USAGE, text));
    }
    if !args.email.contains('@') || args.email.contains(char::is_whitespace) {
        return Err(Exit::message(exit::USAGE, format!("\"{}\" is no e-mail address", args.email)));
    }
    let shown = args.file.display();
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file);
    let mut file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let text =
                format!("{shown} is there already and stays as it is: without its secrets nothing could be read again");
            return Err(Exit::message(exit::REFUSED, text));
        }
        opened => opened.with_context(|| format!("cannot make {shown}")).exit(exit::FAILURE)?,
    };
    let written = file.write_all(text(args).as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| format!("cannot write {shown}")).exit(exit::FAILURE)?;
    print(&format!(
        "{shown} is written: keep a copy of it in a safe place, apart from the backups.\nnext: {}",
        if args.embedded { "systemctl start launchdb" } else { "docker-compose up -d" }
    ))
}

fn text(args: &InitArgs) -> String {
    let mut text = format!(
        "# Settings of LaunchDB; .env.example lists all there are.\nDOMAIN={}\nACME_EMAIL={}\nLAUNCHDB_OWNER_EMAIL={}\n",
        args.domain,
        args.email,
        args.email.to_lowercase(),
    );
    if args.embedded {
        text.push_str("LAUNCHDB_TRUSTED_PROXIES=127.0.0.1\n");
        return text;
    }
    text.push_str("\n# Secrets. Whoever has LAUNCHDB_MASTER_KEY and the database has everything.\n");
    for kind in SECRET_KINDS {
        text.push_str(&format!("{}={}\n", kind.name, kind.generate().expose()));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::{Config, Invocation, Source};

    #[test]
    fn what_it_writes_is_complete_and_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        let args = |domain: &str, embedded| InitArgs {
            domain: domain.to_owned(),
            email: "You@example.org".to_owned(),
            file: file.clone(),
            embedded,
        };
        assert_eq!(run(&args("https://db.acme.org", false)).unwrap_err().code, exit::USAGE);
        run(&args("db.acme.org", false)).unwrap();
        let before = std::fs::read_to_string(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(run(&args("db.acme.org", false)).unwrap_err().code, exit::REFUSED);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
        // With the address that Compose makes of it, a server starts.
        let mut source = Source::default();
        source.push_file(&file).unwrap();
        let password = source.get("LAUNCHDB_PLATFORM_DB_PASSWORD").unwrap();
        let url = ("DATABASE_URL".to_owned(), format!("postgresql://platform:{password}@postgres:5432/platform"));
        source.push_layer("Compose", [url]);
        let config = Config::load(&source, &Invocation { serve: true, ..Invocation::default() }).unwrap();
        assert_eq!(config.listen.public_url, "https://db.acme.org");
        assert_eq!(config.platform.owner_email, "you@example.org");
        std::fs::remove_file(&file).unwrap();
        run(&args("db.acme.org", true)).unwrap();
        assert!(!std::fs::read_to_string(&file).unwrap().contains("KEY"));
    }
}
