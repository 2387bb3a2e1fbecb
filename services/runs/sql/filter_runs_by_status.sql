   AND r.status = ($4::text[])[1]
