-- One more attempt at a command; answers how many there were, this one included.
INSERT INTO attempts AS a (family, partition, log_offset, attempts)
VALUES ($1, $2, $3, 1)
    ON CONFLICT (family, partition, log_offset) DO UPDATE SET attempts = a.attempts + 1
RETURNING attempts
