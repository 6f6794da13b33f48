//! The command line: what there is to type. What each command does is in the modules below.

pub mod backup;
pub mod client;
pub mod direct;
pub mod discovery;
pub mod doctor;
pub mod domains;
pub mod extensions;
pub mod files_backup;
pub mod init;
mod interruptible;
pub mod login;
pub mod migrate;
pub mod output;
pub mod owner;
pub mod password;
pub mod pitr;
pub mod pooler;
pub mod postgrest;
pub mod progress;
pub mod project;
pub mod rotate;
pub mod s3_keys;
pub mod status;
pub mod storage;
pub mod storage_verify;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Service;
use crate::config::files::FilesBackend;
use crate::exit;

/// One binary and one PostgreSQL server: a Supabase-compatible backend for every project you have.
#[derive(Debug, Parser)]
#[command(name = "launchdb", version, after_help = exit::HELP, max_term_width = 100)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  launchdb dev --demo                      start everything here, with a project to try\n",
    "  launchdb project create shop             make a project and print its URL and keys\n",
    "  launchdb project connection shop --json  the same as JSON, for scripts\n",
    "  launchdb doctor                          what is wrong, and how to mend it\n",
))]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything on this machine, with a PostgreSQL of its own in a data folder
    #[command(after_help = DEV_EXAMPLES)]
    Dev(DevArgs),
    /// Start a server for others: all services, or one of them
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Make, look at and change projects
    #[command(subcommand, after_help = PROJECT_EXAMPLES)]
    Project(ProjectCommand),
    /// Log in to a server elsewhere; the password is asked for, or the first line of standard input
    Login(LoginArgs),
    /// End the login at a server elsewhere
    Logout(LogoutArgs),
    /// Make owners, the people who have projects, and give them new passwords
    #[command(subcommand)]
    Owner(OwnerCommand),
    /// Work on the files of all projects
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Apply an application's migrations, in order, each in a transaction
    #[command(subcommand, after_help = migrate::EXAMPLES)]
    Migrate(migrate::MigrateCommand),
    /// Back up projects and the platform, encrypted; list, verify and remove backups
    #[command(subcommand, after_help = backup::EXAMPLES)]
    Backup(backup::BackupCommand),
    /// Put a project back from a backup
    #[command(after_help = backup::RESTORE_EXAMPLES)]
    Restore(backup::RestoreArgs),
    /// Set pool sizes and let roles in, where PgBouncer runs
    #[command(subcommand)]
    Pooler(pooler::PoolerCommand),
    /// Start, reload and end data APIs in processes of their own, which the postgrest-manager keeps
    #[command(subcommand)]
    Postgrest(postgrest::PostgrestCommand),
    /// Replace keys of the installation while it runs
    #[command(subcommand, after_help = rotate::EXAMPLES)]
    Rotate(rotate::RotateCommand),
    /// Write a .env with strong secrets for a new server
    Init(init::InitArgs),
    /// Say whether the server runs and is healthy
    Status(ReachArgs),
    /// Look for faults on this machine and name the mend of each
    Doctor(DoctorArgs),
    /// Read the mails that `launchdb dev` kept instead of sending them
    Mail(MailArgs),
    /// Run the data API alone, in place of postgrest
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Rest(RestArgs),
}

const DEV_EXAMPLES: &str = "\
Examples:
  launchdb dev                         data in ./.launchdb, http://127.0.0.1:8000
  launchdb dev --demo                  with a project `demo` to try
  launchdb dev --data /srv/db --port 9000

Everything that can be set has a variable, see .env.example; a .env file in the working folder or beside the
binary is read. Secrets are made at the first start and kept in DATA/secrets.env.";

const SERVE_EXAMPLES: &str = "\
Examples:
  launchdb serve --data /var/lib/launchdb              PostgreSQL in the data folder, as `dev` has it
  DATABASE_URL=postgresql://... launchdb serve         another PostgreSQL server, version 15 or newer
  DATABASE_URL=postgresql://... launchdb serve --only rest";

const PROJECT_EXAMPLES: &str = "\
PROJECT is a project's id (proj_...) or its name.

Examples:
  launchdb project create shop
  launchdb project sql shop \"create table items (id int primary key)\"
  launchdb project settings shop --set '{\"data_api\": {\"max_rows\": 500}}'";

#[derive(Debug, Args)]
pub struct DevArgs {
    /// Folder of the database cluster, secrets and files [default: ./.launchdb]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Public port; 0 takes any free one [default: 8000]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub bind: Option<IpAddr>,
    /// Have a project `demo` with a small data set and row level security
    #[arg(long)]
    pub demo: bool,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// TLS on the public port, with LAUNCHDB_TLS_CERT and LAUNCHDB_TLS_KEY, or else with certificates that come by themselves
    #[arg(long)]
    pub tls: bool,
    /// Start this service alone
    #[arg(long, value_enum, value_name = "SERVICE")]
    pub only: Option<Service>,
    /// Folder of the database cluster, secrets and files [default: /var/lib/launchdb for root, ./.launchdb otherwise]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Port [default: 8000; 3000 for rest]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub bind: Option<IpAddr>,
}

/// How a command finds the server.
#[derive(Clone, Debug, Default, Args)]
pub struct ReachArgs {
    /// Data folder of the server on this machine [default: ./.launchdb here or above, then /var/lib/launchdb]
    #[arg(long, value_name = "DIR", help_heading = "Server")]
    pub data: Option<PathBuf>,
    /// URL of a server elsewhere [variable: LAUNCHDB_URL]
    #[arg(long, value_name = "URL", help_heading = "Server", conflicts_with = "data")]
    pub url: Option<String>,
    /// An owner's token for that server [variable: LAUNCHDB_TOKEN]
    #[arg(long, value_name = "TOKEN", help_heading = "Server")]
    pub token: Option<String>,
    /// Print exactly the JSON that the API answers
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Make a project and print how to reach it
    Create {
        /// A name for people; unique among your projects
        name: String,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// List your projects
    List {
        /// Deleted ones that can still be restored, too
        #[arg(long)]
        deleted: bool,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Show one project
    Show(OneProject),
    /// Print URLs, keys and database URIs with their real passwords
    Connection(OneProject),
    /// Show or change settings
    Settings {
        #[command(flatten)]
        project: OneProject,
        /// Settings to change, for instance '{"data_api": {"max_rows": 500}}'; `-` reads standard input
        #[arg(long, value_name = "JSON")]
        set: Option<String>,
    },
    /// Delete a project; it can be restored until the end of the retention period
    Delete {
        #[command(flatten)]
        project: OneProject,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Stop answering for a project without deleting anything
    Suspend(OneProject),
    /// Answer for a suspended project again
    Resume(OneProject),
    /// Bring back a deleted project
    Restore(OneProject),
    /// Give the database roles new passwords and print how to connect; what is connected stays connected
    RotatePasswords(OneProject),
    /// List requests of the data API whose statements took long (setting data_api.slow_query_ms), newest first
    Slow(OneProject),
    /// Run SQL as the project's owner
    Sql {
        #[command(flatten)]
        project: OneProject,
        /// The SQL; without it, standard input is read
        #[arg(conflicts_with = "file")]
        query: Option<String>,
        /// Read the SQL from a file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Refuse to change anything
        #[arg(long)]
        read_only: bool,
    },
    /// Keys of a project
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Access keys of a project for the S3 protocol
    #[command(subcommand)]
    S3Keys(S3KeysCommand),
    /// Custom domains of a project
    #[command(subcommand)]
    Domains(DomainsCommand),
    /// PostgreSQL extensions of a project
    #[command(subcommand)]
    Extensions(ExtensionsCommand),
}

#[derive(Debug, Subcommand)]
pub enum ExtensionsCommand {
    /// List what the server has
    List(OneProject),
    /// Install one that PostgreSQL lets no owner install, such as vector or postgis
    Install {
        #[command(flatten)]
        project: OneProject,
        name: String,
    },
    /// Remove one that nothing uses
    Remove {
        #[command(flatten)]
        project: OneProject,
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum S3KeysCommand {
    /// List the access keys; their secrets are not shown again
    List(OneProject),
    /// Make an access key and print it with its secret, once; it acts as service_role
    Create {
        #[command(flatten)]
        project: OneProject,
        /// A name for people
        name: String,
    },
    /// Delete an access key
    Delete {
        #[command(flatten)]
        project: OneProject,
        /// The key's number in the list
        key: i64,
    },
}

#[derive(Debug, Subcommand)]
pub enum DomainsCommand {
    /// List a project's domains
    List(OneProject),
    /// Claim a domain; it counts once an administrator approved it, at once for an administrator
    Add {
        #[command(flatten)]
        project: OneProject,
        /// A host name such as api.example.org, whose DNS leads to this server
        domain: String,
    },
    /// Give a domain up
    Remove {
        #[command(flatten)]
        project: OneProject,
        domain: String,
    },
    /// List claims of all projects that wait for approval (administrators)
    Waiting {
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Give a domain to a project, named by its id, that claims it (administrators)
    Approve {
        #[command(flatten)]
        project: OneProject,
        domain: String,
    },
}

#[derive(Debug, Args)]
pub struct OneProject {
    /// Id or name of the project
    #[arg(value_name = "PROJECT")]
    pub id: String,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the opaque keys (sb_...); their texts are not shown again
    List(OneProject),
    /// Make an opaque key and print it, once
    Create {
        #[command(flatten)]
        project: OneProject,
        /// A name for people
        name: String,
        /// A key of the role service_role, which row level security does not bind; otherwise anon
        #[arg(long)]
        secret: bool,
    },
    /// Revoke an opaque key
    Revoke {
        #[command(flatten)]
        project: OneProject,
        /// The key's number in the list
        key: i64,
    },
    /// Make a new JWT secret and new legacy keys; those before are accepted until they expire or are ended
    RotateJwtSecret {
        #[command(flatten)]
        project: OneProject,
        /// End every token and legacy key of before at once
        #[arg(long)]
        end_old_tokens: bool,
    },
    /// End every token and legacy key that an earlier JWT secret signed
    EndOldTokens(OneProject),
}

#[derive(Debug, Subcommand)]
pub enum StorageCommand {
    /// Copy every file between the disk and an S3-compatible store, and compare what arrived
    ///
    /// Reads the same settings as the server (STORAGE_PATH, STORAGE_S3_..., AWS_...). Nothing is removed at the old place. Run it
    /// while the server runs, then stop the server, run it again for what came meanwhile, set STORAGE_BACKEND and start.
    Migrate(MigrateArgs),
    /// Compare the rows and files of projects, and read every file's checksum again
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// One project, by id or name; all of the owner otherwise
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Compare sizes only and read no file
    #[arg(long)]
    pub quick: bool,
    /// Remove files that no row means, and find those of rows that SQL renamed
    #[arg(long)]
    pub repair: bool,
    /// Leave files alone that are younger than this many seconds: an upload may be about to make their row
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub grace: u32,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Where the files go
    #[arg(long, value_enum, value_name = "BACKEND")]
    pub to: FilesBackend,
    /// Only this project's files, by its id
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
    /// Data folder of the server on this machine
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum OwnerCommand {
    /// Make an owner; the password is asked for, or made with --generate
    Create {
        /// E-mail address
        email: String,
        /// Make a password and print it, once; otherwise the first line of standard input is the password
        #[arg(long)]
        generate: bool,
        /// An administrator, who may make owners and choose ids of projects
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Give an owner a new password, also one who forgot it (administrators); their sessions end
    SetPassword {
        /// E-mail address
        email: String,
        /// Make a password and print it, once; otherwise the first line of standard input is the password
        #[arg(long)]
        generate: bool,
        #[command(flatten)]
        reach: ReachArgs,
    },
}

#[derive(Debug, Args)]
pub struct LoginArgs {
    /// URL of the server [variable: LAUNCHDB_URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// E-mail address of the owner
    pub email: String,
    /// Print exactly the JSON that the API answers, with the token
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// URL of the server; the one logged in to last when it is left out
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Data folder to look at [default: ./.launchdb here or above, then /var/lib/launchdb]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Port the server is to use [default: 8000]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct MailArgs {
    /// Data folder of the server [default: ./.launchdb here or above, then /var/lib/launchdb]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Show this mail instead of the list; `last` is the newest
    #[arg(value_name = "MAIL")]
    pub mail: Option<String>,
}

#[derive(Debug, Args)]
pub struct RestArgs {
    /// The arguments postgrest would take
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_documents_print_is_understood() {
        for line in [
            "launchdb dev --data /tmp/x --port 0 --demo",
            "launchdb serve --only platform-api",
            "launchdb serve --only rest --port 3000",
            "launchdb project create shop --json",
            "launchdb project connection proj_abc123 --json --data d",
            "launchdb project list --url http://h:1 --token t",
            "launchdb project settings shop --set {}",
            "launchdb project sql shop --file f.sql --read-only",
            "launchdb project sql shop select",
            "launchdb project keys create shop ci --secret",
            "launchdb project keys revoke shop 7",
            "launchdb project list --deleted",
            "launchdb project delete shop --yes",
            "launchdb project domains add shop api.example.org --json",
            "launchdb project domains waiting",
            "launchdb project s3-keys create shop backup",
            "launchdb project s3-keys delete shop 7 --json",
            "launchdb storage migrate --to s3",
            "launchdb storage verify --project shop --repair",
            "launchdb storage migrate --to disk --project proj_abc123 --data d",
            "launchdb project extensions install shop vector",
            "launchdb project domains approve proj_abc123 api.example.org",
            "launchdb owner create a@b.org --generate",
            "launchdb owner create a@b.org --admin",
            "launchdb owner set-password a@b.org --generate",
            "launchdb login --url https://db.example.org a@b.org",
            "launchdb logout",
            "launchdb init --domain db.example.org --email you@example.org",
            "launchdb backup run --all",
            "launchdb migrate new add_tasks",
            "launchdb migrate up --project shop --dir db --dry-run",
            "launchdb migrate verify --project shop --json",
            "launchdb backup run --project proj_abc123 --data d",
            "launchdb backup list --json",
            "launchdb backup pitr enable --repo /mnt/r",
            "launchdb backup pitr restore --at 2026-11-26T06:15:00Z --data d",
            "launchdb rotate internal-key --end-previous",
            "launchdb rotate master-key --data d",
            "launchdb project keys rotate-jwt-secret shop --end-old-tokens",
            "launchdb project rotate-passwords shop --json",
            "launchdb backup verify a.sql.gpg b.sql.gpg",
            "launchdb backup prune",
            "launchdb backup files run --project proj_abc123 --checksum",
            "launchdb backup files restore proj_abc123 --into proj_copy",
            "launchdb restore /backups/platform_20231201_020000.sql.gpg platform --forget-unknown",
            "launchdb restore /backups/proj_abc123_20231201_020000.sql.gpg proj_abc123 --into proj_copy",
            "launchdb pooler add-project proj_abc123 10 4",
            "launchdb pooler add-user reporting",
            "launchdb postgrest list --json",
            "launchdb postgrest add proj_abc123 --url http://postgrest-manager:9000",
            "launchdb serve --only postgrest-manager --port 9000",
            "launchdb mail last",
            "launchdb rest --dump-config /etc/p.conf",
            "launchdb rest -h",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "launchdb",
            "launchdb backup run",
            "launchdb project list --url u --data d",
            "launchdb serve --only nothing",
            "launchdb postgrest spawn ../x",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
