INSERT INTO spending AS s (tenant_id, mode, account_id, used_from, agent_id, meter, model, tool, space, amount, quantity, lines, unpriced)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                     $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
    ON CONFLICT (tenant_id, mode, account_id, used_from, agent_id, meter, model, tool, space) DO UPDATE
   SET amount = s.amount + EXCLUDED.amount, quantity = s.quantity + EXCLUDED.quantity,
       lines = s.lines + EXCLUDED.lines, unpriced = s.unpriced + EXCLUDED.unpriced
