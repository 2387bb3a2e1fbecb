-- Whether anything of the scope at or before some places of the log is still owed a decision: a
-- command, or what follows from a fact at once. A stream: of that one alone.
SELECT EXISTS (
    SELECT FROM commands AS c
      JOIN unnest($3::text[], $4::integer[], $5::bigint[]) AS w (family, partition, log_offset)
        ON c.family = w.family AND c.partition = w.partition AND c.log_offset <= w.log_offset
     WHERE c.tenant_id = $1 AND c.mode = $2 AND c.decided_offset IS NULL AND ($6::text IS NULL OR c.stream = $6)
) OR EXISTS (
    SELECT FROM parts AS p
     WHERE p.tenant_id = $1 AND p.mode = $2 AND p.due_at = 'epoch' AND ($6::text IS NULL OR p.stream = $6)
)
