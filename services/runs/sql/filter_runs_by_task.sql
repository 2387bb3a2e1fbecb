   AND r.task ILIKE $12
