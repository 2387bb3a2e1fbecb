-- Facts that are answered; gives them back.
DELETE FROM facts AS f
 USING unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) AS k (tenant_id, mode, stream, record_id)
 WHERE f.tenant_id = k.tenant_id AND f.mode = k.mode AND f.stream = k.stream AND f.record_id = k.record_id
RETURNING f.tenant_id, f.mode, f.stream, f.record_id, f.family, f.record
