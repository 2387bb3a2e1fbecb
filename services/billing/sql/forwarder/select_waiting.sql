-- Usage that waits, behind a place; how much there is in all. A run's end and a call's are usage too.
WITH all_waiting AS (
    SELECT w.run_id, w.source_id, 0 AS ordinal, w.meter, w.quantity, w.used_at, 'RUN_START' AS waits_for
      FROM waiting AS w WHERE w.tenant_id = $1 AND w.mode = $2
     UNION ALL
    SELECT r.run_id, r.end_id, 1, 'run_seconds', 0, r.ended_at, 'RUN_START'
      FROM runs AS r WHERE r.tenant_id = $1 AND r.mode = $2 AND r.account_id IS NULL AND r.end_id IS NOT NULL
     UNION ALL
    SELECT c.run_id, c.end_id, 2, 'tool_calls', 1, c.ended_at, CASE WHEN c.tool IS NULL THEN 'TOOL_CALL_START' ELSE 'RUN_START' END
      FROM calls AS c WHERE c.tenant_id = $1 AND c.mode = $2 AND c.end_id IS NOT NULL AND NOT c.forwarded
)
SELECT run_id, source_id, ordinal, meter, quantity::bigint AS quantity, used_at, waits_for, (SELECT count(*) FROM all_waiting) AS total
  FROM all_waiting
 WHERE (run_id, source_id, ordinal) > ($3, $4, $5)
 ORDER BY run_id, source_id, ordinal
 LIMIT $6
