//! What leaves the process on behalf of projects: calls to addresses that they configure, and mails to their users.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use base::{Clock, ProjectTable};
use mailer::{Mailer, MailerConfig, Sender, Server};
use outbound::{Client, ConfiguredBy, Rules};
use pg::ServicePools;

use crate::config::{Config, MailConfig};
use crate::exit::{self, Exit, ResultExt as _};

/// Where mails are kept that no server sends (`launchdb mail`), below the data folder.
const KEPT_MAILS: &str = "mail";

/// The way out, by the operator's rules.
pub(super) fn client(config: &Config) -> Result<Client, Exit> {
    let rules = Rules { private_targets_allowed: config.platform.private_targets_allowed, ..Rules::default() };
    Client::new(rules).context("calls to other servers cannot be made").exit(exit::FAILURE)
}

/// Sends the mails of projects; `keeps` is for `dev`, where mails without a server are for the developer to read.
pub(super) fn mailer(
    config: &Config,
    data: Option<&Path>,
    keeps: bool,
    public_url: &str,
    outbound: Client,
    pools: Arc<ServicePools>,
    projects: Arc<ProjectTable>,
) -> Mailer {
    let clock = Clock::system();
    Mailer::new(MailerConfig {
        pools,
        projects,
        hook: Some(auth::send_email_hook(outbound.clone(), clock.clone())),
        outbound,
        clock,
        public_url: public_url.to_owned(),
        server: config.mail.as_ref().map(server),
        server_limit: config.mail.as_ref().map_or(0, |mail| mail.project_hourly),
        kept_in: data.filter(|_| keeps).map(|data| data.join(KEPT_MAILS)),
    })
}

fn server(mail: &MailConfig) -> Server {
    Server {
        by: ConfiguredBy::Operator,
        host: mail.host.clone(),
        port: mail.port,
        user: mail.user.clone(),
        password: mail.password.clone(),
        sender: Sender { address: mail.from.clone(), name: None },
    }
}
