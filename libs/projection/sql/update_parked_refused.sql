UPDATE parked
   SET attempts = attempts + 1, tried_at = $5, reason = $6
 WHERE generation = $1 AND family = $2 AND partition = $3 AND log_offset = $4
