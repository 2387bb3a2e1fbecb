DELETE FROM rollups r
 USING unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::uuid[])
    AS touched (tenant_id, mode, grain, at, series)
 WHERE (r.tenant_id, r.mode, r.grain, r.at, r.series) = (touched.tenant_id, touched.mode, touched.grain, touched.at, touched.series)
   AND r.count = 0
