DELETE FROM parked
 WHERE generation = $1 AND family = $2 AND partition = $3 AND stream_digest = $4 AND log_offset = ANY ($5::bigint[])
