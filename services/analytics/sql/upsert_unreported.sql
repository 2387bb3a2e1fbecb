INSERT INTO unreported AS u (tenant_id, mode, run_id, at, series, subject, model, tool, status, verdict, kind, error,
                             count, quantity, duration, durations)
SELECT tenant_id, mode, run_id, at, series, subject, model, tool, status, verdict, kind, error, count,
       quantity::numeric, duration::numeric, durations::bigint[]
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::uuid[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[], $15::text[], $16::text[])
    AS added (tenant_id, mode, run_id, at, series, subject, model, tool, status, verdict, kind, error, count, quantity,
              duration, durations)
    ON CONFLICT ON CONSTRAINT unreported_pkey DO UPDATE
   SET count = u.count + EXCLUDED.count, quantity = u.quantity + EXCLUDED.quantity,
       duration = u.duration + EXCLUDED.duration,
       durations = analytics.add_durations(u.durations, EXCLUDED.durations)
