use super::secrets::SECRET_KINDS;
use super::*;

fn dev(pairs: &[(&str, &str)]) -> Result<Config, InvalidConfig> {
    Config::load(&Source::from_pairs(pairs.iter().copied()), &Invocation::default())
}

fn problem_names(result: Result<Config, InvalidConfig>) -> Vec<String> {
    let mut names: Vec<_> = result.unwrap_err().0.into_iter().map(|p| p.name).collect();
    names.sort();
    names
}

#[test]
fn nothing_set_is_a_working_dev_configuration() {
    let config = dev(&[]).unwrap();
    assert_eq!(config.listen.public.to_string(), "127.0.0.1:8000");
    // The second when root tests in its own home.
    let folders = [".launchdb", SYSTEM_DATA_FOLDER].map(|folder| Some(PathBuf::from(folder)));
    assert!(folders.contains(&config.data), "{:?}", config.data);
    assert_eq!(config.listen.status_port, Some(3001));
    assert!(config.is_embedded() && !config.platform.signup_enabled && config.mail.is_none());
    assert_eq!(config.database.superuser, "supabase_admin");
    assert_eq!(config.warnings, []);
}

#[test]
fn a_server_for_others_has_a_rate_and_projects_have_ceilings() {
    let load = |serve: bool, pairs: &[(&str, &str)]| {
        let invocation = Invocation { serve, ..Invocation::default() };
        Config::load(&Source::from_pairs(pairs.iter().copied()), &invocation).unwrap().limits
    };
    assert_eq!(load(false, &[]).per_ip_per_second, 0);
    assert_eq!(load(true, &[]).per_ip_per_second, 2_000);
    assert_eq!(load(true, &[("LAUNCHDB_RATE_LIMIT_PER_SECOND", "0")]).per_ip_per_second, 0);
    let limits = load(true, &[("LAUNCHDB_MAX_CONNECTIONS", "800"), ("LAUNCHDB_DB_CONNECTIONS", "20")]);
    assert_eq!((limits.max_connections_per_ip, limits.project_db_pool), (100, 10));
    assert_eq!((limits.project_body_bytes, limits.project_statement_timeout_ms), (50 * 1024 * 1024, 300_000));
}

#[test]
fn lives_of_tokens_are_defaults_of_projects() {
    let lives = |pairs: &[(&str, &str)]| {
        dev(pairs).map(|config| (config.platform.access_token_seconds, config.platform.refresh_token_seconds))
    };
    assert_eq!(lives(&[]), Ok((None, None)));
    let pairs = [("ACCESS_TOKEN_TTL", "900"), ("REFRESH_TOKEN_TTL", "2592000")];
    assert_eq!(lives(&pairs), Ok((Some(900), Some(2_592_000))));
    for bad in ["0", "-1", "15m", "99999999999"] {
        let pairs = [("ACCESS_TOKEN_TTL", bad), ("REFRESH_TOKEN_TTL", bad)];
        assert_eq!(problem_names(dev(&pairs)), ["ACCESS_TOKEN_TTL", "REFRESH_TOKEN_TTL"], "{bad}");
    }
}

#[test]
fn tls_is_of_files_or_comes_by_itself() {
    let load = |tls: bool, pairs: &[(&str, &str)]| {
        let invocation = Invocation { serve: true, tls, ..Invocation::default() };
        Config::load(&Source::from_pairs(pairs.iter().copied()), &invocation).map(|config| config.listen.tls)
    };
    let acme = |directory: &str, contact: Option<&str>| {
        Some(TlsConfig::Acme(AcmeConfig {
            name: "db.example.org".to_owned(),
            directory: directory.to_owned(),
            contact: contact.map(str::to_owned),
            roots: None,
        }))
    };
    const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
    let domain = ("DOMAIN", "db.Example.org");
    assert_eq!(load(false, &[domain]), Ok(None));
    assert_eq!(load(true, &[domain]), Ok(acme(LETS_ENCRYPT, None)));
    let mail = ("ACME_EMAIL", "you@example.org");
    let directory = |directory| ("LAUNCHDB_ACME_DIRECTORY", directory);
    assert_eq!(load(true, &[domain, mail, directory("production")]), Ok(acme(LETS_ENCRYPT, Some("you@example.org"))));
    let staging = "https://acme-staging-v02.api.letsencrypt.org/directory";
    assert_eq!(load(true, &[domain, directory("staging")]), Ok(acme(staging, None)));
    let own = "https://ca.example.org:8443/acme/directory";
    assert_eq!(load(true, &[("LAUNCHDB_PUBLIC_URL", "https://db.example.org"), directory(own)]), Ok(acme(own, None)));
    let files = TlsFiles { certificate: "/a.pem".into(), key: "/b.pem".into() };
    let of_files = [domain, ("LAUNCHDB_TLS_CERT", "/a.pem"), ("LAUNCHDB_TLS_KEY", "/b.pem")];
    for asked in [true, false] {
        assert_eq!(load(asked, &of_files), Ok(Some(TlsConfig::Files(files.clone()))));
    }
    let problems = |tls, pairs: &[(&str, &str)]| -> Vec<String> {
        load(tls, pairs).unwrap_err().0.into_iter().map(|problem| problem.name).collect()
    };
    assert_eq!(problems(false, &of_files[..2]), ["LAUNCHDB_TLS_KEY"]);
    assert_eq!(problems(true, &of_files[1..2]), ["LAUNCHDB_TLS_KEY"]);
    assert_eq!(problems(true, &of_files[2..]), ["LAUNCHDB_TLS_CERT"]);
    assert_eq!(problems(true, &[]), ["DOMAIN"]);
    assert_eq!(problems(true, &[("DOMAIN", "localhost")]), ["DOMAIN"]);
    for url in ["https://192.0.2.1", "http://db.example.org", "https://[2001:db8::1]:8443"] {
        assert_eq!(problems(true, &[("LAUNCHDB_PUBLIC_URL", url)]), ["DOMAIN"], "{url}");
    }
    for wrong in ["http://ca.example.org/", "nonsense", "ftp://ca.example.org"] {
        assert_eq!(problems(true, &[domain, directory(wrong)]), ["LAUNCHDB_ACME_DIRECTORY"], "{wrong}");
    }
    assert_eq!(problems(false, &[domain, ("ACME_EMAIL", "nobody")]), ["ACME_EMAIL"]);
}

#[test]
fn the_command_line_wins_over_the_source() {
    let source = Source::from_pairs([("LAUNCHDB_PORT", "9001"), ("PORT", "9002"), ("LAUNCHDB_DATA", "/a")]);
    let config = Config::load(&source, &Invocation::default()).unwrap();
    assert_eq!((config.listen.public.port(), config.data), (9001, Some(PathBuf::from("/a"))));
    let invocation = Invocation { port: Some(7), data: Some("/b".into()), ..Invocation::default() };
    let config = Config::load(&source, &invocation).unwrap();
    assert_eq!((config.listen.public.port(), config.data), (7, Some(PathBuf::from("/b"))));
}

#[test]
fn services_started_alone_use_the_ports_of_the_specification() {
    for (service, port) in
        [(Service::PlatformApi, 8000), (Service::Rest, 3000), (Service::Gateway, 8000), (Service::Migrations, 8002)]
    {
        let invocation = Invocation { only: Some(service), ..Invocation::default() };
        assert_eq!(Config::load(&Source::default(), &invocation).unwrap().listen.public.port(), port);
    }
}

#[test]
fn every_problem_is_reported_at_once_with_its_mend_and_without_the_value() {
    let error = dev(&[
        ("LAUNCHDB_MASTER_KEY", "changeme-changeme-changeme"),
        ("PLATFORM_JWT_SECRET", "your-super-secret-jwt-token-with-at-least-32-characters-long"),
        ("INTERNAL_API_KEY", "tooshort"),
        ("LAUNCHDB_PORT", "eight"),
        ("LAUNCHDB_PUBLIC_URL", "ftp://x"),
        ("LAUNCHDB_TRUSTED_PROXIES", "10.0.0.0/8, 300.1.1.1"),
        ("SMTP_USER", "somebody"),
        ("DATABASE_URL", "postgres://postgres:postgres@localhost/platform"),
        ("LAUNCHDB_LOG_FORMAT", "xml"),
        ("MAX_FILE_SIZE_MB", "-1"),
    ])
    .unwrap_err();
    let text = error.to_string();
    for name in [
        "LAUNCHDB_MASTER_KEY",
        "PLATFORM_JWT_SECRET",
        "INTERNAL_API_KEY",
        "LAUNCHDB_PORT",
        "LAUNCHDB_PUBLIC_URL",
        "LAUNCHDB_TRUSTED_PROXIES",
        "SMTP_HOST",
        "DATABASE_URL",
        "LAUNCHDB_LOG_FORMAT",
        "MAX_FILE_SIZE_MB",
    ] {
        assert_eq!(error.0.iter().filter(|p| p.name == name).count(), 1, "{name} in {text}");
    }
    assert!(text.contains("openssl rand -base64 32"), "{text}");
    assert!(!text.contains("tooshort") && !text.contains("postgres:postgres"), "{text}");
}

#[test]
fn a_given_database_needs_a_public_url_and_secrets() {
    let url = ("DATABASE_URL", "postgresql://launchdb_admin:k2Jd93kfQlz0@db:5432/platform");
    assert_eq!(problem_names(dev(&[url])), ["DOMAIN", "LAUNCHDB_MASTER_KEY", "PLATFORM_JWT_SECRET"]);
    let (key, secret) = (SECRET_KINDS[0].generate(), SECRET_KINDS[1].generate());
    let secrets = [("LAUNCHDB_MASTER_KEY", key.expose().as_str()), ("PLATFORM_JWT_SECRET", secret.expose().as_str())];
    let config = dev(&[url, ("DOMAIN", "db.acme.org"), secrets[0], secrets[1]]).unwrap();
    assert_eq!(config.listen.public_url, "https://db.acme.org");
    assert!(config.secrets.must_exist() && config.data.is_none());
    let alias = ("PLATFORM_DB_DSN", url.1);
    let public_url = ("LAUNCHDB_PUBLIC_URL", "http://10.0.0.1:8000/");
    assert!(!dev(&[alias, public_url, secrets[0], secrets[1]]).unwrap().is_embedded());
    // Those that the data folder has need not be given.
    let data = tempfile::tempdir().unwrap();
    let file = format!("{}={}\n{}={}\n", secrets[0].0, secrets[0].1, secrets[1].0, secrets[1].1);
    crate::private_file::write(&secrets_file::path(data.path()), file.as_bytes()).unwrap();
    dev(&[url, ("DOMAIN", "db.acme.org"), ("LAUNCHDB_DATA", data.path().to_str().unwrap())]).unwrap();
}

#[test]
fn one_value_does_not_serve_as_two_secrets() {
    let value = base::random::hex::<32>();
    assert_eq!(
        problem_names(dev(&[("INTERNAL_API_KEY", &value), ("POSTGREST_ADMIN_KEY", &value)])),
        ["POSTGREST_ADMIN_KEY"]
    );
}

#[test]
fn what_is_generated_is_accepted() {
    for kind in SECRET_KINDS {
        assert_eq!(kind.weakness(kind.generate().expose()), None, "{}", kind.name);
    }
}

#[test]
fn slips_and_missing_mail_are_warnings() {
    let source = Source::from_pairs([("LAUNCHDB_TRUSTED_PROXYS", "10.0.0.1")]);
    let config = Config::load(&source, &Invocation { serve: true, ..Invocation::default() }).unwrap();
    let names: Vec<_> = config.warnings.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["LAUNCHDB_TRUSTED_PROXYS", "SMTP_HOST"]);
}

#[test]
fn mail_settings_go_together() {
    assert_eq!(problem_names(dev(&[("SMTP_HOST", "mail"), ("SMTP_USER", "u")])), ["SMTP_FROM", "SMTP_PASSWORD"]);
    let mail = dev(&[("SMTP_HOST", "mail"), ("SMTP_FROM", "a@b.org")]).unwrap().mail.unwrap();
    assert_eq!((mail.host.as_str(), mail.port, mail.user), ("mail", 587, None));
}
