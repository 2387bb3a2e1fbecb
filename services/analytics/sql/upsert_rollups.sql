INSERT INTO rollups AS r (tenant_id, mode, grain, at, series, subject, agent_id, agent_version, model, space_id, tool,
                          status, verdict, kind, error, count, quantity, duration, durations)
SELECT tenant_id, mode, grain, at, series, subject, agent_id, agent_version, model, space_id, tool, status, verdict,
       kind, error, count, quantity::numeric, duration::numeric, durations::bigint[]
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::uuid[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::bigint[],
              $17::text[], $18::text[], $19::text[])
    AS added (tenant_id, mode, grain, at, series, subject, agent_id, agent_version, model, space_id, tool, status,
              verdict, kind, error, count, quantity, duration, durations)
 WHERE NOT EXISTS (SELECT FROM analytics.horizons h
                    WHERE (h.tenant_id, h.mode, h.grain) = (added.tenant_id, added.mode, added.grain)
                      AND added.at < h.kept_from)
    ON CONFLICT ON CONSTRAINT rollups_pkey DO UPDATE
   SET count = r.count + EXCLUDED.count, quantity = r.quantity + EXCLUDED.quantity,
       duration = r.duration + EXCLUDED.duration,
       durations = analytics.add_durations(r.durations, EXCLUDED.durations)
