//! The role as its callers meet it: a real server on a port of its own, the log in memory, a
//! directory of given keys. What only Kafka can show is in `kafka`.

mod access;
mod bad_input;
mod health;
mod kafka;
mod outcomes;
mod skip;
mod streams;
mod world;
