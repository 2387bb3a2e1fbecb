-- What is known of an account, and where it lies.
SELECT partition, state FROM streams WHERE tenant_id = $1 AND mode = $2 AND stream = $3
