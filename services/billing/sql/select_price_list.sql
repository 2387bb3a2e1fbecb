SELECT payload FROM price_lists WHERE tenant_id = $1 AND mode = $2 AND version = $3
