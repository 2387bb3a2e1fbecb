-- Whether anything of the scope at or before some places of the log is still owed a decision: a command,
-- or usage. A stream: of that one alone.
WITH wanted AS (SELECT * FROM unnest($3::text[], $4::integer[], $5::bigint[]) AS w (family, partition, log_offset))
SELECT EXISTS (
    SELECT FROM commands AS c
      JOIN wanted AS w ON c.family = w.family AND c.partition = w.partition AND c.log_offset <= w.log_offset
     WHERE c.tenant_id = $1 AND c.mode = $2 AND c.decided_offset IS NULL AND ($6::text IS NULL OR c.stream = $6)
) OR EXISTS (
    SELECT FROM facts AS f
      JOIN wanted AS w ON f.family = w.family AND f.partition = w.partition AND f.log_offset <= w.log_offset
     WHERE f.tenant_id = $1 AND f.mode = $2 AND ($6::text IS NULL OR f.stream = $6)
)
