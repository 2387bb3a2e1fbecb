//! Judges what a read shows by what its caller had been told before he asked. Pure.

use std::collections::BTreeSet;

use crate::history::{Kind, RunKey, fails, quantity};

#[cfg(test)]
mod tests;

/// How many parts of each kind a run is to have in the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planned {
    pub(crate) calls: u16,
    pub(crate) messages: u16,
    pub(crate) occurrences: u16,
    pub(crate) uses: u16,
}

/// What the writer of a run had been told of it when a read was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) run: RunKey,
    pub(crate) acknowledged: BTreeSet<(Kind, u16)>,
    pub(crate) planned: Planned,
}

/// A run as a read showed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShownRun {
    pub(crate) started: bool,
    pub(crate) ended: bool,
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) messages: u64,
    pub(crate) uses: u64,
    pub(crate) used: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    Fresh,
    /// It does not hold what had been acknowledged.
    Stale(String),
    /// It holds what is not there, or something twice.
    Wrong(String),
}

impl Known {
    fn parts(&self, kind: Kind) -> impl Iterator<Item = u16> {
        let of_kind = self.acknowledged.range((kind, 0)..=(kind, u16::MAX));
        of_kind.map(|(_, part)| *part)
    }

    /// Judges a run; none: it was not found.
    pub(crate) fn judge_run(&self, shown: Option<ShownRun>) -> Judgement {
        let Some(shown) = shown else {
            return self.judge_absence();
        };
        let has = |kind| self.acknowledged.contains(&(kind, 0));
        let calls: BTreeSet<u16> = self
            .parts(Kind::CallStarted)
            .chain(self.parts(Kind::CallEnded))
            .collect();
        let least = [
            u64::from(has(Kind::Started)),
            u64::from(has(Kind::Ended)),
            calls.len() as u64,
            self.parts(Kind::CallEnded)
                .filter(|part| fails(*part))
                .count() as u64,
            self.parts(Kind::Message).count() as u64,
            self.parts(Kind::Used).count() as u64,
            used(self.parts(Kind::Used)),
        ];
        let all = |parts: u16| 0..parts;
        let most = [
            1,
            1,
            u64::from(self.planned.calls),
            all(self.planned.calls).filter(|part| fails(*part)).count() as u64,
            u64::from(self.planned.messages),
            u64::from(self.planned.uses),
            used(all(self.planned.uses)),
        ];
        let found = [
            u64::from(shown.started),
            u64::from(shown.ended),
            shown.calls,
            shown.failed,
            shown.messages,
            shown.uses,
            u64::try_from(shown.used).unwrap_or_default(),
        ];
        let run = self.run;
        if found.iter().zip(&least).any(|(found, least)| found < least) {
            Judgement::Stale(format!(
                "{run}: {shown:?}, where {least:?} had been acknowledged"
            ))
        } else if found.iter().zip(&most).any(|(found, most)| found > most) {
            Judgement::Wrong(format!(
                "{run}: {shown:?}, where no more than {most:?} was ever sent"
            ))
        } else {
            Judgement::Fresh
        }
    }

    /// Judges a list of tool calls: part, and whether its start and its end were shown.
    pub(crate) fn judge_calls(&self, shown: &[(Option<u16>, bool, bool)]) -> Judgement {
        let parts: Vec<Option<u16>> = shown.iter().map(|(part, _, _)| *part).collect();
        let of = |pick: fn(&(Option<u16>, bool, bool)) -> bool| -> BTreeSet<u16> {
            shown
                .iter()
                .filter(|call| pick(call))
                .filter_map(|(part, _, _)| *part)
                .collect()
        };
        let (started, ended) = (of(|(_, started, _)| *started), of(|(_, _, ended)| *ended));
        self.judge_list(&parts, self.planned.calls)
            .or_else(|| self.judge_missing(Kind::CallStarted, &started))
            .or_else(|| self.judge_missing(Kind::CallEnded, &ended))
            .unwrap_or(Judgement::Fresh)
    }

    /// Judges a list of messages or of occurrences.
    pub(crate) fn judge_parts(&self, kind: Kind, shown: &[Option<u16>]) -> Judgement {
        let planned = match kind {
            Kind::Message => self.planned.messages,
            _ => self.planned.occurrences,
        };
        let parts: BTreeSet<u16> = shown.iter().copied().flatten().collect();
        self.judge_list(shown, planned)
            .or_else(|| self.judge_missing(kind, &parts))
            .unwrap_or(Judgement::Fresh)
    }

    /// Judges that there is nothing.
    fn judge_absence(&self) -> Judgement {
        match self.acknowledged.first() {
            None => Judgement::Fresh,
            Some(first) => Judgement::Stale(format!(
                "{}: not found, where {} records had been acknowledged, {first:?} first",
                self.run,
                self.acknowledged.len()
            )),
        }
    }

    fn judge_missing(&self, kind: Kind, shown: &BTreeSet<u16>) -> Option<Judgement> {
        let missing = self.parts(kind).find(|part| !shown.contains(part))?;
        let run = self.run;
        Some(Judgement::Stale(format!(
            "{run}: a list without {kind:?} {missing}, which had been acknowledged"
        )))
    }

    fn judge_list(&self, shown: &[Option<u16>], planned: u16) -> Option<Judgement> {
        let mut seen = BTreeSet::new();
        let wrong = shown.iter().find(|part| {
            let sent = part.is_some_and(|part| part < planned);
            !sent || !seen.insert(**part)
        })?;
        let run = self.run;
        Some(Judgement::Wrong(format!(
            "{run}: a list with part {wrong:?} twice, or with one that was never sent"
        )))
    }
}

fn used(parts: impl Iterator<Item = u16>) -> u64 {
    parts.map(|part| quantity(part).unsigned_abs()).sum()
}
