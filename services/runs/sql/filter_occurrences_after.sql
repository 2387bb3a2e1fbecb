   AND (scheduled_at, owner_id, record_id) < ($7::timestamptz, $8::text, $9::uuid)
