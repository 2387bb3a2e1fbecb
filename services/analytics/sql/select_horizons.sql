SELECT grain, kept_from FROM analytics.horizons WHERE tenant_id = $1 AND mode = $2
