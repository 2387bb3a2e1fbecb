INSERT INTO records (tenant_id, mode, stream, record_id, family, partition, log_offset, type_name, occurred_at,
                     recorded_at, actor_id, actor_kind, actor_role, cause_id, cause_stream, request_digest, run_id, key_id,
                     payload)
SELECT *
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::integer[], $7::bigint[], $8::text[],
              $9::timestamptz[], $10::timestamptz[], $11::uuid[], $12::text[], $13::text[], $14::uuid[],
              $15::text[], $16::bytea[], $17::text[], $18::text[], $19::bytea[])
ON CONFLICT ON CONSTRAINT records_pkey DO NOTHING
RETURNING family, partition, log_offset
