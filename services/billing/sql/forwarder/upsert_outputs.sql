-- A partition that was made anew counts from its beginning.
INSERT INTO outputs AS o (partition, output_partition, incarnation, log_offset)
SELECT * FROM unnest($1::integer[], $2::integer[], $3::uuid[], $4::bigint[])
    ON CONFLICT (partition, output_partition) DO UPDATE
   SET incarnation = EXCLUDED.incarnation,
       log_offset = CASE WHEN o.incarnation = EXCLUDED.incarnation THEN greatest(o.log_offset, EXCLUDED.log_offset) ELSE EXCLUDED.log_offset END
