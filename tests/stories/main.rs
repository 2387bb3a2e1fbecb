//! Stories over the real stack: real Kafka, real Postgres, real processes.
