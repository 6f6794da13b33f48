//! Instances as containers `postgrest-<project id>`. They have a life of their own: they go on when the manager ends, and
//! the engine starts them again after a crash.

use std::time::Duration;

use base::ProjectRef;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::engine_api::EngineApi;
use crate::error::Error;
use crate::process::Program;

/// Marks our containers, with the project's id.
const LABEL: &str = "org.launchdb.postgrest";
/// Between two looks at a container.
const LOOK: Duration = Duration::from_secs(1);
/// Seconds that a container has to end.
const ENDING_SECONDS: u32 = 5;

/// How containers are made.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// `DOCKER_HOST`: a filtering proxy, or the socket itself.
    pub host: String,
    pub image: String,
    /// What is run in it, before the configuration file; empty for an image whose entry point is postgrest.
    pub command: Vec<String>,
    /// The network that the gateway is in, too.
    pub network: String,
    /// What is mounted at `folder`: a volume's name or a folder of the host.
    pub volume: String,
    /// Where configuration files are, in the manager as in the containers.
    pub folder: String,
    /// Where the volume is mounted.
    pub mount: String,
    /// User (and group) that may read the files, as `user:group`.
    pub user: String,
    /// Whether the image has LaunchDB, which reloads at SIGHUP, or a real postgrest.
    pub is_launchdb: bool,
    /// A program beside the manager that says what is wrong with a file.
    pub checker: Option<Program>,
}

pub(crate) struct Docker {
    pub(crate) config: DockerConfig,
    api: EngineApi,
}

impl Docker {
    pub(crate) fn new(config: DockerConfig) -> Result<Self, Error> {
        Ok(Self { api: EngineApi::new(&config.host)?, config })
    }

    fn path(name: &str, rest: &str) -> String {
        format!("/containers/{}{rest}", utf8_percent_encode(name, NON_ALPHANUMERIC))
    }

    async fn inspect(&self, name: &str) -> Result<Option<Value>, Error> {
        match self.api.call(Method::GET, &Self::path(name, "/json"), None).await? {
            (StatusCode::OK, body) => Ok(Some(body)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, body) => Err(self.api.refused(status, &body)),
        }
    }

    fn is_ours(container: &Value, id: &str) -> bool {
        container["Config"]["Labels"][LABEL].as_str() == Some(id)
    }

    /// The container's id, and whether it was there and runs already.
    pub(crate) async fn start(&self, id: &ProjectRef, name: &str) -> Result<(String, bool), Error> {
        if let Some(present) = self.inspect(name).await? {
            if !Self::is_ours(&present, id.as_str()) {
                return Err(Error::NameTaken { name: name.to_owned() });
            }
            let container = present["Id"].as_str().unwrap_or(name).to_owned();
            let fits = present["Config"]["Image"].as_str() == Some(self.config.image.as_str());
            if fits && present["State"]["Running"].as_bool() == Some(true) {
                return Ok((container, true));
            }
            self.remove(&container, false).await?;
        }
        let conf = format!("{}/{id}.conf", self.config.folder);
        let command: Vec<&str> = self.config.command.iter().map(String::as_str).chain([conf.as_str()]).collect();
        let wanted = json!({
            "Image": self.config.image,
            "Cmd": command,
            "User": self.config.user,
            "Labels": { LABEL: id.as_str() },
            "HostConfig": {
                "Binds": [format!("{}:{}:ro", self.config.volume, self.config.mount)],
                "NetworkMode": self.config.network,
                "RestartPolicy": { "Name": "unless-stopped" },
                "ReadonlyRootfs": true,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges:true"],
            },
        });
        let path = format!("/containers/create?name={}", utf8_percent_encode(name, NON_ALPHANUMERIC));
        let container = match self.api.call(Method::POST, &path, Some(&wanted)).await? {
            (StatusCode::CREATED, body) => body["Id"].as_str().unwrap_or(name).to_owned(),
            (StatusCode::CONFLICT, _) => return Err(Error::NameTaken { name: name.to_owned() }),
            (status, body) => return Err(self.api.refused(status, &body)),
        };
        match self.api.call(Method::POST, &Self::path(&container, "/start"), None).await? {
            (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, _) => Ok((container, false)),
            (status, body) => {
                // Nothing half-done stays.
                let _ = self.remove(&container, false).await;
                Err(self.api.refused(status, &body))
            }
        }
    }

    /// Waits until the container is gone or stopped. What the engine itself starts again is not an end.
    pub(crate) async fn ended(&self, container: &str) -> String {
        loop {
            tokio::time::sleep(LOOK).await;
            // An engine that does not answer says nothing of its containers, which go on.
            match self.inspect(container).await {
                Ok(None) => return "the container is gone".to_owned(),
                Ok(Some(state)) => {
                    let state = &state["State"];
                    let lives = |name: &str| state[name].as_bool() == Some(true);
                    if !lives("Running") && !lives("Restarting") {
                        return format!("the container stopped with {}", state["ExitCode"]);
                    }
                }
                Err(_) => {}
            }
        }
    }

    pub(crate) async fn remove(&self, container: &str, in_order: bool) -> Result<(), Error> {
        if in_order {
            let path = Self::path(container, &format!("/stop?t={ENDING_SECONDS}"));
            self.api.call(Method::POST, &path, None).await?;
        }
        match self.api.call(Method::DELETE, &Self::path(container, "?force=true"), None).await? {
            (StatusCode::NO_CONTENT | StatusCode::NOT_FOUND, _) => Ok(()),
            (status, body) => Err(self.api.refused(status, &body)),
        }
    }

    /// Removes the container of this name, if it is one of ours.
    pub(crate) async fn remove_ours(&self, name: &str) {
        let id = name.strip_prefix("postgrest-").unwrap_or(name);
        if let Ok(Some(present)) = self.inspect(name).await
            && Self::is_ours(&present, id)
            && let Err(error) = self.remove(name, true).await
        {
            tracing::warn!(%error, "a container cannot be removed");
        }
    }

    pub(crate) async fn reload(&self, container: &str) -> Result<(), Error> {
        let signals: &[&str] = if self.config.is_launchdb { &["HUP"] } else { &["USR2", "USR1"] };
        for signal in signals {
            let path = Self::path(container, &format!("/kill?signal={signal}"));
            match self.api.call(Method::POST, &path, None).await? {
                (StatusCode::NO_CONTENT, _) => {}
                (status, body) => return Err(self.api.refused(status, &body)),
            }
        }
        Ok(())
    }
}
