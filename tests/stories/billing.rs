//! Credits: what usage costs, who pays, and why a balance is what it is.

mod counter;
mod explained;
mod reserves;
mod tokens;
