-- What a run has cost: of an account, since a run has one.
SELECT coalesce(sum(amount), 0)::bigint, count(*), count(*) FILTER (WHERE pricing = 'unpriced')
  FROM charges
 WHERE tenant_id = $1 AND mode = $2 AND run_id = $3 AND run_id <> ''
