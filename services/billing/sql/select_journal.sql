-- Decisions about an account behind one place of the log, up to a moment and another place. The first
-- state that was kept behind the moment says where to end: times go with places.
SELECT at, payload FROM journal
 WHERE tenant_id = $1 AND mode = $2 AND account_id = $3 AND log_offset > $4 AND at <= $5 AND log_offset <= $6
   AND log_offset <= coalesce(
       (SELECT s.log_offset FROM snapshots AS s
         WHERE s.tenant_id = $1 AND s.mode = $2 AND s.account_id = $3 AND s.at > $5
         ORDER BY s.at, s.log_offset LIMIT 1), 9223372036854775807)
 ORDER BY log_offset
