-- Usage that waits, behind a place; how much there is in all, of each kind up to ten thousand. A run's end and
-- a call's are usage too.
SELECT run_id, source_id, ordinal, meter, quantity::bigint AS quantity, used_at, waits_for, (
           SELECT count(*)
             FROM ((SELECT FROM waiting WHERE tenant_id = $1 AND mode = $2 LIMIT 10000)
                   UNION ALL
                   (SELECT FROM runs WHERE tenant_id = $1 AND mode = $2 AND account_id IS NULL AND end_id IS NOT NULL LIMIT 10000)
                   UNION ALL
                   (SELECT FROM calls WHERE tenant_id = $1 AND mode = $2 AND end_id IS NOT NULL AND NOT forwarded LIMIT 10000)) AS counted
       ) AS total
  FROM ((SELECT run_id, source_id, 0 AS ordinal, meter, quantity, used_at, 'RUN_START' AS waits_for
           FROM waiting
          WHERE tenant_id = $1 AND mode = $2 AND run_id >= $3 AND (run_id, source_id, 0) > ($3, $4, $5)
          ORDER BY run_id, source_id
          LIMIT $6)
        UNION ALL
        (SELECT run_id, end_id, 1, 'run_seconds', 0, ended_at, 'RUN_START'
           FROM runs
          WHERE tenant_id = $1 AND mode = $2 AND account_id IS NULL AND end_id IS NOT NULL
            AND run_id >= $3 AND (run_id, end_id, 1) > ($3, $4, $5)
          ORDER BY run_id
          LIMIT $6)
        UNION ALL
        (SELECT run_id, end_id, 2, 'tool_calls', 1, ended_at, CASE WHEN tool IS NULL THEN 'TOOL_CALL_START' ELSE 'RUN_START' END
           FROM calls
          WHERE tenant_id = $1 AND mode = $2 AND end_id IS NOT NULL AND NOT forwarded
            AND run_id >= $3 AND (run_id, end_id, 2) > ($3, $4, $5)
          ORDER BY run_id, end_id
          LIMIT $6)) AS all_waiting
 ORDER BY run_id, source_id, ordinal
 LIMIT $6
