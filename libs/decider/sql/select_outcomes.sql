SELECT ordinal, request_digest, family, partition, incarnation, decided_offset, decided_at, decision_type, decision
  FROM outcomes($1::uuid[], $2::text[], $3::text[], $4::uuid[])
