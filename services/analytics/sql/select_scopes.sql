-- Each scope that has rollups, found by the first row behind the scope before.
WITH RECURSIVE scopes (tenant_id, mode) AS (
    (SELECT tenant_id, mode FROM rollups ORDER BY tenant_id, mode LIMIT 1)
    UNION ALL
    SELECT next.tenant_id, next.mode
      FROM scopes s
     CROSS JOIN LATERAL (SELECT r.tenant_id, r.mode FROM rollups r WHERE (r.tenant_id, r.mode) > (s.tenant_id, s.mode)
                          ORDER BY r.tenant_id, r.mode LIMIT 1) AS next
)
SELECT tenant_id, mode FROM scopes
