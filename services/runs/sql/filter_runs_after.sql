   AND (r.sorted_at, r.run_id) < ($13::timestamptz, $14::text)
