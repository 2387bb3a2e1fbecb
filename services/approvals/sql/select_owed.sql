-- Whether anything of the scope at or before some places of the log is still owed a decision: a
-- command, or what follows from a fact at once. A stream: of that one alone. Callers who wait ask it again
-- and again: it goes by an index of what is undecided, whatever the tables look like.
SELECT EXISTS (
    SELECT FROM unnest($3::text[], $4::integer[], $5::bigint[]) AS w (family, partition, log_offset)
     CROSS JOIN LATERAL (
           SELECT FROM commands AS c
            WHERE c.tenant_id = $1 AND c.mode = $2 AND c.family = w.family AND c.partition = w.partition
              AND c.log_offset <= w.log_offset AND c.decided_offset IS NULL AND ($6::text IS NULL OR c.stream = $6)
            ORDER BY c.log_offset
            LIMIT 1) AS owed
) OR EXISTS (
    SELECT FROM parts AS p
     WHERE p.tenant_id = $1 AND p.mode = $2 AND p.due_at = 'epoch' AND ($6::text IS NULL OR p.stream = $6)
)
