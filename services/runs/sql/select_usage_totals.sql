SELECT asked.number, u.meter, u.quantity, u.records
  FROM unnest($3::text[]) WITH ORDINALITY AS asked (run_id, number)
 CROSS JOIN LATERAL (SELECT meter, quantity, records
                       FROM usage_totals
                      WHERE tenant_id = $1 AND mode = $2 AND run_id = asked.run_id
                      ORDER BY meter
                      LIMIT $4) AS u
 ORDER BY asked.number, u.meter
