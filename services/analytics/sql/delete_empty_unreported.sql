DELETE FROM unreported u
 USING unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::uuid[])
    AS touched (tenant_id, mode, run_id, at, series)
 WHERE (u.tenant_id, u.mode, u.run_id, u.at, u.series) = (touched.tenant_id, touched.mode, touched.run_id, touched.at, touched.series)
   AND u.count = 0
