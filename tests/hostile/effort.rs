//! What an attempt costs, counted: bytes held at once, and bytes asked for altogether, which is the
//! measure of work that is the same on every machine and under every load.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use allocation_counter::{AllocationInfo, measure};

/// What running `attempt` costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Most bytes held at once.
    pub(crate) held: u64,
    /// Bytes asked for altogether, freed or not.
    pub(crate) asked: u64,
}

impl Effort {
    pub(crate) fn of(attempt: impl FnOnce()) -> Self {
        // The counter minds a panic that passes through it.
        let mut outcome = Ok(());
        let AllocationInfo {
            bytes_max,
            bytes_total,
            ..
        } = measure(|| outcome = catch_unwind(AssertUnwindSafe(attempt)));
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        Self {
            held: bytes_max,
            asked: bytes_total,
        }
    }
}
