-- As approvals.outcomes.
ALTER FUNCTION billing.outcomes(uuid[], text[], text[], uuid[]) SET enable_seqscan = off;
ALTER FUNCTION billing.outcomes(uuid[], text[], text[], uuid[]) SET enable_hashjoin = off;
ALTER FUNCTION billing.outcomes(uuid[], text[], text[], uuid[]) SET enable_mergejoin = off;
