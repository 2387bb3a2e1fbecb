WITH active AS MATERIALIZED (
    SELECT generation, set_config('search_path', search_path, true) FROM active_generation
)
SELECT family, partition, incarnation, next_offset, last_digest, chain_head, voids_in_a_row,
       record_count, rolling_hash, last_recorded_at, parked_records
  FROM active
  JOIN cursors USING (generation)
