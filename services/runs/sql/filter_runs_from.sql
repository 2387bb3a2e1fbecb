   AND r.sorted_at >= $10
