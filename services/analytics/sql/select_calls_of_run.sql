SELECT coalesce(tool, '') AS tool, coalesce(status, '') AS status, coalesce(error_code, '') AS error_code,
       coalesce(verdict, '') AS verdict, coalesce(approval_status, '') AS approval_status, count(*) AS calls
  FROM tool_calls
 WHERE tenant_id = $1 AND mode = $2 AND run_id = $3
 GROUP BY 1, 2, 3, 4, 5
 ORDER BY 6 DESC, 1, 2, 3, 4, 5
 LIMIT 1000
