//! What happened, as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::script::Fault;

/// How often each fault befell the house, and how long it took to recover.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<Fault, Row>);

#[derive(Debug, Default)]
struct Row {
    times: usize,
    recoveries: Vec<Duration>,
}

impl Table {
    /// Notes a fault; none: it was followed by the next before anybody looked.
    pub(crate) fn note(&mut self, fault: Fault, recovery: Option<Duration>) {
        let row = self.0.entry(fault).or_default();
        row.times += 1;
        row.recoveries.extend(recovery);
    }

    pub(crate) fn faults(&self) -> usize {
        self.0.values().map(|row| row.times).sum()
    }

    pub(crate) fn print(&self) -> String {
        let mut text = String::from(
            "fault                                      times   until a fresh write was visible: median, longest\n",
        );
        for (fault, row) in &self.0 {
            let mut sorted = row.recoveries.clone();
            sorted.sort_unstable();
            let seconds = |time: Option<&Duration>| match time {
                Some(time) => format!("{:.1} s", time.as_secs_f64()),
                None => "-".to_owned(),
            };
            let (median, longest) = (
                seconds(sorted.get(sorted.len() / 2)),
                seconds(sorted.last()),
            );
            let times = row.times;
            writeln!(text, "{fault:<42} {times:>5}   {median:>9} {longest:>9}").ok();
        }
        writeln!(text, "{:<42} {:>5}", "in all", self.faults()).ok();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_counts_all_and_shows_the_longest() {
        let mut table = Table::default();
        for seconds in [3, 1, 2] {
            table.note(Fault::KafkaKilled, Some(Duration::from_secs(seconds)));
        }
        table.note(Fault::KafkaTorn, None);
        let text = table.print();
        let line = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..]
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(line("Kafka killed"), "3 2.0 s 3.0 s");
        assert_eq!(line("connections to Kafka reset"), "1 - -");
        assert_eq!(line("in all"), "4");
    }
}
