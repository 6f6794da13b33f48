//! What the rest of the process sees: notify, preview, a test mail, and the worker to run.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{Clock, Project, ProjectRef, ProjectTable};
use futures_util::future::BoxFuture;
use outbound::ConfiguredBy;
use pg::ServicePools;
use serde_json::{Map, Value};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::message::{self, Rendered, Sender, Template};
use crate::schedule::Line;
use crate::smtp::{Connection, SendError, Server};
use crate::store::Mail;
use crate::template::TemplateError;
use crate::{kept, variables, worker};

/// Hands a mail to the project's send-mail hook, which sends it in our place.
pub type SendHook = Arc<dyn Fn(Arc<Project>, Mail) -> BoxFuture<'static, Result<(), SendError>> + Send + Sync>;

/// The setting of projects that puts a hook in place of the mail server.
const HOOK: &str = "send_email";
/// Databases that are asked for mails at once: of projects that are quick, and of others.
const ASKED_AT_ONCE: usize = 4;
const SLOW_ASKED_AT_ONCE: usize = 2;
/// Templates that are rendered at once: owners write them.
const RENDERED_AT_ONCE: usize = 2;
const HOUR: i64 = 3600;

/// What the worker needs from the process that it is part of.
pub struct MailerConfig {
    pub pools: Arc<ServicePools>,
    pub projects: Arc<ProjectTable>,
    /// Whose rules mail servers of projects follow.
    pub outbound: outbound::Client,
    pub clock: Clock,
    /// Links begin with it; without a slash at the end.
    pub public_url: String,
    /// The mail server of projects that set none (`SMTP_*`).
    pub server: Option<Server>,
    /// Most mails of one project that it takes in an hour; more of them wait.
    pub server_limit: u32,
    /// Where mails are kept that there is no server for; none leaves them waiting.
    pub kept_in: Option<PathBuf>,
    pub hook: Option<SendHook>,
}

/// Sends the mails of all projects. Clones share it.
#[derive(Clone)]
pub struct Mailer(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: MailerConfig,
    wanted: Mutex<HashSet<ProjectRef>>,
    pub(crate) woken: Notify,
    /// Projects with mails that wait or are being sent.
    pub(crate) projects_waiting: AtomicUsize,
    asking: Semaphore,
    asking_slow: Semaphore,
    rendering: Arc<Semaphore>,
    /// The hour that is counted, and what was sent in it by the operator's server.
    sent: Mutex<(i64, HashMap<ProjectRef, u32>)>,
}

/// How a project's mails leave.
pub(crate) enum Way {
    Hook(SendHook),
    Server(Server),
    /// With the sender that a mail server would have been given.
    Kept(PathBuf, Sender),
}

impl Mailer {
    /// How many projects have mails that wait or are being sent, as the worker last saw it.
    pub fn projects_waiting(&self) -> usize {
        self.0.projects_waiting.load(Ordering::Relaxed)
    }

    pub fn new(config: MailerConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            wanted: Mutex::default(),
            woken: Notify::new(),
            projects_waiting: AtomicUsize::new(0),
            asking: Semaphore::new(ASKED_AT_ONCE),
            asking_slow: Semaphore::new(SLOW_ASKED_AT_ONCE),
            rendering: Arc::new(Semaphore::new(RENDERED_AT_ONCE)),
            sent: Mutex::default(),
        }))
    }

    /// Says that the project has a new mail; call it after the commit.
    pub fn notify(&self, project: &ProjectRef) {
        self.0.wanted().insert(project.clone());
        self.0.woken.notify_one();
    }

    /// Sends until the shutdown. It begins with a look at every project, for mails that the process before left.
    pub async fn run(self, shutdown: CancellationToken) {
        worker::run(self.0, shutdown).await;
    }

    /// Whether mails of the project can leave; an error names the setting that is missing.
    ///
    /// # Errors
    /// As [`SendError::Retry`], in words for the owner of the project.
    pub fn check(&self, project: &Project) -> Result<(), SendError> {
        self.0.way(project).map(drop)
    }

    /// Sends a mail to try the project's settings out, and waits until the server took it.
    ///
    /// # Errors
    /// What the mail server said, or what is missing.
    pub async fn send_test(&self, project: &Project, to: &str) -> Result<(), SendError> {
        let name = project.auth.smtp_sender_name.as_deref().unwrap_or("LaunchDB");
        let rendered = Rendered {
            subject: format!("Test mail of {name}"),
            html: "<p>This mail was sent to try out the settings of the mail server. They work.</p>".to_owned(),
            text: "This mail was sent to try out the settings of the mail server. They work.\n".to_owned(),
        };
        let id = format!("test.{}.{}", base::random::hex::<8>(), project.project_ref);
        match self.0.way(project)? {
            Way::Hook(_) => {
                Err(SendError::Refused("mails go to the send-mail hook; there is no mail server to try".to_owned()))
            }
            way => self.0.send(&way, &mut None, to, &rendered, &id).await,
        }
    }

    /// What a mail would look like; `template` in place of the project's own.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub async fn preview(
        &self,
        project: &Project,
        kind: &str,
        template: Option<Template>,
        data: Map<String, Value>,
    ) -> Result<Rendered, TemplateError> {
        let variables = variables::of_preview(project, &self.0.config.public_url, data);
        let template = template.unwrap_or_else(|| own_template(project, kind));
        self.0.render(kind.to_owned(), template, Arc::new(variables)).await
    }
}

fn own_template(project: &Project, kind: &str) -> Template {
    let own = project.auth.mails.get(kind).cloned().unwrap_or_default();
    let set = |text: String| Some(text).filter(|text| !text.trim().is_empty());
    Template { subject: set(own.subject), content: own.content.and_then(set) }
}

impl Inner {
    pub(crate) fn wanted(&self) -> MutexGuard<'_, HashSet<ProjectRef>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The places at which databases of projects of a line are asked.
    pub(crate) fn asking(&self, line: Line) -> &Semaphore {
        match line {
            Line::Quick => &self.asking,
            Line::Slow => &self.asking_slow,
        }
    }

    /// The project's hook, its mail server, the operator's, or the folder.
    pub(crate) fn way(&self, project: &Project) -> Result<Way, SendError> {
        let settings = &project.auth;
        if settings.hook(HOOK).is_some()
            && let Some(hook) = &self.config.hook
        {
            return Ok(Way::Hook(hook.clone()));
        }
        let missing = |what: &str| Err(SendError::Retry(what.to_owned()));
        let name = settings.smtp_sender_name.clone().filter(|name| !name.is_empty());
        if let Some(host) = settings.smtp_host.clone().filter(|host| !host.is_empty()) {
            let Some(address) = settings.smtp_admin_email.clone().filter(|address| !address.is_empty()) else {
                return missing("the setting smtp_admin_email is missing: mails need a sender");
            };
            return Ok(Way::Server(Server {
                by: ConfiguredBy::Project,
                host,
                port: settings.smtp_port.unwrap_or(587),
                user: settings.smtp_user.clone().filter(|user| !user.is_empty()),
                password: settings.smtp_pass.clone(),
                sender: Sender { address, name },
            }));
        }
        if let Some(server) = &self.config.server {
            let sender = Sender { name: name.or(server.sender.name.clone()), ..server.sender.clone() };
            return Ok(Way::Server(Server { sender, ..server.clone() }));
        }
        match &self.config.kept_in {
            Some(folder) => {
                let address = settings.smtp_admin_email.clone().filter(|address| message::is_address(address));
                let address = address.unwrap_or_else(|| "noreply@launchdb.localhost".to_owned());
                Ok(Way::Kept(folder.clone(), Sender { address, name }))
            }
            None => missing("there is no mail server: SMTP_HOST is not set, and neither is the project's smtp_host"),
        }
    }

    /// Counts a mail of the project against what the operator's server takes in an hour; the seconds until the next hour
    /// when there is no room.
    pub(crate) fn admit(&self, project: &Project, now: i64) -> Result<(), i64> {
        if !matches!(self.way(project), Ok(Way::Server(Server { by: ConfiguredBy::Operator, .. }))) {
            return Ok(());
        }
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.0 != now / HOUR {
            *sent = (now / HOUR, HashMap::new());
        }
        let count = sent.1.entry(project.project_ref.clone()).or_default();
        if *count >= self.config.server_limit {
            return Err(HOUR - now.rem_euclid(HOUR));
        }
        *count += 1;
        Ok(())
    }

    /// Renders on a thread that may take its time.
    async fn render(&self, kind: String, template: Template, variables: Arc<Value>) -> Result<Rendered, TemplateError> {
        let failed = |error: &dyn std::fmt::Display| TemplateError::Render(error.to_string());
        let place = self.rendering.clone().acquire_owned().await.map_err(|error| failed(&error))?;
        let work = move || {
            let _place = place;
            message::render(&kind, &template, &variables)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))?
    }

    /// Renders a mail with the project's template. One that cannot be used does not keep users out: the built-in one goes
    /// in its place, and the log says why.
    pub(crate) async fn rendered(&self, project: &Project, mail: &Mail) -> Result<Rendered, SendError> {
        let variables = Arc::new(variables::of_mail(project, mail));
        let own = own_template(project, &mail.kind);
        match self.render(mail.kind.clone(), own, variables.clone()).await {
            Ok(rendered) => Ok(rendered),
            Err(error) => {
                tracing::warn!(
                    project.ref = %project.project_ref, mail.kind = %mail.kind, %error,
                    "a template cannot be used, so the built-in one is"
                );
                self.render(mail.kind.clone(), Template::default(), variables)
                    .await
                    .map_err(|error| SendError::Refused(error.to_string()))
            }
        }
    }

    /// Sends a mail that is rendered, on `connection` if that is still good; it stays open for the next.
    pub(crate) async fn send(
        &self,
        way: &Way,
        connection: &mut Option<Connection>,
        to: &str,
        rendered: &Rendered,
        id: &str,
    ) -> Result<(), SendError> {
        let now = self.config.clock.unix_seconds();
        let letter = |sender: &Sender| {
            message::build(sender, to, rendered, id, now).map_err(|error| match error {
                message::MessageError::Sender(_) => SendError::Retry(error.to_string()),
                _ => SendError::Refused(error.to_string()),
            })
        };
        match way {
            Way::Hook(_) => Err(SendError::Refused("a hook renders its mails itself".to_owned())),
            Way::Kept(folder, sender) => {
                let letter = letter(sender)?;
                let kept = kept::keep(folder, id, now, &letter.bytes).await;
                kept.map(drop).map_err(|error| SendError::Retry(format!("the mail could not be kept: {error}")))
            }
            Way::Server(server) => {
                let letter = letter(&server.sender)?;
                let mut open = match connection.take().filter(Connection::is_usable) {
                    Some(open) => open,
                    None => Connection::open(self.config.outbound.rules(), server).await?,
                };
                let sent = open.send(&letter).await;
                if sent.is_ok() {
                    *connection = Some(open);
                } else {
                    open.quit().await;
                }
                sent
            }
        }
    }
}
