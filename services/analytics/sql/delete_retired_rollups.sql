DELETE FROM rollups r
 USING (SELECT o.tenant_id, o.mode, o.grain, o.at, o.series
          FROM rollups o
         WHERE o.tenant_id = $1 AND o.mode = $2 AND o.grain = $3 AND o.at < $4
         ORDER BY o.at, o.series
         LIMIT $5) AS old
 WHERE (r.tenant_id, r.mode, r.grain, r.at, r.series) = (old.tenant_id, old.mode, old.grain, old.at, old.series)
