//! PgBouncer beside an embedded cluster or as a service: whether it can run here, and its numbers in the metrics.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use base::project::DatabaseTarget;
use base::{Secret, random};
use platform::Address;
use platform::pooler::{PoolNumbers, Pooler};
use procs::binaries::Search;
use procs::pgbouncer::{PgbouncerConfig, PlatformEntry, Program};
use procs::unprivileged::RunAs;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::storage::Storage;
use crate::config::{Config, Service, source};
use crate::exit::{self, Exit, ResultExt as _};

/// Clients of all projects together.
const MAX_CLIENTS: u32 = 1_000;
/// Connections to the platform's database: those of every service's process together.
const PLATFORM_POOL: u32 = 60;
const PLATFORM_RESERVE: u32 = 10;

/// How the pooler will be run.
pub struct Plan {
    pub config: PgbouncerConfig,
    pub console_password: Secret<String>,
}

impl Plan {
    /// Where clients find it.
    pub fn address(&self) -> Address {
        Address { host: self.config.listen.to_string(), port: self.config.port }
    }
}

/// Whether this process is to have a pooler; a reason why not is an error only where it was asked for.
pub fn plan(config: &Config, storage: &Storage, only: Option<Service>) -> Result<Option<Plan>, Exit> {
    let is_service = only == Some(Service::Pgbouncer);
    let is_child = Service::keeps_projects(only) && storage.cluster.is_some();
    if !is_service && !is_child {
        return Ok(None);
    }
    let missing = |code, text: String| match config.pooler.is_required || is_service {
        true => Err(Exit::message(code, text)),
        false => {
            tracing::info!("no pooler: {text}");
            Ok(None)
        }
    };
    let Some(port) = config.pooler.port else {
        return if is_service { missing(exit::CONFIG, "LAUNCHDB_POOLER_PORT is off".to_owned()) } else { Ok(None) };
    };
    let search = Search { bin_dir: None, path: source::executable_path() };
    let Some(program) = Program::find(&search) else {
        return missing(exit::CONFIG, "PgBouncer is not installed (apt-get install pgbouncer)".to_owned());
    };
    // Beside a cluster of ours it is for this machine; as a service it listens where the service does.
    let listen = if is_service { config.listen.public.ip() } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    // It binds by itself a moment later; who takes the port in between keeps it from starting, which its log tells.
    let port = match TcpListener::bind((listen, port)).and_then(|listener| listener.local_addr()) {
        Ok(address) => address.port(),
        Err(error) => return missing(exit::PORT_USED, format!("port {port} cannot be listened on: {error}")),
    };
    let (server_host, server_port) = match (&storage.cluster, &config.database.admin_url, &config.database.url) {
        (Some(cluster), ..) => ("127.0.0.1".to_owned(), cluster.port()),
        (None, Some(server), _) | (None, None, Some(server)) => (server.host.clone(), server.port),
        (None, None, None) => return missing(exit::CONFIG, "there is no PostgreSQL".to_owned()),
    };
    let run_as = match &storage.data {
        Some(data) => data.run_as().clone(),
        None => RunAs::for_this_process().exit(exit::CONFIG)?,
    };
    let console_password = Secret::new(random::password());
    let config = PgbouncerConfig {
        program,
        dir: config.pooler.folder(storage.data_path()),
        run_as,
        listen,
        port,
        server_host,
        server_port,
        console_verifier: platform::pooler::verifier(&console_password),
        max_clients: MAX_CLIENTS,
        log_dir: config.pooler.log_dir.clone(),
        platform: config.database.url.as_ref().filter(|_| is_service).map(platform_entry),
    };
    Ok(Some(Plan { config, console_password }))
}

fn platform_entry(target: &DatabaseTarget) -> PlatformEntry {
    PlatformEntry {
        database: target.database.clone(),
        user: target.user.clone(),
        password: target.password.clone(),
        pool_size: PLATFORM_POOL,
        reserve_pool: PLATFORM_RESERVE,
        operator_password: Secret::new(random::password()),
    }
}

/// The pooler's numbers as it last told them.
pub struct PoolerCollector(pub Pooler);

impl fmt::Debug for PoolerCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolerCollector")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDatabase {
    database: String,
}

impl Collector for PoolerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let numbers = self.0.numbers();
        type Number = fn(&PoolNumbers) -> i64;
        let gauges: [(&str, &str, Number); 4] = [
            ("launchdb_pooler_clients_active", "Clients of the pooler that have a connection", |n| n.clients_active),
            ("launchdb_pooler_clients_waiting", "Clients of the pooler that wait for one", |n| n.clients_waiting),
            ("launchdb_pooler_servers_active", "Connections of the pooler that a client has", |n| n.servers_active),
            ("launchdb_pooler_servers_idle", "Connections of the pooler that nobody has", |n| n.servers_idle),
        ];
        let labels = |of: &PoolNumbers| OfDatabase { database: of.database.clone() };
        for (name, help, number) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for of in &numbers {
                ConstGauge::new(number(of)).encode(family.encode_family(&labels(of))?)?;
            }
        }
        let counters: [(&str, &str, Number); 3] = [
            ("launchdb_pooler_transactions", "Transactions through the pooler", |n| n.transactions),
            ("launchdb_pooler_queries", "Queries through the pooler", |n| n.queries),
            ("launchdb_pooler_wait_microseconds", "Time that clients waited for a connection", |n| n.wait_us),
        ];
        for (name, help, number) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for of in &numbers {
                let count = u64::try_from(number(of)).unwrap_or_default();
                ConstCounter::new(count).encode(family.encode_family(&labels(of))?)?;
            }
        }
        Ok(())
    }
}
