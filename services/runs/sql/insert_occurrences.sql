INSERT INTO occurrences (tenant_id, mode, schedule_id, scheduled_at, owner_id, record_id, status, run_id,
                         next_occurrence_at)
SELECT *
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::uuid[], $7::text[], $8::text[],
              $9::timestamptz[])
ON CONFLICT ON CONSTRAINT occurrences_pkey DO NOTHING
