//! The wire, checked from outside: faults, round trips, arbitrary bytes, and bytes of the past.

mod any;
mod approval;
mod billing;
mod directory;
mod faults;
mod golden;
mod policies;
mod round_trip;
mod samples;
