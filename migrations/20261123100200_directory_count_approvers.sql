-- How many principals of a tenant could approve: who has one of these roles, or is named, agents and
-- disabled ones aside. A count and nothing else leaves the directory.
--
-- Runs with the rights of its owner; hence the fixed search_path and the body that is bound to its
-- tables when it is made.
CREATE FUNCTION directory.count_approvers(tenant uuid, roles text[], principals uuid[])
RETURNS bigint
LANGUAGE sql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT count(*)
      FROM directory.principals AS p
     WHERE p.tenant_id = count_approvers.tenant
       AND p.disabled_at IS NULL
       AND p.kind <> 'agent'
       AND p.role <> 'agent'
       AND (p.role = ANY (count_approvers.roles) OR p.principal_id = ANY (count_approvers.principals));
END;
REVOKE ALL ON FUNCTION directory.count_approvers(uuid, text[], uuid[]) FROM PUBLIC;
GRANT USAGE ON SCHEMA directory TO runledger_approvals_reader;
GRANT EXECUTE ON FUNCTION directory.count_approvers(uuid, text[], uuid[]) TO runledger_approvals_reader;
