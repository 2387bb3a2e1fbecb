SELECT log_offset, incarnation, standing
  FROM parked
 WHERE generation = $1 AND family = $2 AND partition = $3 AND stream_digest = $4
 ORDER BY log_offset
 LIMIT $5
