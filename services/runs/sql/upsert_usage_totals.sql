INSERT INTO usage_totals AS u (tenant_id, mode, run_id, meter, quantity, records)
SELECT *
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
ON CONFLICT ON CONSTRAINT usage_totals_pkey DO UPDATE
   SET quantity = CASE WHEN u.quantity > 9223372036854775807 - EXCLUDED.quantity THEN 9223372036854775807
                       ELSE u.quantity + EXCLUDED.quantity END,
       records = u.records + EXCLUDED.records
