   AND scheduled_at >= $5
