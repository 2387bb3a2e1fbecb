-- Adds entries. A second of the same place would be a fault of ours: it is refused, not passed over.
INSERT INTO entries (tenant_id, mode, family, partition, log_offset, ordinal, at, recorded_at, actor_type, actor,
                     principal_id, role, entity_type, entity_id, action, run_id, details, stream, record_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::integer[], $7::timestamptz[],
                     $8::timestamptz[], $9::text[], $10::text[], $11::uuid[], $12::text[], $13::text[], $14::text[],
                     $15::text[], $16::text[], $17::text[], $18::text[], $19::uuid[])
