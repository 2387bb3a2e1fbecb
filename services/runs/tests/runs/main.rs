//! The read model of runs against a real Postgres, its log in memory.

mod api;
mod facts;
mod read_model;
mod tail;
mod world;
