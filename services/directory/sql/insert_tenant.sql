INSERT INTO directory.tenants
       (tenant_id, name, records_per_second, bytes_per_second, commands_per_second, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING tenant_id, name, records_per_second, bytes_per_second, commands_per_second, created_at
