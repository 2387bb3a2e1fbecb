   AND r.sorted_at < $11
