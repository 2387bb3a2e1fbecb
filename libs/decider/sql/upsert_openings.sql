-- Says of some partitions whether they are being decided; answers which of them were before.
WITH before AS (
    SELECT o.family, o.partition, o.is_open
      FROM unnest($1::text[], $2::integer[]) AS k (family, partition)
      JOIN openings AS o USING (family, partition)
), written AS (
    INSERT INTO openings (family, partition, is_open)
    SELECT k.family, k.partition, $3 FROM unnest($1::text[], $2::integer[]) AS k (family, partition)
        ON CONFLICT (family, partition) DO UPDATE SET is_open = EXCLUDED.is_open
    RETURNING 1
)
SELECT family, partition FROM before WHERE is_open
