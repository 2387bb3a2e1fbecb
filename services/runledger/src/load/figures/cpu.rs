//! Processor time by process, as the kernel counts it. Where it does not tell (elsewhere than on Linux), there is none.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Linux tells it in hundredths of a second on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used, and whose child it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own: Duration,
    /// Of its children that have ended.
    ended: Duration,
}

/// Every process of the measurement, from now on: ourselves as `client`, the roles that we have started by their
/// names, Kafka, and Postgres with all its backends.
pub(super) struct Watch {
    pids: Vec<(String, u32)>,
    before: Vec<Duration>,
}

/// Processor time by process.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent(BTreeMap<String, Duration>);

impl Watch {
    pub(super) fn begin() -> Self {
        let own = std::process::id();
        let stats = stats();
        let children = stats.iter().filter(|(_, stat)| stat.parent == own);
        let mut pids: Vec<(String, u32)> = children.map(|(pid, _)| (name(*pid), *pid)).collect();
        pids.push(("client".to_owned(), own));
        pids.extend(of_stack("kafka", "kafka/process"));
        pids.extend(of_stack("postgres", "postgres.process"));
        let before = pids
            .iter()
            .map(|(_, pid)| used(&stats, *pid, own))
            .collect();
        Self { pids, before }
    }

    pub(super) fn end(self) -> Spent {
        let (own, stats) = (std::process::id(), stats());
        let mut spent = BTreeMap::<String, Duration>::new();
        for ((name, pid), before) in self.pids.into_iter().zip(self.before) {
            *spent.entry(name).or_default() += used(&stats, pid, own).saturating_sub(before);
        }
        Spent(spent)
    }
}

impl Spent {
    /// Microseconds for each of so many events; processes that slept are left out.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn per_event(&self, events: u64) -> BTreeMap<String, f64> {
        let per_event = |used: &Duration| used.as_secs_f64() * 1e6 / events.max(1) as f64;
        let spent = self.0.iter().filter(|(_, used)| !used.is_zero());
        spent
            .map(|(name, used)| (name.clone(), per_event(used)))
            .collect()
    }
}

/// Of a process and all below it; of ourselves without the roles that we have started.
fn used(stats: &BTreeMap<u32, Stat>, pid: u32, own: u32) -> Duration {
    let Some(stat) = stats.get(&pid) else {
        return Duration::ZERO;
    };
    if pid == own {
        return stat.own;
    }
    let children = stats.iter().filter(|(_, stat)| stat.parent == pid);
    children.fold(stat.own + stat.ended, |sum, (child, _)| {
        sum + used(stats, *child, own)
    })
}

/// What a role was told to be: `runs projector`.
fn name(pid: u32) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split('\0').skip(1);
    let words: Vec<&str> = words.take_while(|word| !word.starts_with('-')).collect();
    words.join(" ").trim().to_owned()
}

/// Of the dev stack, whose folder says which processes it is.
fn of_stack(name: &str, file: &str) -> Option<(String, u32)> {
    let root = std::env::var_os("RUNLEDGER_STACK_ROOT")
        .map_or_else(|| PathBuf::from(".dev"), PathBuf::from);
    let said = fs::read_to_string(root.join("dev").join(file)).ok()?;
    Some((
        name.to_owned(),
        said.split_whitespace().next()?.parse().ok()?,
    ))
}

fn stats() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stat = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((
            pid,
            parse(&fs::read_to_string(entry.path().join("stat")).ok()?)?,
        ))
    };
    entries.filter_map(stat).collect()
}

/// Field 4 is the parent; 14 to 17 are utime, stime, and those of children that were waited for. The name before them
/// may hold anything, `)` included.
fn parse(stat: &str) -> Option<Stat> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u32>().ok();
    Some(Stat {
        parent: number(1)?,
        own: TICK * (number(11)? + number(12)?),
        ended: TICK * (number(13)? + number(14)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_whatever_the_name() {
        let stat = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 10 20 300 4000 20 0 9 0 5 6";
        let expected = Stat {
            parent: 3,
            own: Duration::from_millis(300),
            ended: Duration::from_millis(43_000),
        };
        assert_eq!(parse(stat), Some(expected));
        assert_eq!(parse("7 (a) S 1"), None);
    }

    #[test]
    fn a_process_is_counted_with_all_below_it_and_we_are_not() {
        let ms = Duration::from_millis;
        let of = |parent, own| Stat {
            parent,
            own: ms(own),
            ended: ms(1_000),
        };
        let stats = [
            (1, of(0, 10)),
            (2, of(1, 20)),
            (3, of(2, 40)),
            (9, of(0, 80)),
        ]
        .into();
        assert_eq!(used(&stats, 1, 9), ms(3_070));
        assert_eq!(used(&stats, 1, 1), ms(10));
        assert_eq!(used(&stats, 5, 9), ms(0));
    }
}
