//! The worker against a real queue and a real mail server on loopback.

use std::sync::Arc;
use std::time::Duration;

use base::auth_settings::{HookSettings, MailTemplate};
use base::project::{DatabaseTarget, ProjectStatus};
use base::{AuthSettings, Clock, Project, ProjectRef, ProjectTable, Secret};
use outbound::{ConfiguredBy, Rules};
use pg::{Budget, PoolConfig, ServicePools};
use serde_json::{Value, json};
use test_support::{ReceivedMail, ScratchDir, SmtpOptions, SmtpServer, SmtpTls, TestCluster, TestDatabase};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Mailer, MailerConfig, SendError, Sender, Server};

const PASSWORD: &str = "the password of the authenticator";

/// A project with a queue, and a worker.
struct World {
    database: TestDatabase,
    projects: Arc<ProjectTable>,
    project: ProjectRef,
    clock: Clock,
    rules: Rules,
    server: Option<Server>,
    server_limit: u32,
    kept: ScratchDir,
    keeps: bool,
    hook: Option<crate::SendHook>,
}

fn operator_server(smtp: &SmtpServer) -> Server {
    Server {
        by: ConfiguredBy::Operator,
        host: "127.0.0.1".into(),
        port: smtp.port(),
        user: None,
        password: None,
        sender: Sender { address: "noreply@server.example".into(), name: Some("The server".into()) },
    }
}

impl World {
    async fn new(server: Option<Server>, change: impl FnOnce(&mut AuthSettings)) -> Self {
        let cluster = TestCluster::shared();
        cluster
            .once("mailer_roles", async || {
                let client = cluster.connect("postgres").await;
                // Other crates' tests share the cluster and make it too, perhaps at this moment: with the attributes
                // that `cluster_roles.sql` gives it.
                let sql = "do $$ begin
                        create role supabase_auth_admin nologin noinherit bypassrls;
                    exception when duplicate_object or unique_violation then null;
                    end $$";
                client.batch_execute(sql).await.unwrap();
            })
            .await;
        let id = format!("proj_{}", base::random::hex::<8>());
        let database = cluster.create_database_named(&id, None).await;
        let user = format!("{id}_authenticator");
        database
            .execute(&format!(
                "create role {user} login noinherit password '{PASSWORD}'; grant supabase_auth_admin to {user};
                create schema _launchdb; grant usage on schema _launchdb to supabase_auth_admin;"
            ))
            .await;
        database.execute(include_str!("../../platform/src/baseline/0008_auth_mail.sql")).await;
        let project_ref = ProjectRef::parse(&id).unwrap();
        let mut auth = AuthSettings { site_url: "https://app.example".into(), ..AuthSettings::default() };
        change(&mut auth);
        let project = Project {
            project_ref: project_ref.clone(),
            status: ProjectStatus::Active,
            revision: 1,
            database: DatabaseTarget {
                host: "127.0.0.1".into(),
                port: cluster.port(),
                database: id.clone(),
                user,
                password: Secret::new(PASSWORD.to_owned()),
            },
            jwt_keys: Default::default(),
            signing: Default::default(),
            api_keys: Vec::new(),
            legacy_keys_enabled: true,
            data_api: Default::default(),
            auth: Arc::new(auth),
            limits: Default::default(),
            storage: Default::default(),
            s3: Default::default(),
            custom_domains: Vec::new(),
        };
        let projects = Arc::new(ProjectTable::new());
        projects.replace_all(vec![project]);
        Self {
            database,
            projects,
            project: project_ref,
            clock: Clock::system(),
            rules: Rules::default(),
            server,
            server_limit: 1_000,
            kept: ScratchDir::new(),
            keeps: false,
            hook: None,
        }
    }

    fn project(&self) -> Arc<Project> {
        self.projects.get(&self.project).unwrap()
    }

    fn mailer(&self) -> Mailer {
        Mailer::new(MailerConfig {
            pools: ServicePools::new(Budget::new(8), TaskTracker::new(), PoolConfig::default()),
            projects: self.projects.clone(),
            outbound: outbound::Client::new(self.rules.clone()).unwrap(),
            clock: self.clock.clone(),
            public_url: "https://api.example".into(),
            server: self.server.clone(),
            server_limit: self.server_limit,
            kept_in: self.keeps.then(|| self.kept.path().to_owned()),
            hook: self.hook.clone(),
        })
    }

    fn run(&self) -> Running {
        let (mailer, stop) = (self.mailer(), CancellationToken::new());
        let task = tokio::spawn(mailer.clone().run(stop.clone()));
        Running { mailer, stop, task }
    }

    async fn put(&self, kind: &str, to: &str, data: Value) {
        let client = self.database.connect().await;
        let sql = "insert into _launchdb.mail_queue (kind, recipient, data) values ($1, $2, $3::text::jsonb)";
        client.execute(sql, &[&kind, &to, &data.to_string()]).await.unwrap();
    }

    /// The only row: attempts, whether it was sent, whether it was given up, the reason, and the data.
    async fn row(&self) -> (i32, bool, bool, Option<String>, String) {
        let client = self.database.connect().await;
        let sql = "select attempts, sent_at is not null, failed_at is not null, last_error, data::text from _launchdb.mail_queue";
        let row = client.query_one(sql, &[]).await.unwrap();
        (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))
    }

    async fn row_when(
        &self,
        what: &str,
        is: impl Fn(&(i32, bool, bool, Option<String>, String)) -> bool,
    ) -> (i32, bool, bool, Option<String>, String) {
        test_support::eventually(what, async || {
            let row = self.row().await;
            is(&row).then_some(row)
        })
        .await
    }
}

struct Running {
    mailer: Mailer,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap();
    }
}

const LINK: &str =
    "https://api.example/p/proj/auth/v1/verify?token=abcdef&type=signup&redirect_to=https%3A%2F%2Fapp.example";

fn data() -> Value {
    json!({
        "email_data": {"token": "123456", "token_hash": "abcdef", "email_action_type": "signup", "redirect_to": "https://app.example"},
        "user": {"email": "a@example.org", "user_metadata": {"name": "<Ann>"}},
        "confirmation_url": LINK,
    })
}

#[tokio::test]
async fn a_mail_is_sent_with_link_and_code_and_leaves_no_code_behind() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let world = World::new(Some(operator_server(&smtp)), |auth| auth.smtp_sender_name = Some("My App".into())).await;
    let running = world.run();
    world.put("confirmation", "a@example.org", data()).await;
    running.mailer.notify(&world.project);
    let mail: ReceivedMail = smtp.mails_to("a@example.org", 1).await.remove(0);
    assert_eq!((mail.from.as_str(), mail.over_tls), ("noreply@server.example", false));
    assert_eq!(mail.header("From").unwrap(), "\"My App\" <noreply@server.example>");
    assert_eq!(mail.header("Subject").unwrap(), "Confirm your email address");
    let text = mail.readable();
    assert!(text.contains(LINK) && text.contains("123456"), "{text}");
    let (attempts, sent, failed, error, data) = world.row_when("sent", |row| row.1).await;
    assert_eq!((attempts, sent, failed, error, data.as_str()), (1, true, false, None, "{}"));
    running.stop().await;
}

#[tokio::test]
async fn mails_that_the_process_before_left_are_sent_at_the_start() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let world = World::new(Some(operator_server(&smtp)), |_| {}).await;
    for i in 0..3 {
        world.put("recovery", &format!("user{i}@example.org"), data()).await;
    }
    let running = world.run();
    for i in 0..3 {
        smtp.mails_to(&format!("user{i}@example.org"), 1).await;
    }
    // All on one connection.
    assert_eq!(smtp.connections(), 1);
    running.stop().await;
}

#[tokio::test]
async fn two_workers_send_each_mail_once() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let world = World::new(Some(operator_server(&smtp)), |_| {}).await;
    for i in 0..20 {
        world.put("magic_link", &format!("user{i}@example.org"), data()).await;
    }
    let (one, two) = (world.run(), world.run());
    for i in 0..20 {
        smtp.mails_to(&format!("user{i}@example.org"), 1).await;
    }
    one.stop().await;
    two.stop().await;
    assert_eq!(smtp.mails().len(), 20);
}

#[tokio::test]
async fn what_fails_is_tried_again_later_with_the_same_message_id() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let world = World::new(Some(operator_server(&smtp)), |_| {}).await;
    let running = world.run();
    // The server took the mail, but nobody heard of it.
    smtp.drop_after_data(true);
    world.put("confirmation", "a@example.org", data()).await;
    running.mailer.notify(&world.project);
    let (_, sent, failed, error, _) = world.row_when("the first attempt", |row| row.3.is_some()).await;
    assert!(!sent && !failed && error.unwrap().contains("the mail server"));
    smtp.drop_after_data(false);
    smtp.answer_next(&["450 greylisted, later"]);
    world.clock.advance(16);
    running.mailer.notify(&world.project);
    let row = world
        .row_when("the second attempt", |row| row.0 == 2 && row.3.as_deref().is_some_and(|e| e.contains("450")))
        .await;
    assert!(!row.1 && !row.2, "{row:?}");
    world.clock.advance(31);
    running.mailer.notify(&world.project);
    let mails = smtp.mails_to("a@example.org", 2).await;
    assert_eq!(mails[0].header("Message-ID"), mails[1].header("Message-ID"));
    let row = world.row_when("sent", |row| row.1).await;
    assert_eq!((row.0, row.2, row.3), (3, false, None));
    running.stop().await;
}

#[tokio::test]
async fn refusals_and_old_mails_are_given_up_with_the_reason() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let world = World::new(Some(operator_server(&smtp)), |_| {}).await;
    let running = world.run();
    smtp.answer_next(&["550 no such mailbox"]);
    world.put("confirmation", "a@example.org", data()).await;
    running.mailer.notify(&world.project);
    let (attempts, sent, _, error, data_left) = world.row_when("given up", |row| row.2).await;
    assert_eq!((attempts, sent, data_left.as_str()), (1, false, "{}"));
    assert!(error.unwrap().contains("550"));
    running.stop().await;

    let world = World::new(Some(operator_server(&smtp)), |_| {}).await;
    world.put("confirmation", "b@example.org", data()).await;
    world.clock.advance(25 * 3600);
    smtp.answer_next(&["450 later"]);
    let running = world.run();
    let row = world.row_when("given up", |row| row.2).await;
    assert!(row.3.unwrap().contains("450"));
    running.stop().await;
    let world = World::new(Some(operator_server(&smtp)), |_| {}).await;
    world.put("confirmation", "no address\r\nRCPT TO:<x@example.org>", data()).await;
    let running = world.run();
    let row = world.row_when("given up", |row| row.2).await;
    assert!(row.3.unwrap().contains("no e-mail address"));
    running.stop().await;
}

#[tokio::test]
async fn the_mail_server_of_a_project_has_to_be_public_and_speak_tls() {
    let smtp = SmtpServer::start(SmtpOptions {
        tls: SmtpTls::StartTls,
        credentials: Some(("user".into(), "password".into())),
        host: Some("mail.example".into()),
    })
    .await;
    let own = |auth: &mut AuthSettings, host: &str, port: u16, password: &str| {
        auth.smtp_host = Some(host.into());
        auth.smtp_port = Some(port);
        auth.smtp_user = Some("user".into());
        auth.smtp_pass = Some(Secret::new(password.to_owned()));
        auth.smtp_admin_email = Some("app@project.example".into());
    };
    // The operator's server is exempt, but is not the one that the project named.
    let world = World::new(Some(operator_server(&smtp)), |auth| own(auth, "127.0.0.1", smtp.port(), "password")).await;
    let error = world.mailer().send_test(&world.project(), "a@example.org").await.unwrap_err();
    assert!(error.to_string().contains("private address"), "{error}");
    assert_eq!(smtp.connections(), 0);
    // What is no port of mail servers is not asked what it is.
    for port in [22, 80, 443, 5432] {
        let world = World::new(None, |auth| own(auth, "192.0.1.1", port, "password")).await;
        let error = world.mailer().send_test(&world.project(), "a@example.org").await.unwrap_err();
        assert!(error.to_string().contains("has to be one of 25, 465, 587, 2525"), "{error}");
    }
    // A loopback server that the operator allows needs no TLS.
    let mut world = World::new(None, |auth| own(auth, "127.0.0.1", smtp.port(), "password")).await;
    world.rules.private_targets_allowed = true;
    world.mailer().send_test(&world.project(), "a@example.org").await.unwrap();
    let mail = smtp.mails_to("a@example.org", 1).await.remove(0);
    assert_eq!((mail.from.as_str(), mail.user.as_deref()), ("app@project.example", Some("user")));
    // A wrong password is said, and can be mended.
    let mut world = World::new(None, |auth| own(auth, "127.0.0.1", smtp.port(), "wrong")).await;
    world.rules.private_targets_allowed = true;
    let error = world.mailer().send_test(&world.project(), "a@example.org").await.unwrap_err();
    assert!(matches!(&error, SendError::Retry(text) if text.contains("535") && !text.contains("wrong\"")), "{error}");
    // Without a sender nothing can be sent.
    let world = World::new(None, |auth| auth.smtp_host = Some("mail.example".into())).await;
    let error = world.mailer().check(&world.project()).unwrap_err();
    assert!(error.to_string().contains("smtp_admin_email"), "{error}");
}

#[tokio::test]
async fn without_a_server_mails_are_kept_or_wait_with_the_name_of_the_setting() {
    let mut world = World::new(None, |_| {}).await;
    world.put("confirmation", "a@example.org", data()).await;
    let running = world.run();
    let row = world.row_when("the attempt", |row| row.3.is_some()).await;
    assert!(!row.2 && row.3.unwrap().contains("SMTP_HOST"));
    running.stop().await;
    world.keeps = true;
    world.clock.advance(60);
    let running = world.run();
    world.row_when("kept", |row| row.1).await;
    let kept: Vec<_> = std::fs::read_dir(world.kept.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 1);
    let text = std::fs::read_to_string(&kept[0]).unwrap();
    assert!(text.contains("To: a@example.org") && text.contains("123456"), "{text}");
    running.stop().await;
}

#[tokio::test]
async fn a_template_of_the_project_is_used_and_a_broken_one_keeps_nobody_out() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let template = |content: &str| {
        let own = MailTemplate { subject: "Hi {{ .Data.name }}".into(), content: Some(content.into()) };
        move |auth: &mut AuthSettings| drop(auth.mails.insert("confirmation".into(), own))
    };
    let world = World::new(Some(operator_server(&smtp)), template("<b>{{ .Data.name }}: {{ .Token }}</b>")).await;
    world.put("confirmation", "own@example.org", data()).await;
    let running = world.run();
    let mail = smtp.mails_to("own@example.org", 1).await.remove(0);
    assert_eq!(mail.header("Subject").unwrap(), "Hi <Ann>");
    assert!(mail.readable().contains("<b>&lt;Ann&gt;: 123456</b>"));
    running.stop().await;
    let preview = world.mailer().preview(&world.project(), "confirmation", None, serde_json::Map::new()).await.unwrap();
    assert_eq!(preview.html, "<b>: 123456</b>");
    let world = World::new(Some(operator_server(&smtp)), template("{{ if }}")).await;
    world.put("confirmation", "broken@example.org", data()).await;
    let running = world.run();
    assert!(smtp.mails_to("broken@example.org", 1).await[0].readable().contains("Confirm email address"));
    running.stop().await;
    assert!(world.mailer().preview(&world.project(), "confirmation", None, serde_json::Map::new()).await.is_err());
}

#[tokio::test]
async fn the_operators_server_takes_so_many_mails_of_a_project_in_an_hour() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let mut world = World::new(Some(operator_server(&smtp)), |_| {}).await;
    world.server_limit = 2;
    for n in 0..3 {
        world.put("confirmation", &format!("n{n}@example.org"), data()).await;
    }
    let running = world.run();
    smtp.mails_to("n1@example.org", 1).await;
    let client = world.database.connect().await;
    let waits = "select count(*) from _launchdb.mail_queue where sent_at is null and attempts = 0
        and failed_at is null and next_attempt_at > now() and last_error like '%no more mails%'";
    for _ in 0..200 {
        if client.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1 {
            running.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the third mail does not wait");
}

#[tokio::test]
async fn mails_that_are_too_long_or_ended_the_process_too_often_are_given_up() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let world = World::new(Some(operator_server(&smtp)), |_| {}).await;
    world.put("confirmation", "long@example.org", json!({"user": {"user_metadata": {"x": "y".repeat(300_000)}}})).await;
    world.put("confirmation", "often@example.org", data()).await;
    let client = world.database.connect().await;
    client.execute("update _launchdb.mail_queue set attempts = 12 where recipient like 'often%'", &[]).await.unwrap();
    let running = world.run();
    for _ in 0..200 {
        let row = client
            .query_one(
                "select string_agg(last_error, '; ' order by id) from _launchdb.mail_queue where failed_at is not null",
                &[],
            )
            .await
            .unwrap();
        if row.get::<_, Option<&str>>(0) == Some("the mail is too long; it was tried too often") {
            running.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("they are not given up");
}

#[tokio::test]
async fn a_hook_sends_in_place_of_the_server() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let hook = HookSettings { uri: "https://hooks.example/mail".into(), secrets: None };
    let mut world =
        World::new(Some(operator_server(&smtp)), |auth| drop(auth.hooks.insert("send_email".into(), hook))).await;
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    world.hook = Some(Arc::new(move |_, mail| {
        let told = told.clone();
        Box::pin(async move {
            told.send(mail).await.unwrap();
            Ok(())
        })
    }));
    world.put("recovery", "a@example.org", data()).await;
    let running = world.run();
    let mail = heard.recv().await.unwrap();
    assert_eq!(
        (mail.kind.as_str(), mail.recipient.as_str(), &mail.data["email_data"]["token"]),
        ("recovery", "a@example.org", &json!("123456"))
    );
    world.row_when("done", |row| row.1).await;
    running.stop().await;
    assert_eq!(smtp.connections(), 0);
}

#[tokio::test]
async fn a_worker_that_dies_loses_its_turn_soon() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let world = World::new(Some(operator_server(&smtp)), |_| {}).await;
    world.put("confirmation", "a@example.org", data()).await;
    let client = world.database.connect().await;
    let claim = "update _launchdb.mail_queue set attempts = 1, claimed_until = now() + interval '20 seconds'";
    client.batch_execute(claim).await.unwrap();
    let running = world.run();
    running.mailer.notify(&world.project);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(smtp.connections(), 0);
    world.clock.advance(21);
    running.mailer.notify(&world.project);
    smtp.mails_to("a@example.org", 1).await;
    running.stop().await;
}

/// As many as may be asked at once, and each is named all the time.
#[tokio::test]
async fn projects_whose_databases_do_not_answer_keep_nobody_waiting() {
    let smtp = SmtpServer::start(SmtpOptions::default()).await;
    let mut world = World::new(Some(operator_server(&smtp)), |_| {}).await;
    let mut others = Vec::new();
    for _ in 0..4 {
        let other = World::new(None, |_| {}).await;
        let client = other.database.connect().await;
        client.batch_execute("begin; lock table _launchdb.mail_queue").await.unwrap();
        others.push((other, client));
    }
    let all = others.iter().map(|(other, _)| other.project()).chain([world.project()]);
    let projects = Arc::new(ProjectTable::new());
    projects.replace_all(all.map(|project| Project::clone(&project)).collect());
    world.projects = projects;
    let running = world.run();
    // Until they are known.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    others.iter().for_each(|(other, _)| running.mailer.notify(&other.project));
    world.put("confirmation", "a@example.org", data()).await;
    let began = tokio::time::Instant::now();
    running.mailer.notify(&world.project);
    smtp.mails_to("a@example.org", 1).await;
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    running.stop().await;
}
