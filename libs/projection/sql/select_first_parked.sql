-- The first $2 parked streams of a generation, in the order of the log.
SELECT min(stream_key) AS stream, family, partition, min(log_offset) AS log_offset, count(*) AS records,
       coalesce((array_agg(reason ORDER BY log_offset))[1], '') AS reason
  FROM parked
 WHERE generation = $1
 GROUP BY family, partition, stream_digest
 ORDER BY family, partition, log_offset
 LIMIT $2
