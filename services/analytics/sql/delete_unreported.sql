DELETE FROM unreported u
 USING unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (tenant_id, mode, run_id, number)
 WHERE (u.tenant_id, u.mode, u.run_id) = (wanted.tenant_id, wanted.mode, wanted.run_id)
RETURNING wanted.number, u.at, u.subject, u.model, u.tool, u.status, u.verdict, u.kind, u.error, u.count,
          u.quantity::text AS quantity, u.duration::text AS duration,
          ARRAY(SELECT u.durations[i][1] FROM generate_subscripts(u.durations, 1) i ORDER BY i) AS bins,
          ARRAY(SELECT u.durations[i][2] FROM generate_subscripts(u.durations, 1) i ORDER BY i) AS counts
