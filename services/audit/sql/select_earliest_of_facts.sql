-- Where the first entry lies that each of some facts of the directory has, by place in the list.
SELECT f.place, min(e.log_offset)
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) WITH ORDINALITY AS f (tenant_id, mode, stream, record_id, place)
  JOIN entries e ON e.tenant_id = f.tenant_id AND e.mode = f.mode AND e.family = 'directory'
                AND e.stream = f.stream AND e.record_id = f.record_id
 GROUP BY f.place
