//! What sessions of projects did, and what was done about it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The most that counts between two looks.
const LONGEST_STEP: Duration = Duration::from_secs(5);

/// Why a session is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    WritesRefused,
    OverQuota,
    Locks,
    TemporaryFiles,
    Sessions,
    Crowd,
    Memory,
    IdleInTransaction,
    StatementTime,
    TransactionTime,
    NotificationQueue,
}

impl Reason {
    const ALL: [Self; 11] = [
        Self::WritesRefused,
        Self::OverQuota,
        Self::Locks,
        Self::TemporaryFiles,
        Self::Sessions,
        Self::Crowd,
        Self::Memory,
        Self::IdleInTransaction,
        Self::StatementTime,
        Self::TransactionTime,
        Self::NotificationQueue,
    ];

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WritesRefused => "it writes while the disk is nearly full",
            Self::OverQuota => "its project's database is larger than allowed, and grows",
            Self::Locks => "too many locks",
            Self::TemporaryFiles => "too many temporary files",
            Self::Sessions => "too many sessions of its role",
            Self::Crowd => "owners have more sessions than the server has room for",
            Self::Memory => "too much memory of its project, or of all together",
            Self::IdleInTransaction => "a transaction was idle too long",
            Self::StatementTime => "a statement ran too long",
            Self::TransactionTime => "a transaction was open too long",
            Self::NotificationQueue => "it may hold back the notification queue",
        }
    }

    /// The word in the `.sql` files.
    fn name(self) -> &'static str {
        match self {
            Self::WritesRefused => "writes_refused",
            Self::OverQuota => "over_quota",
            Self::Locks => "locks",
            Self::TemporaryFiles => "temporary_files",
            Self::Sessions => "sessions",
            Self::Crowd => "crowd",
            Self::Memory => "memory",
            Self::IdleInTransaction => "idle_in_transaction",
            Self::StatementTime => "statement_time",
            Self::TransactionTime => "transaction_time",
            Self::NotificationQueue => "notification_queue",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// A session that passes a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offence {
    pub(super) pid: i32,
    /// When the session began; with the pid its identity. Microseconds since the Unix epoch, as `since`.
    pub(super) backend_start: i64,
    pub(super) role: String,
    pub(super) project: String,
    pub(super) reason: Reason,
    /// When the offending statement, transaction or session began: another one is another offence.
    pub(super) since: Option<i64>,
    /// Whether cancelling what it does may be enough.
    pub(super) cancel: bool,
}

impl Offence {
    /// Whether it is of a worker of autovacuum's that wrote (offenders.sql), which it does for itself, too, but not for long.
    pub(super) fn is_autovacuums_write(&self) -> bool {
        self.role == "autovacuum" && matches!(self.reason, Reason::WritesRefused | Reason::OverQuota)
    }
}

/// What the watchdog did to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub pid: i32,
    pub role: String,
    /// The text of the project's id.
    pub project: String,
    pub reason: Reason,
    pub measure: Measure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The statement was cancelled, the session goes on.
    Cancelled,
    /// The session was ended.
    Ended,
}

/// What to do about an offence that was seen again, or for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) measure: Measure,
    /// Whether it is worth a line in the log; the same measure again is not.
    pub(super) new: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pid: i32,
    backend_start: i64,
    reason: Reason,
    since: Option<i64>,
}

impl Key {
    fn of(offence: &Offence) -> Self {
        let Offence { pid, backend_start, reason, since, .. } = *offence;
        Self { pid, backend_start, reason, since }
    }
}

struct Record {
    seen: Instant,
    /// How long it was seen to go on.
    went_on: Duration,
    cancelled: Option<Instant>,
    ended: bool,
}

/// Offences that are being dealt with.
#[derive(Default)]
pub(super) struct Docket {
    records: HashMap<Key, Record>,
}

impl Docket {
    /// Begins a round in which these were seen; others are over.
    pub(super) fn begin(&mut self, offences: &[Offence], now: Instant) {
        let mut last = std::mem::take(&mut self.records);
        for key in offences.iter().map(Key::of) {
            let mut record = last.remove(&key).unwrap_or(Record {
                seen: now,
                went_on: Duration::ZERO,
                cancelled: None,
                ended: false,
            });
            // Nobody knows what it did while nobody looked.
            record.went_on += now.duration_since(record.seen).min(LONGEST_STEP);
            record.seen = now;
            self.records.entry(key).or_insert(record);
        }
    }

    /// What went on for `patience` is acted upon. A statement is cancelled first; its session is ended when it is still there
    /// after `grace`. None while waiting, and for what was not seen in this round.
    pub(super) fn decide(
        &mut self,
        offence: &Offence,
        now: Instant,
        patience: Duration,
        grace: Duration,
    ) -> Option<Step> {
        let record = self.records.get_mut(&Key::of(offence)).filter(|record| record.went_on >= patience)?;
        match record.cancelled {
            None if offence.cancel && !record.ended => {
                record.cancelled = Some(now);
                Some(Step { measure: Measure::Cancelled, new: true })
            }
            Some(cancelled) if now.duration_since(cancelled) < grace => None,
            _ => {
                let new = !record.ended;
                record.ended = true;
                Some(Step { measure: Measure::Ended, new })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_sql_files_are_known() {
        let sql = [
            include_str!("offenders.sql"),
            include_str!("crowd.sql"),
            include_str!("processes.sql"),
            include_str!("notification_queue_holders.sql"),
        ]
        .concat();
        for reason in Reason::ALL {
            assert!(sql.contains(&format!("'{}'", reason.name())), "{reason:?}");
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
        }
    }

    #[test]
    fn cancelling_comes_first_and_each_measure_is_new_once() {
        let offence = |cancel, since| Offence {
            pid: 1,
            backend_start: 1,
            role: "proj_abc".into(),
            project: "proj_abc".into(),
            reason: Reason::StatementTime,
            since: Some(since),
            cancel,
        };
        let (mut docket, start, grace) = (Docket::default(), Instant::now(), Duration::from_secs(2));
        let look = |docket: &mut Docket, after: u64, seen: Option<&Offence>, patience| {
            let now = start + Duration::from_secs(after);
            docket.begin(seen.map(std::slice::from_ref).unwrap_or_default(), now);
            docket.decide(seen?, now, patience, grace)
        };
        let mut check = |after, cancel, since, expected| {
            assert_eq!(look(&mut docket, after, Some(&offence(cancel, since)), Duration::ZERO), expected, "{after}");
        };
        let step = |measure, new| Some(Step { measure, new });
        check(0, true, 1, step(Measure::Cancelled, true));
        check(1, true, 1, None);
        check(2, true, 1, step(Measure::Ended, true));
        check(3, true, 1, step(Measure::Ended, false));
        // The session's next statement.
        check(4, true, 2, step(Measure::Cancelled, true));
        // Idle, so there is nothing to cancel.
        check(5, false, 3, step(Measure::Ended, true));
        look(&mut docket, 6, None, Duration::ZERO);
        assert!(docket.records.is_empty());
        // With patience; what was over meanwhile begins anew, and of a long time without a look a part counts.
        let patience = Duration::from_secs(20);
        for (after, is_seen, expected) in [
            (10, true, None),
            (12, true, None),
            (13, false, None),
            (14, true, None),
            (19, true, None),
            (24, true, None),
            (29, true, None),
            (33, true, None),
            (34, true, step(Measure::Ended, true)),
            (35, false, None),
            (40, true, None),
            (100, true, None),
            (105, true, None),
            (110, true, None),
            (114, true, None),
            (115, true, step(Measure::Ended, true)),
        ] {
            let offence = offence(false, 4);
            let found = look(&mut docket, after, is_seen.then_some(&offence), patience);
            assert_eq!(found, expected, "{after}");
        }
    }

    /// A round that was left before its end has seen all it saw.
    #[test]
    fn what_is_not_acted_upon_is_seen_all_the_same() {
        let offences: Vec<Offence> = [1, 2]
            .map(|pid| Offence {
                pid,
                backend_start: 1,
                role: "proj_abc".into(),
                project: "proj_abc".into(),
                reason: Reason::StatementTime,
                since: Some(1),
                cancel: true,
            })
            .into();
        let (mut docket, start, grace) = (Docket::default(), Instant::now(), Duration::from_secs(2));
        let mut round = |after: u64, acted_upon: &[Offence]| -> Vec<_> {
            let now = start + Duration::from_secs(after);
            docket.begin(&offences, now);
            acted_upon.iter().map(|offence| docket.decide(offence, now, Duration::ZERO, grace)).collect()
        };
        let step = |measure| Some(Step { measure, new: true });
        assert_eq!(round(0, &offences), [step(Measure::Cancelled); 2]);
        assert_eq!(round(1, &offences[..1]), [None]);
        assert_eq!(round(3, &offences), [step(Measure::Ended); 2]);
    }
}
