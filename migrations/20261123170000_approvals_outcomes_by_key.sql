-- Outcomes are looked up by their keys, always. Each connection plans this function's query once, often
-- while the table is small: Postgres would choose to read all of it then, at every poll, and go on doing
-- so while it grows.
ALTER FUNCTION approvals.outcomes(uuid[], text[], text[], uuid[]) SET enable_seqscan = off;
ALTER FUNCTION approvals.outcomes(uuid[], text[], text[], uuid[]) SET enable_hashjoin = off;
ALTER FUNCTION approvals.outcomes(uuid[], text[], text[], uuid[]) SET enable_mergejoin = off;
