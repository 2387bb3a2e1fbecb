//! Fifty policies on one call, beside cedar-policy, in a program of its own.

use super::Figures;
use super::row::{Is, OURS, Row};
use crate::say;

pub(super) async fn measure(figures: &Figures) -> anyhow::Result<()> {
    say::aside("Fifty policies on one call, and cedar-policy …");
    let sides = figures.peers.measure(&["policies"]).await?;
    let (ours, theirs) = sides.into_iter().partition(|side| side.who == OURS);
    let row = Row::new("policy", "fifty policies on one call", "calls")
        .side(Is::Ours, ours)
        .side(Is::Peer, theirs)
        // At most one and a half times its time.
        .rate_at_least(Is::Peer, 1.0 / 1.5);
    figures.push(row)
}
