INSERT INTO charges (tenant_id, mode, account_id, log_offset, line, usage_id, source_id, source_stream, run_id, agent_id, meter,
                     quantity, dimensions, used_at, charged_at, pricing, price_version, rule_id, free, billable, amount, late, over_limits)
SELECT r.tenant_id, r.mode, r.account_id, r.log_offset, r.line, r.usage_id, r.source_id, r.source_stream, r.run_id, r.agent_id, r.meter,
       r.quantity, r.dimensions, r.used_at, r.charged_at, r.pricing, r.price_version, r.rule_id, r.free, r.billable, r.amount, r.late,
       r.over_limits::text[]
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::integer[], $6::uuid[], $7::uuid[], $8::text[], $9::text[],
              $10::text[], $11::text[], $12::bigint[], $13::text[], $14::timestamptz[], $15::timestamptz[], $16::text[], $17::bigint[],
              $18::text[], $19::bigint[], $20::bigint[], $21::bigint[], $22::boolean[], $23::text[])
    AS r (tenant_id, mode, account_id, log_offset, line, usage_id, source_id, source_stream, run_id, agent_id, meter,
          quantity, dimensions, used_at, charged_at, pricing, price_version, rule_id, free, billable, amount, late, over_limits)
