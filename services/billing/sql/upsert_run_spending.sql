-- Sums have no bound and come as texts.
INSERT INTO run_spending AS s (tenant_id, mode, account_id, run_id, used_from, agent_id, meter, amount, quantity, lines, unpriced)
SELECT r.tenant_id, r.mode, r.account_id, r.run_id, r.used_from, r.agent_id, r.meter, r.amount::numeric, r.quantity::numeric,
       r.lines, r.unpriced
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[],
              $8::text[], $9::text[], $10::bigint[], $11::bigint[])
    AS r (tenant_id, mode, account_id, run_id, used_from, agent_id, meter, amount, quantity, lines, unpriced)
    ON CONFLICT (tenant_id, mode, account_id, run_id, used_from, agent_id, meter) DO UPDATE
   SET amount = s.amount + EXCLUDED.amount, quantity = s.quantity + EXCLUDED.quantity,
       lines = s.lines + EXCLUDED.lines, unpriced = s.unpriced + EXCLUDED.unpriced
