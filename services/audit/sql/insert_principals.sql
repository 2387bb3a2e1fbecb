-- Keeps the names of principals: the first of an id stands, since names are never changed.
INSERT INTO principals (tenant_id, principal_id, name)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[])
    ON CONFLICT DO NOTHING
