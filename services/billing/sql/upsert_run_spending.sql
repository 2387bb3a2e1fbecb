INSERT INTO run_spending AS s (tenant_id, mode, account_id, run_id, used_from, agent_id, meter, amount, quantity, lines, unpriced)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[],
                     $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
    ON CONFLICT (tenant_id, mode, account_id, run_id, used_from, agent_id, meter) DO UPDATE
   SET amount = s.amount + EXCLUDED.amount, quantity = s.quantity + EXCLUDED.quantity,
       lines = s.lines + EXCLUDED.lines, unpriced = s.unpriced + EXCLUDED.unpriced
