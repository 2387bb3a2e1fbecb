//! Going along with the loop of the books and writing the next decisions, round by round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use runledger_domain::digest::Digest;
use runledger_domain::log::Partition;
use runledger_domain::time::{self, Timestamp};
use runledger_eventlog::{Entry, Log, Outcome};
use runledger_projection::{Attendant, Cursor, Seen};
use serde::Deserialize;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use crate::clock::Clock;
use crate::judging::{Judged, judge};
use crate::rounds::Rounds;
use crate::rules::Rules;

mod held;
mod reading;
mod wariness;

use held::{Held, Wary};
use reading::{FACTS_A_ROUND, Reading, Ready};

/// How long one look at the database, or at the end of a partition, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon weather is looked at again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long facts and commands wait for the decisions that were sent just before, to be committed with them.
const ON_THEIR_WAY: Duration = Duration::from_millis(10);
/// How soon what waits for a view is tried again.
const VIEWS_AGAIN: Duration = Duration::from_millis(25);

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
                self.held.insert(
                    cursor.partition,
                    Held::new(cursor.clone(), self.rules.answers_facts()),
                );
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

    fn expects(&self) -> Option<(usize, Instant)> {
        let out = self.held.values().filter_map(|held| {
            let decisions = held.rounds.as_ref()?.outstanding();
            Some((decisions, held.sent_at? + ON_THEIR_WAY))
        });
        out.reduce(|one, other| (one.0 + other.0, one.1.max(other.1)))
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

    async fn leave(&mut self, database: &PgPool) {
        let held: Vec<Partition> = self.held.keys().copied().collect();
        if let Err(failed) = wariness::close(database, &held).await {
            warn!(
                error = &failed as &dyn std::error::Error,
                "whoever comes next will be wary"
            );
        }
    }

    async fn act(&mut self, database: &PgPool) {
        self.wake = None;
        self.time_out();
        if let Err(failed) = self.decide(database).await {
            warn!(
                error = &failed as &dyn std::error::Error,
                "deciding waits for the weather"
            );
            self.wake_in(AGAIN);
        }
    }
}

impl<R: Rules> Decider<R> {
    async fn decide(&mut self, database: &PgPool) -> Result<(), reading::Error> {
        self.open(database).await?;
        self.look_at_ends().await;
        self.round(database).await
    }

    /// Says which partitions are decided here, before anything is.
    async fn open(&mut self, database: &PgPool) -> Result<(), reading::Error> {
        let new: Vec<Partition> = self
            .held
            .iter()
            .filter(|(_, held)| !held.opened)
            .map(|(partition, _)| *partition)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let left = timeout(PATIENCE, wariness::open(database, &new))
            .await
            .map_err(|_| reading::Error::Silent)??;
        for partition in new {
            if let Some(held) = self.held.get_mut(&partition) {
                held.opened = true;
                // How far is known with the end of the partition.
                held.wary = left.contains(&partition).then(|| Wary::until(u64::MAX));
            }
        }
        Ok(())
    }

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
            .filter(|(_, held)| held.opened && held.rounds.is_none())
            .filter(|(_, held)| held.cursor.chain_head.is_some())
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
                    if let Some(wary) = &mut held.wary {
                        wary.until = wary.until.min(end);
                    }
                }
                (Ok(Err(failed)), _) => {
                    warn!(%partition, error = &failed as &dyn std::error::Error, "cannot see where the partition ends");
                    self.wake_in(AGAIN);
                }
                (Err(_), _) | (Ok(Ok(_)), None) => self.wake_in(AGAIN),
            }
        }
    }

    /// Partitions that are ready for a round.
    fn ready(&self, looks_for_due: bool) -> Vec<Ready> {
        let all = usize::from(self.options.round_commands);
        let ready = |(partition, held): (&Partition, &Held)| {
            let is_ready = held.rounds.as_ref().is_some_and(Rounds::is_ready);
            let from = held.from(looks_for_due);
            let at_most = held.wary.map_or(usize::MAX, |wary| wary.most);
            (is_ready && (looks_for_due || from.is_some())).then_some(Ready {
                partition: *partition,
                from,
                most: all.min(at_most),
                most_facts: FACTS_A_ROUND.min(at_most),
            })
        };
        self.held.iter().filter_map(ready).collect()
    }

    /// Judges one round over all partitions that are ready for one.
    async fn round(&mut self, database: &PgPool) -> Result<(), reading::Error> {
        let looks_for_due = Instant::now() >= self.look_for_due;
        let ready = self.ready(looks_for_due);
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
        let input = Reading {
            rules: &*self.rules,
            database,
            most_owed: usize::from(self.options.round_commands).div_ceil(2),
            due_at: looks_for_due.then_some(at),
            any_parked: ready.iter().any(|one| self.is_parked(one.partition)),
        };
        let mut input = timeout(PATIENCE, input.read(&ready))
            .await
            .map_err(|_| reading::Error::Silent)??;
        let mut entries = Vec::new();
        let mut sent = Vec::new();
        let all: Vec<Partition> = ready.iter().map(|one| one.partition).collect();
        for ready in ready {
            let judged = self.judge(database, &ready, at, &mut input).await;
            if judged.is_err() {
                // What was judged of the others is not sent either.
                self.undecided_again(&all);
            }
            let Some((judged, at)) = judged? else {
                continue;
            };
            if !judged.entries.is_empty() {
                entries.extend(judged.entries);
                sent.push((ready.partition, judged.hashes, at));
            }
        }
        histogram!("runledger_decider_round_seconds").record(begun.elapsed().as_secs_f64());
        self.send(entries, sent).await;
        Ok(())
    }

    /// One partition's part of a round, and its moment. `None`: nothing may be decided there now.
    async fn judge(
        &mut self,
        database: &PgPool,
        ready: &Ready,
        at: Timestamp,
        input: &mut reading::Input<R>,
    ) -> Result<Option<(Judged, Timestamp)>, reading::Error> {
        let (mut work, is_cut) = input.of(ready.partition);
        let Some(held) = self.held.get_mut(&ready.partition) else {
            return Ok(None);
        };
        let Some(desk) = held.desk(&*self.rules, at, self.wall.now(), &input.suspended) else {
            return Ok(None);
        };
        let at = desk.at;
        let wary = held.is_wary(ready.from.is_some(), work.first_offset());
        // Only what was alone is known to have felled its decider.
        let is_alone = wary && ready.most == 1;
        if is_alone {
            let attempt = timeout(PATIENCE, wariness::attempt(database, &mut work)).await;
            attempt.map_err(|_| reading::Error::Silent)??;
        }
        held.note_undecided(&work, is_cut);
        let judged = judge(&*self.rules, desk, &mut input.states, &work);
        // Who has waited has survived nothing.
        let is_tried = !judged.waits || !judged.entries.is_empty();
        if is_alone {
            let tried = wariness::tried(database, ready.partition, is_tried);
            let tried = timeout(PATIENCE, tried).await;
            tried.map_err(|_| reading::Error::Silent)??;
        }
        if wary && is_tried {
            held.dare();
        }
        if judged.waits {
            self.rules.refresh();
            held.undecided_from = ready.from;
            self.wake_in(VIEWS_AGAIN);
        }
        Ok(Some((judged, at)))
    }

    fn is_parked(&self, partition: Partition) -> bool {
        let held = self.held.get(&partition);
        held.is_some_and(|held| held.cursor.parked > 0)
    }

    /// The moments and the rules of the last decisions, where they are not known.
    async fn learn(&mut self, database: &PgPool, ready: &[Ready]) -> Result<(), reading::Error> {
        let unknown: Vec<Partition> = ready
            .iter()
            .map(|one| one.partition)
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
                let partitions: Vec<Partition> = sent.iter().map(|(one, ..)| *one).collect();
                self.undecided_again(&partitions);
                self.wake_in(AGAIN);
            }
        }
        self.wake_in(self.options.read_back);
    }

    /// What was judged came to nothing: anything may be undecided.
    fn undecided_again(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(held) = self.held.get_mut(partition) {
                held.undecided_from = Some(0);
            }
        }
    }
}
