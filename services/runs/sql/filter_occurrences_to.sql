   AND scheduled_at < $6
