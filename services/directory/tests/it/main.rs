//! The directory on a real Postgres, a fresh database a test.

mod audit;
mod keys;
mod kill_switches;
mod principals;
mod rights;
mod served;
mod tenants;
mod wall;
mod world;
