-- Legs come as texts of arrays.
INSERT INTO entries (tenant_id, mode, account_id, log_offset, ordinal, kind, at, amount, available, held, overdrawn, unpaid,
                     ledgers, ledger_ids, amounts, line, command_id, by_id, by_kind, by_role, reason)
SELECT r.tenant_id, r.mode, r.account_id, r.log_offset, r.ordinal, r.kind, r.at, r.amount, r.available, r.held, r.overdrawn, r.unpaid,
       r.ledgers::text[], r.ledger_ids::uuid[], r.amounts::bigint[], r.line, r.command_id, r.by_id, r.by_kind, r.by_role, r.reason
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::integer[], $6::text[], $7::timestamptz[], $8::bigint[],
              $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::text[], $16::integer[],
              $17::uuid[], $18::uuid[], $19::text[], $20::text[], $21::text[])
    AS r (tenant_id, mode, account_id, log_offset, ordinal, kind, at, amount, available, held, overdrawn, unpaid,
          ledgers, ledger_ids, amounts, line, command_id, by_id, by_kind, by_role, reason)
