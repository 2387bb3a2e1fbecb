//! Processor time as the kernel counts it.

use std::time::Duration;

use anyhow::Context as _;

/// Linux tells it in hundredths of a second on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// What a process and those of its children that have ended have used so far.
pub(crate) fn used(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    ticks(&stat)
        .map(|ticks| TICK * ticks)
        .with_context(|| format!("{path} reads otherwise than expected"))
}

/// Fields 14 to 17: utime, stime, cutime, cstime. The name before them may hold anything, `)` included.
fn ticks(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let fields: Vec<u32> = after_name
        .split_ascii_whitespace()
        .skip(11)
        .take(4)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    (fields.len() == 4).then(|| fields.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_the_four_fields_whatever_the_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 300 4000 20 0 9 0 5 6";
        assert_eq!(ticks(stat), Some(4_330));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_some() {
        assert!(used(std::process::id()).is_ok());
    }
}
