//! `launchdb rotate ...`: keys of the installation are replaced while it runs.

use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{object_pairs, print};
use super::{ReachArgs, discovery};
use crate::config::Source;
use crate::exit::{self, Exit};

pub const EXAMPLES: &str = "\
Examples:
  launchdb rotate master-key                  every secret is sealed anew, online; a cut-off run goes on at the next start
  launchdb rotate internal-key                the one before is accepted until:
  launchdb rotate internal-key --end-previous
  launchdb project keys rotate-jwt-secret shop
  launchdb project rotate-passwords shop";

/// Between two looks at how far it is, and for how long altogether.
const LOOK: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Subcommand)]
pub enum RotateCommand {
    /// Make a new master key and seal every secret with it
    MasterKey {
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Make a new internal key and print it, once; the one before is accepted until it is ended
    InternalKey {
        /// Accept only the newest from now on
        #[arg(long)]
        end_previous: bool,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Say how far the changes are
    Status {
        #[command(flatten)]
        reach: ReachArgs,
    },
}

/// Runs one command.
pub fn run(source: &Source, command: RotateCommand) -> Result<(), Exit> {
    match command {
        RotateCommand::MasterKey { reach } => master_key(&discovery::connect(source, &reach)?),
        RotateCommand::InternalKey { end_previous, reach } => {
            let client = discovery::connect(source, &reach)?;
            if end_previous {
                client.delete("/api/rotations/internal-key")?;
                return print("only the newest internal key is accepted");
            }
            let answer = client.post("/api/rotations/internal-key", &json!({}))?;
            print(&if reach.json { answer.text } else { object_pairs(&answer.json) })
        }
        RotateCommand::Status { reach } => {
            let answer = discovery::connect(source, &reach)?.get("/api/rotations")?;
            print(&if reach.json { answer.text } else { shown(&answer.json) })
        }
    }
}

fn shown(status: &Value) -> String {
    let master = match (status["master_key"]["rotating"] == true, &status["master_key"]["secrets_left"]) {
        (true, left) => format!("being replaced, {left} secrets are left"),
        (false, _) => "seals everything".to_owned(),
    };
    let internal = match status["internal_key"]["previous_accepted"] == true {
        true => "the one before is accepted, too",
        false => "the only one that is accepted",
    };
    format!("master key: {master}\ninternal key: {internal}")
}

fn master_key(client: &Client) -> Result<(), Exit> {
    client.post("/api/rotations/master-key", &json!({}))?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let status = client.get("/api/rotations")?.json;
        if status["master_key"]["rotating"] == false {
            return print("every secret is sealed with the new master key; keep a copy of the new secrets.env");
        }
        std::thread::sleep(LOOK);
    }
    Err(Exit::message(exit::FAILURE, "secrets are still left; the server goes on: launchdb rotate status"))
}
