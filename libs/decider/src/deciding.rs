//! Going along with the loop of the books and writing the next decisions, round by round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use runledger_domain::digest::Digest;
use runledger_domain::log::{Kind, Partition};
use runledger_domain::time::{self, Timestamp};
use runledger_eventlog::{Entry, Log, Outcome};
use runledger_projection::{Attendant, Cursor, Seen};
use serde::Deserialize;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::judging::{Desk, Undecided, judge};
use crate::rounds::{Read, Rounds};
use crate::rules::Rules;

mod reading;

use reading::Reading;

/// How long one look at the database, or at the end of a partition, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon weather is looked at again.
const AGAIN: Duration = Duration::from_millis(200);
/// How soon what waits for a view is tried again.
const VIEWS_AGAIN: Duration = Duration::from_millis(25);
/// A moment of the log further ahead than this of the clock is no moment to judge time by.
const AHEAD_MAX: chrono::TimeDelta = chrono::TimeDelta::seconds(2);

/// How a decider works.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Most commands of one partition in one round, at most 500.
    pub round_commands: u16,
    /// How long decisions may take to be read back before their round is dropped.
    #[serde(with = "humantime_serde")]
    pub read_back: Duration,
    /// Between looks at what is owed though nobody has asked.
    #[serde(with = "humantime_serde")]
    pub due_every: Duration,
}

/// A round's fate as the log reports it, and whose it was.
type Reported = (Vec<Partition>, Vec<Outcome>);

/// A partition to decide in.
struct Held {
    cursor: Cursor,
    /// `None`: it is not known yet how far it has to be read.
    rounds: Option<Rounds>,
    /// Whether commands may be undecided, and from which offset on.
    undecided_from: Option<u64>,
    /// The moment of the last decision in force, and the highest version of rules. `None`: to be read.
    last: Option<(Timestamp, u32)>,
    /// When the round that is out was sent.
    sent_at: Option<Instant>,
}

/// Writes the decisions of one service.
pub struct Decider<R: Rules> {
    rules: Arc<R>,
    log: Arc<dyn Log>,
    wall: Arc<dyn time::Clock>,
    clock: Clock,
    options: Options,
    held: BTreeMap<Partition, Held>,
    reports: JoinSet<Reported>,
    wake: Option<Instant>,
    look_for_due: Instant,
}

impl<R: Rules> Decider<R> {
    pub fn new(
        rules: Arc<R>,
        log: Arc<dyn Log>,
        wall: Arc<dyn time::Clock>,
        options: Options,
    ) -> Self {
        Self {
            rules,
            log,
            wall,
            clock: Clock::default(),
            options: Options {
                round_commands: options.round_commands.clamp(1, 500),
                ..options
            },
            held: BTreeMap::new(),
            reports: JoinSet::new(),
            wake: None,
            look_for_due: Instant::now(),
        }
    }
}

impl<R: Rules> Attendant<PgPool> for Decider<R> {
    fn taken_up(&mut self, cursors: &[Cursor]) {
        for cursor in cursors {
            if self.rules.decides(cursor.partition) {
                self.held
                    .insert(cursor.partition, Held::new(cursor.clone()));
            }
        }
        self.wake = Some(Instant::now());
    }

    fn let_go(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.held.remove(partition);
        }
    }

    fn committed(&mut self, after: &[Cursor], seen: &[Seen]) {
        for cursor in after {
            if let Some(held) = self.held.get_mut(&cursor.partition) {
                held.committed(cursor, seen);
            }
        }
    }

    async fn awaited(&mut self) {
        let wake = self
            .wake
            .map_or(self.look_for_due, |wake| wake.min(self.look_for_due));
        tokio::select! {
            Some(Ok((partitions, outcomes))) = self.reports.join_next() => {
                self.reported(&partitions, &outcomes);
            }
            () = sleep_until(wake) => {}
        }
    }

    async fn act(&mut self, database: &PgPool) {
        self.wake = None;
        self.time_out();
        self.look_at_ends().await;
        if let Err(failed) = self.round(database).await {
            warn!(
                error = &failed as &dyn std::error::Error,
                "deciding waits for the weather"
            );
            self.wake_in(AGAIN);
        }
    }
}

impl Held {
    fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            rounds: None,
            undecided_from: Some(0),
            last: None,
            sent_at: None,
        }
    }

    fn committed(&mut self, cursor: &Cursor, seen: &[Seen]) {
        let ours = seen
            .iter()
            .filter(|seen| seen.position.partition == cursor.partition);
        for seen in ours {
            self.saw(seen);
        }
        // What was no command and no decision is read as well.
        if let (Some(rounds), Some(last)) = (&mut self.rounds, cursor.next_offset.checked_sub(1)) {
            rounds.read(last, None);
        }
        self.cursor.clone_from(cursor);
    }

    fn saw(&mut self, seen: &Seen) {
        if seen.kind == Kind::Command {
            self.undecided_from.get_or_insert(seen.position.offset);
        }
        let Some(rounds) = &mut self.rounds else {
            return;
        };
        let out = rounds.outstanding();
        match rounds.read(seen.position.offset, seen.decision) {
            Read::Confirmed if rounds.outstanding() == 0 => self.sent_at = None,
            Read::Confirmed => {}
            // Somebody else decides here, or did: his moments and his rules count too.
            Read::Nothing => {
                if seen.decision.is_some_and(|(_, in_force)| in_force) {
                    self.last = None;
                }
            }
            Read::Dropped => {
                info!(partition = %self.cursor.partition, offset = seen.position.offset, decisions = out, "another's decision came first; the round is dropped");
                counter!("runledger_decider_rounds_dropped_total", "why" => "foreign").increment(1);
                self.drop_round();
            }
        }
    }

    /// What was sent may be in the log or come to be: read to the end first.
    fn drop_round(&mut self) {
        self.rounds = None;
        self.sent_at = None;
        self.last = None;
        self.undecided_from = Some(0);
    }
}

impl<R: Rules> Decider<R> {
    fn wake_in(&mut self, after: Duration) {
        let at = Instant::now() + after;
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn reported(&mut self, partitions: &[Partition], outcomes: &[Outcome]) {
        let accepted = |outcome: &Outcome| matches!(outcome, Outcome::Accepted(_));
        if outcomes.iter().all(accepted) {
            return;
        }
        warn!("not every decision of a round was accepted; the round is dropped");
        for partition in partitions {
            self.drop_round(*partition, "unaccepted");
        }
    }

    fn drop_round(&mut self, partition: Partition, why: &'static str) {
        if let Some(held) = self.held.get_mut(&partition) {
            counter!("runledger_decider_rounds_dropped_total", "why" => why).increment(1);
            held.drop_round();
        }
        self.wake_in(Duration::ZERO);
    }

    /// Drops rounds that were not read back in time.
    fn time_out(&mut self) {
        let is_late = |at: Instant| at.elapsed() >= self.options.read_back;
        let late: Vec<Partition> = self
            .held
            .iter()
            .filter(|(_, held)| held.sent_at.is_some_and(is_late))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in late {
            warn!(%partition, "decisions were not read back in time; the round is dropped");
            self.drop_round(partition, "late");
        }
    }

    /// Before anything is decided in a partition: how far it has to be read.
    async fn look_at_ends(&mut self) {
        let unknown: Vec<Partition> = self
            .held
            .iter()
            .filter(|(_, held)| held.rounds.is_none() && held.cursor.chain_head.is_some())
            .map(|(partition, _)| *partition)
            .collect();
        for partition in unknown {
            let end = timeout(PATIENCE, self.log.watermark(partition)).await;
            let Some(held) = self.held.get_mut(&partition) else {
                continue;
            };
            match (end, held.cursor.chain_head) {
                (Ok(Ok(end)), Some(head)) => {
                    held.rounds = Some(Rounds::new(head, held.cursor.next_offset, end));
                }
                (Ok(Err(failed)), _) => {
                    warn!(%partition, error = &failed as &dyn std::error::Error, "cannot see where the partition ends");
                    self.wake_in(AGAIN);
                }
                (Err(_), _) | (Ok(Ok(_)), None) => self.wake_in(AGAIN),
            }
        }
    }

    /// Judges one round over all partitions that are ready for one.
    async fn round(&mut self, database: &PgPool) -> Result<(), reading::Error> {
        let looks_for_due = Instant::now() >= self.look_for_due;
        let ready: Vec<(Partition, u64)> = self
            .held
            .iter()
            .filter(|(_, held)| held.rounds.as_ref().is_some_and(Rounds::is_ready))
            .filter(|(_, held)| looks_for_due || held.undecided_from.is_some())
            .map(|(partition, held)| (*partition, held.undecided_from.unwrap_or(u64::MAX)))
            .collect();
        if looks_for_due {
            self.look_for_due = Instant::now() + self.options.due_every;
        }
        if ready.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let at = timeout(PATIENCE, self.clock.now(database))
            .await
            .map_err(|_| reading::Error::Silent)?
            .map_err(reading::Error::Database)?;
        self.learn(database, &ready).await?;
        let most = usize::from(self.options.round_commands);
        let input = Reading {
            rules: &*self.rules,
            database,
            most,
            due_at: looks_for_due.then_some(at),
            any_parked: ready
                .iter()
                .any(|(partition, _)| self.is_parked(*partition)),
        };
        let mut input = timeout(PATIENCE, input.read(&ready))
            .await
            .map_err(|_| reading::Error::Silent)??;
        let mut entries = Vec::new();
        let mut sent = Vec::new();
        for (partition, from) in ready {
            let Some(held) = self.held.get_mut(&partition) else {
                continue;
            };
            let Some(desk) = held.desk(&*self.rules, at, self.wall.now()) else {
                continue;
            };
            let at = desk.at;
            let (commands, owed) = input.of(partition);
            held.note_undecided(most, &commands);
            let desk = Desk {
                suspended: input.suspended.clone(),
                ..desk
            };
            let judged = judge(&*self.rules, desk, &mut input.states, &owed, &commands);
            if judged.waits {
                self.rules.refresh();
                held.undecided_from = Some(from);
                let again = Instant::now() + VIEWS_AGAIN;
                self.wake = Some(self.wake.map_or(again, |wake| wake.min(again)));
            }
            if !judged.entries.is_empty() {
                entries.extend(judged.entries);
                sent.push((partition, judged.hashes, at));
            }
        }
        histogram!("runledger_decider_round_seconds").record(begun.elapsed().as_secs_f64());
        self.send(entries, sent).await;
        Ok(())
    }

    fn is_parked(&self, partition: Partition) -> bool {
        let held = self.held.get(&partition);
        held.is_some_and(|held| held.cursor.parked > 0)
    }

    /// The moments and the rules of the last decisions, where they are not known.
    async fn learn(
        &mut self,
        database: &PgPool,
        ready: &[(Partition, u64)],
    ) -> Result<(), reading::Error> {
        let unknown: Vec<Partition> = ready
            .iter()
            .map(|(partition, _)| *partition)
            .filter(|partition| {
                let held = self.held.get(partition);
                held.is_some_and(|held| held.last.is_none())
            })
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let known = timeout(PATIENCE, reading::decided(database, &unknown))
            .await
            .map_err(|_| reading::Error::Silent)??;
        for partition in unknown {
            if let Some(held) = self.held.get_mut(&partition) {
                let none = (Timestamp::UNIX_EPOCH, 0);
                held.last = Some(known.get(&partition).copied().unwrap_or(none));
            }
        }
        Ok(())
    }

    async fn send(&mut self, entries: Vec<Entry>, sent: Vec<(Partition, Vec<Digest>, Timestamp)>) {
        if entries.is_empty() {
            return;
        }
        counter!("runledger_decider_decisions_total").increment(entries.len() as u64);
        histogram!("runledger_decider_round_decisions")
            .record(f64::from(u32::try_from(entries.len()).unwrap_or(u32::MAX)));
        let deadline = Instant::now() + self.options.read_back;
        match self.log.hand_over(entries, deadline).await {
            Ok(reports) => {
                let partitions: Vec<Partition> = sent.iter().map(|(one, _, _)| *one).collect();
                for (partition, hashes, at) in sent {
                    if let Some(held) = self.held.get_mut(&partition) {
                        held.sent(hashes, at);
                    }
                }
                self.reports
                    .spawn(async move { (partitions, reports.await) });
            }
            // Nothing was handed over, so nothing is out.
            Err(failed) => {
                warn!(
                    error = &failed as &dyn std::error::Error,
                    "decisions could not be handed over"
                );
                for (partition, _, _) in sent {
                    if let Some(held) = self.held.get_mut(&partition) {
                        held.undecided_from = Some(0);
                    }
                }
                self.wake_in(AGAIN);
            }
        }
        self.wake_in(self.options.read_back);
    }
}

impl Held {
    /// `None`: nothing may be decided here now.
    fn desk<R: Rules>(&self, rules: &R, at: Timestamp, now: Timestamp) -> Option<Desk> {
        let (last_at, rules_version) = self.last?;
        if rules_version > rules.version() {
            warn!(partition = %self.cursor.partition, rules_version, "a later version decides here; this one only reads");
            return None;
        }
        if last_at - at > AHEAD_MAX {
            error!(partition = %self.cursor.partition, %last_at, %at, "the last decision is ahead of the database's clock; nothing is decided before the clock is there");
            return None;
        }
        Some(Desk {
            partition: self.cursor.partition,
            read_to: self.cursor.next_offset,
            head: self.rounds.as_ref()?.head(),
            at: at.max(last_at),
            now,
            suspended: BTreeMap::new(),
        })
    }

    /// All that was there was taken, unless it was as much as one round takes.
    fn note_undecided(&mut self, most: usize, commands: &[Undecided]) {
        let first = commands.first().map(|command| command.position.offset);
        self.undecided_from = first.filter(|_| commands.len() >= most);
    }

    fn sent(&mut self, hashes: Vec<Digest>, at: Timestamp) {
        if let Some(rounds) = &mut self.rounds {
            rounds.sent(hashes);
        }
        self.sent_at = Some(Instant::now());
        self.last = self.last.map(|(last, version)| (last.max(at), version));
    }
}
