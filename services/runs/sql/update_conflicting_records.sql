-- A copy that was counted before is not counted again.
WITH seen AS (
    SELECT tenant_id, mode, stream, record_id, array_agg(copy.log_offset) AS offsets,
           max(copy.log_offset) AS last_offset
      FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bigint[])
           AS copy (tenant_id, mode, stream, record_id, log_offset)
      JOIN records r USING (tenant_id, mode, stream, record_id)
     WHERE r.conflicts_to IS NULL OR copy.log_offset > r.conflicts_to
     GROUP BY tenant_id, mode, stream, record_id
)
UPDATE records r
   SET conflicts = r.conflicts + cardinality(seen.offsets), conflicts_to = seen.last_offset
  FROM seen
 WHERE r.tenant_id = seen.tenant_id AND r.mode = seen.mode AND r.stream = seen.stream AND r.record_id = seen.record_id
RETURNING r.tenant_id, r.mode, r.stream, seen.offsets
