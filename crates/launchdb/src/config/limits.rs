//! What clients and projects may take of the server.

use super::Invocation;
use super::reader::Reader;

/// Requests a second that one client address may make of a server for others: more than a person does, less than it takes
/// to keep everybody else away.
const SERVED_PER_IP: u32 = 2_000;
/// A client address may have this part of all connections.
const PART_PER_IP: usize = 8;

/// What the gateway lets through, and what projects may be allowed.
#[derive(Clone, Debug)]
pub struct LimitConfig {
    /// Requests per second and client address, as a long-term average; 0 is no limit.
    pub per_ip_per_second: u32,
    pub per_ip_burst: u32,
    /// Requests under way at once; more are answered 503. A project may have a quarter of them.
    pub max_in_flight: usize,
    /// Open connections, and those of one client address.
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    /// Largest request body of the platform API, in bytes.
    pub max_body_bytes: u64,
    /// Bytes of answers that wait for slow clients, and of request bodies; a project may have a quarter of each.
    pub answer_bytes: u64,
    pub body_bytes: u64,
    /// Ceilings over what owners may set: a project's largest request body in bytes, its connections, and how long its
    /// statements run in milliseconds (0 is no ceiling).
    pub project_body_bytes: u64,
    pub project_db_pool: u32,
    pub project_statement_timeout_ms: u32,
}

impl LimitConfig {
    pub(super) fn read(reader: &mut Reader<'_>, invocation: &Invocation, connection_budget: u32) -> Self {
        let max_connections =
            reader.parsed("LAUNCHDB_MAX_CONNECTIONS", 8_192, "a number of connections from 8", |n| *n >= PART_PER_IP);
        let megabytes = |n: &u64| (1..=1 << 20).contains(n);
        let mut bytes =
            |name, default: u64| 1024 * 1024 * reader.parsed(name, default, "a number of megabytes above 0", megabytes);
        let answer_bytes = bytes("LAUNCHDB_ANSWER_MEMORY_MB", 256);
        let body_bytes = bytes("LAUNCHDB_BODY_MEMORY_MB", 256);
        let project_body_bytes = bytes("LAUNCHDB_PROJECT_BODY_MB", 50);
        let seconds: u32 = reader.parsed(
            "LAUNCHDB_PROJECT_STATEMENT_SECONDS",
            300,
            "a number of seconds up to 86400; 0 is no ceiling",
            |n| *n <= 86_400,
        );
        Self {
            per_ip_per_second: reader.parsed(
                "LAUNCHDB_RATE_LIMIT_PER_SECOND",
                if invocation.serve { SERVED_PER_IP } else { 0 },
                "requests a second; 0 is no limit",
                |_| true,
            ),
            per_ip_burst: reader.parsed(
                "LAUNCHDB_RATE_LIMIT_BURST",
                0,
                "requests at once; 0 is a second's worth",
                |_| true,
            ),
            max_in_flight: reader.parsed("LAUNCHDB_MAX_IN_FLIGHT", 4_096, "a number of requests above 0", |n| *n > 0),
            max_connections,
            max_connections_per_ip: reader.parsed(
                "LAUNCHDB_MAX_CONNECTIONS_PER_IP",
                max_connections / PART_PER_IP,
                "a number of connections above 0",
                |n| *n > 0,
            ),
            max_body_bytes: reader.parsed(
                "LAUNCHDB_MAX_BODY_BYTES",
                10 * 1024 * 1024,
                "a number of bytes above 0",
                |n| *n > 0,
            ),
            answer_bytes,
            body_bytes,
            project_body_bytes,
            project_db_pool: reader.parsed(
                "LAUNCHDB_PROJECT_DB_POOL",
                (connection_budget / 2).clamp(1, 100),
                "a number of connections from 1 to 100",
                |n| (1..=100).contains(n),
            ),
            project_statement_timeout_ms: seconds * 1000,
        }
    }
}
