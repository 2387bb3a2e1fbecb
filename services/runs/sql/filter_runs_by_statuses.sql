   AND r.status = ANY ($4::text[])
