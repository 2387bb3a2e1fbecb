-- Usage that waited for the start of one run, behind an id, so much of it at the most; gives it back.
DELETE FROM waiting AS w
 USING (
       SELECT source_id FROM waiting
        WHERE tenant_id = $1 AND mode = $2 AND run_id = $3 AND source_id > $4
        ORDER BY source_id
        LIMIT $5) AS f
 WHERE w.tenant_id = $1 AND w.mode = $2 AND w.run_id = $3 AND w.source_id = f.source_id
RETURNING w.tenant_id, w.mode, w.run_id, w.source_id, w.log_offset, w.meter, w.quantity, w.dimensions, w.tool_call_id, w.used_at
