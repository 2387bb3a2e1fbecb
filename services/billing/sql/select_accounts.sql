-- Accounts by name, behind one.
SELECT stream, state FROM streams
 WHERE tenant_id = $1 AND mode = $2 AND stream > $3 AND stream < 'account0'
 ORDER BY stream
 LIMIT $4
