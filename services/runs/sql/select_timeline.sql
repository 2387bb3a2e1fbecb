-- The next records of a run behind a place in each partition, merged: always the earliest of those
-- that come first in their partitions. A record's rank is therefore the greatest time of appending
-- up to it in its partition, so that a clock that went back cannot turn the order of a stream. What
-- comes behind a set of places depends on nothing before them: pages join without gap or repeat.
WITH ahead AS (
    SELECT r.*, max(r.recorded_at) OVER (PARTITION BY r.family, r.partition ORDER BY r.log_offset) AS ranked_at
      FROM unnest($4::text[], $5::integer[], $6::bigint[]) AS place (family, partition, next_offset)
     CROSS JOIN LATERAL (SELECT *
                           FROM records
                          WHERE tenant_id = $1 AND mode = $2 AND run_id = $3 AND family = place.family
                            AND partition = place.partition AND log_offset >= place.next_offset
                          ORDER BY log_offset
                          LIMIT $7) AS r
), page AS (
    SELECT *, count(*) OVER () AS available,
           sum(octet_length(payload)) OVER (ORDER BY ranked_at, family, partition, log_offset) - octet_length(payload)
               AS bytes_before
      FROM ahead
     ORDER BY ranked_at, family, partition, log_offset
     LIMIT $7
)
SELECT family, partition, log_offset, stream, record_id, type_name, occurred_at, recorded_at, actor_id, actor_kind, actor_role,
       cause_id, cause_stream, late, conflicts, key_id, payload, available
  FROM page
 WHERE bytes_before < $8
 ORDER BY ranked_at, family, partition, log_offset
