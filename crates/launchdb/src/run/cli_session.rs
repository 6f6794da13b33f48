//! The way into the server for commands on the same machine: `run/cli.json`, with an owner's token of this start.

use std::path::Path;

use axum::body::Body;
use axum::extract::Request;
use base::Secret;
use platform::Platform;
use web::HttpService;

use super::patience::until_available;
use crate::cli::client::Client;
use crate::cli::discovery::{ServerFile, read_server_file, server_file};
use crate::exit::{self, Exit, ResultExt as _};
use crate::private_file;

/// A token of the first owner, ended with the server.
pub struct CliSession {
    service: HttpService,
    token: Secret<String>,
    url: String,
}

impl CliSession {
    /// Makes a token for the first owner and writes it down in the data folder, when there is one. The token of a server
    /// that was killed ends here.
    pub async fn open(platform: &Platform, url: &str, data: Option<&Path>) -> Result<Option<Self>, Exit> {
        let owner = until_available(async || platform.first_owner().await).await.exit(exit::FAILURE)?;
        let Some(owner) = owner else { return Ok(None) };
        let service = HttpService::from(platform.router());
        if let Some(stale) = data.and_then(|data| read_server_file(data).ok().flatten()) {
            log_out(&service, &stale.token).await;
        }
        let token = until_available(async || platform.create_cli_session(&owner).await).await.exit(exit::FAILURE)?;
        let session = Self { service, token, url: url.to_owned() };
        if let Some(data) = data {
            let file =
                ServerFile { url: session.url.clone(), token: session.token.expose().clone(), pid: std::process::id() };
            let text = serde_json::to_vec(&file).exit(exit::FAILURE)?;
            private_file::write(&server_file(data), &text).exit(exit::FAILURE)?;
        }
        Ok(Some(session))
    }

    /// A client that acts for the first owner.
    pub fn client(&self) -> Result<Client, Exit> {
        Client::new(&self.url, Some(self.token.expose().clone()))
    }

    /// Ends the token and removes the file.
    pub async fn close(self, data: Option<&Path>) {
        if let Some(data) = data {
            let _ = std::fs::remove_file(server_file(data));
        }
        log_out(&self.service, self.token.expose()).await;
    }
}

async fn log_out(service: &HttpService, token: &str) {
    let request = Request::builder()
        .method("POST")
        .uri("/api/owners/logout")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty());
    if let Ok(request) = request {
        // Refused when it has ended already, which is as good.
        service.call(request).await;
    }
}
