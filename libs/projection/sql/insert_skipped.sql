INSERT INTO skipped (family, partition, incarnation, log_offset, said_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT ON CONSTRAINT skipped_pkey DO NOTHING
