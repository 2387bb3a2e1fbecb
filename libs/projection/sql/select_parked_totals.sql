SELECT family, partition, count(*) AS records, count(DISTINCT stream_digest) AS streams, min(parked_at) AS oldest
  FROM parked
 WHERE generation = $1
 GROUP BY family, partition
