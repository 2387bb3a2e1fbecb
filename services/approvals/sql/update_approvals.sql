UPDATE approvals AS a
   SET status = coalesce(u.status, a.status),
       approved = coalesce(u.approved, a.approved),
       decided_at = coalesce(u.decided_at, a.decided_at),
       use_by = coalesce(u.use_by, a.use_by),
       used_at = coalesce(u.used_at, a.used_at),
       arguments_digest = coalesce(u.arguments_digest, a.arguments_digest),
       edited_arguments = coalesce(u.edited_arguments, a.edited_arguments)
  FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::integer[], $6::timestamptz[], $7::timestamptz[],
              $8::timestamptz[], $9::bytea[], $10::text[])
       AS u (tenant_id, mode, approval_id, status, approved, decided_at, use_by, used_at, arguments_digest, edited_arguments)
 WHERE a.tenant_id = u.tenant_id AND a.mode = u.mode AND a.approval_id = u.approval_id
