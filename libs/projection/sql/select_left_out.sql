-- What of a range of one partition is not in the tables, and whether it is parked.
SELECT log_offset, true AS is_parked
  FROM parked
 WHERE generation = $1 AND family = $2 AND partition = $3 AND log_offset >= $4 AND log_offset < $5
UNION ALL
SELECT log_offset, false
  FROM skipped
 WHERE family = $2 AND partition = $3 AND log_offset >= $4 AND log_offset < $5 AND incarnation = $6
