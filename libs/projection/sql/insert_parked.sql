INSERT INTO parked (generation, parked_at, family, partition, log_offset, incarnation, stream_digest, stream_key,
                    tenant_id, mode, stream, record_id, type_name, standing, reason, recorded_at)
SELECT $1, $2, *
  FROM unnest($3::text[], $4::integer[], $5::bigint[], $6::uuid[], $7::bytea[], $8::text[], $9::uuid[], $10::text[],
              $11::text[], $12::uuid[], $13::text[], $14::text[], $15::text[], $16::timestamptz[])
ON CONFLICT ON CONSTRAINT parked_pkey DO NOTHING
