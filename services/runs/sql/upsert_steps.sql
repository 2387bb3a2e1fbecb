INSERT INTO steps AS s (tenant_id, mode, run_id, step_id, log_offset, started_record, started_at, status, ended_record,
                        ended_at, late, error_code, parent_step_id, name)
SELECT *
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::uuid[], $7::timestamptz[], $8::text[],
              $9::uuid[], $10::timestamptz[], $11::boolean[], $12::text[], $13::text[], $14::text[])
ON CONFLICT ON CONSTRAINT steps_pkey DO UPDATE
   SET started_record = EXCLUDED.started_record,
       started_at = EXCLUDED.started_at,
       status = EXCLUDED.status,
       ended_record = EXCLUDED.ended_record,
       ended_at = EXCLUDED.ended_at,
       late = EXCLUDED.late,
       error_code = coalesce(s.error_code, EXCLUDED.error_code),
       parent_step_id = coalesce(s.parent_step_id, EXCLUDED.parent_step_id),
       name = coalesce(s.name, EXCLUDED.name)
