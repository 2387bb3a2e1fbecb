   AND r.space_id = $6
